"""thunder, and this project's functions as opaque operators of it, in an executor of their own.

Whoever needs thunder imports it from here, where it finds its fuser under either of its names.
"""

import sys
import warnings
from importlib.util import find_spec

from inference_benchmark.kernels.add_norm import add_norm
from inference_benchmark.kernels.add_norm_scores import add_norm_scores
from inference_benchmark.kernels.few_rows_linear import few_rows_linear, few_rows_swiglu
from inference_benchmark.kernels.flash_decode import flash_decode
from inference_benchmark.kernels.gemv import gemv, gemv_swiglu
from inference_benchmark.kernels.greedy_token import greedy_token
from inference_benchmark.kernels.group_limited_route import group_limited_route
from inference_benchmark.kernels.latent_decode import latent_decode
from inference_benchmark.kernels.one_expert_mixture import one_expert_mixture
from inference_benchmark.kernels.quantized_experts import quantized_experts
from inference_benchmark.kernels.rope_cache import rope_and_cache
from inference_benchmark.kernels.rope_decode import rope_decode
from inference_benchmark.kernels.routed_experts import routed_experts
from inference_benchmark.model.attention.causal import cached_causal_attention, causal_attention
from inference_benchmark.model.cache import write_cache
from inference_benchmark.model.linear import linear_functions, swiglu_functions
from inference_benchmark.parallel.collectives import (
    all_gather,
    all_reduce,
    push_all_reduce,
    push_all_reduce_norm,
)


def _import_thunder():
    """thunder asks for `nvfuser`; newer wheels install the same functions as `nvfuser_direct`."""
    if find_spec("nvfuser") is None and find_spec("nvfuser_direct") is not None:
        import nvfuser_direct

        sys.modules["nvfuser"] = nvfuser_direct
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of each optional package that is missing
        import thunder
    return thunder


thunder = _import_thunder()


def _register_operators():
    """DONT_DCE keeps an update whose result nobody reads."""
    from thunder.core import dtypes
    from thunder.core.prims import OpTags
    from thunder.core.proxies import TensorProxy
    from thunder.extend import OperatorExecutor

    executor = OperatorExecutor("inference_benchmark", version="1")
    keep = (OpTags.DONT_DCE,)

    def like_first(first, *rest, **options):
        return TensorProxy(like=first)

    def like_queries(q, k, v, *rest, **options):
        return TensorProxy(like=q, shape=(*q.shape[:-1], v.shape[-1]))

    def like_linear(x, weight, *rest):
        return TensorProxy(like=x, shape=(*x.shape[:-1], weight.shape[0]))

    def like_both(update, *rest):
        return TensorProxy(like=update), TensorProxy(like=update)

    def norm_sum_and_scores(update, residual, norm_weight, router, *rest):
        scores = TensorProxy(like=update, shape=(*update.shape[:-1], router.shape[0]))
        return *like_both(update), scores

    def update_and_choice(hidden, *rest):
        return TensorProxy(like=hidden), TensorProxy(like=hidden, shape=(1, 1), dtype=dtypes.int64)

    def like_swiglu(x, weight, *rest):
        return TensorProxy(like=x, shape=(*x.shape[:-1], weight.shape[0] // 2))

    def like_context(qkv, cos, sin, k_cache, *rest):
        batch, rows, head_dim = qkv.shape
        return TensorProxy(like=qkv, shape=(batch, rows - 2 * k_cache.shape[1], head_dim))

    def like_token(logits):
        return TensorProxy(like=logits, shape=(logits.shape[0], 1), dtype=dtypes.int64)

    def like_gathered(x, size):
        return TensorProxy(like=x, shape=(*x.shape[:-1], x.shape[-1] * size))

    def choice_and_shares(logits, bias, num_groups, groups_per_token, experts_per_token, *rest):
        shape = (logits.shape[0], experts_per_token)
        chosen = TensorProxy(like=logits, shape=shape, dtype=dtypes.int64)
        return chosen, TensorProxy(like=logits, shape=shape)

    for function, meta, tags in (
        (write_cache, like_first, keep),
        (causal_attention, like_queries, None),
        (cached_causal_attention, like_first, None),
        (rope_and_cache, like_first, keep),
        (flash_decode, like_first, None),
        (rope_decode, like_context, keep),
        (latent_decode, like_first, None),
        (add_norm, like_both, None),
        (add_norm_scores, norm_sum_and_scores, None),
        (gemv, like_linear, None),
        (gemv_swiglu, like_swiglu, None),
        (few_rows_linear, like_linear, None),
        (few_rows_swiglu, like_swiglu, None),
        (greedy_token, like_token, None),
        (group_limited_route, choice_and_shares, None),
        (routed_experts, like_first, None),
        (one_expert_mixture, update_and_choice, None),
        (quantized_experts, like_first, None),
        (all_reduce, like_first, keep),  # the ranks must make the same calls
        (push_all_reduce, like_first, keep),
        (push_all_reduce_norm, like_both, keep),
        (all_gather, like_gathered, keep),
        *((function, like_linear, None) for function in linear_functions()),
        *((function, like_swiglu, None) for function in swiglu_functions()),
    ):
        executor.register_operator(
            function.__name__, meta=meta, fn=function, tags=tags, replaces=function
        )
    return executor


OPERATORS = _register_operators()
