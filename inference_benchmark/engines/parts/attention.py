"""Attention over queries, keys and values as they lie in a layer, by everything that can compute it.

A prompt's queries attend causally; a single token's, the newest one's, to the whole cache, so that
nothing is masked. Query heads that share a KV head share it here as well, unless an implementation
can't.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from inference_benchmark.engines.base import EnginePlan, Resources
from inference_benchmark.engines.parts.problems import AttentionProblem
from inference_benchmark.engines.parts.step import Step, inner_engine
from inference_benchmark.errors import CannotRun
from inference_benchmark.kernels.flash_decode import flash_decode
from inference_benchmark.kernels.latent_decode import latent_decode
from inference_benchmark.model.attention.causal import causal_attention


def reference(problem: AttentionProblem, plan: EnginePlan, resources: Resources) -> Step:
    return _step(problem, problem.plain)


def _step(problem: AttentionProblem, function, engine=None) -> Step:
    q, k, v = problem.operands()
    return Step(lambda: function(q, k, v), engine)


def _sdpa(backend: SDPBackend):
    def make(problem: AttentionProblem, plan: EnginePlan, resources: Resources) -> Step:
        options = {
            "is_causal": problem.is_causal,
            "enable_gqa": problem.shares_heads,
            "scale": problem.shape.scale,
        }

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            with sdpa_kernel(backend):
                return F.scaled_dot_product_attention(q, k, v, **options)

        _try(problem, attend, backend.name)
        return _step(problem, attend)

    return make


def _try(problem: AttentionProblem, attend, name: str) -> None:
    """PyTorch says only in the call that a kernel can't be used, and why in warnings."""
    try:
        with torch.no_grad():
            attend(*problem.operands())
    except RuntimeError as error:
        if "No available kernel" not in str(error):
            raise
        shared = ", whose query heads share KV heads" if problem.shares_heads else ""
        raise CannotRun(f"PyTorch's {name.lower()} can't compute this attention{shared}") from None


math = _sdpa(SDPBackend.MATH)
flash = _sdpa(SDPBackend.FLASH_ATTENTION)
efficient = _sdpa(SDPBackend.EFFICIENT_ATTENTION)
cudnn = _sdpa(SDPBackend.CUDNN_ATTENTION)


def flex(problem: AttentionProblem, plan: EnginePlan, resources: Resources) -> Step:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    mask = None
    if problem.is_causal:
        tokens = problem.part.tokens
        mask = create_block_mask(
            lambda batch, head, query, key: query >= key, None, None, tokens, tokens, problem.device
        )

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        shared, scale = problem.shares_heads, problem.shape.scale
        return flex_attention(q, k, v, block_mask=mask, enable_gqa=shared, scale=scale)

    engine = inner_engine("inductor", plan, resources)
    return _step(problem, engine.compile_function(attend), engine)


def flash_attn(problem: AttentionProblem, plan: EnginePlan, resources: Resources) -> Step:
    """It wants [batch, tokens, heads, head_dim], in any strides but the last."""
    from flash_attn import flash_attn_func

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        swapped = (tensor.transpose(1, 2) for tensor in (q, k, v))
        options = {"causal": problem.is_causal, "softmax_scale": problem.shape.scale}
        return flash_attn_func(*swapped, **options).transpose(1, 2)

    return _step(problem, attend)


def flashinfer(problem: AttentionProblem, plan: EnginePlan, resources: Resources) -> Step:
    """Its functions of one sequence, which plan nothing beforehand."""
    import flashinfer as package

    if problem.batch > 1:
        raise CannotRun("flashinfer is timed at batch 1")
    if problem.shape.scale is not None:
        raise CannotRun("flashinfer is timed for grouped-query attention")

    def prompt(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        swapped = (tensor[0].transpose(0, 1).contiguous() for tensor in (q, k, v))
        attended = package.single_prefill_with_kv_cache(*swapped, causal=True)
        return attended.transpose(0, 1)[None]

    def decode(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        attended = package.single_decode_with_kv_cache(q[0, :, 0], k[0], v[0], kv_layout="HND")
        return attended[None, :, None]

    return _step(problem, prompt if problem.is_causal else decode)


def ours(problem: AttentionProblem, plan: EnginePlan, resources: Resources) -> Step:
    """What the decoder calls: of a prompt what model/attention/causal.py chooses, of a single token
    our kernel."""
    shape = problem.shape
    if problem.is_causal:
        return _step(problem, lambda q, k, v: causal_attention(q, k, v, shape.scale))
    if not problem.layer.attention.supports_flash_decode:
        raise CannotRun(f"our kernel has no heads of {shape.key_dim} values")
    last = torch.tensor([problem.part.length - 1], device=problem.device)

    def decode(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return flash_decode(q[:, :, 0], k, v, last)[:, :, None]

    def decode_latent(q: Tensor, cache: Tensor, v: Tensor) -> Tensor:
        latent, rope = q[:, :, 0].split((shape.value_dim, shape.key_dim - shape.value_dim), dim=-1)
        return latent_decode(latent, rope, cache, last, shape.scale)[:, :, None]

    return _step(problem, decode_latent if shape.keys_hold_values else decode)
