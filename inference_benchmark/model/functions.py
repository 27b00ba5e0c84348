"""The pure functions that a forward is made of: begin, one per kind of layer, and finish.

Each is made once for its settings, so that equal layers share one object and a compiler that has
seen it need not see it again. decoder.py calls them with weights and caches.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch.nn import functional as F

from inference_benchmark.kernels.greedy_token import greedy_token, greedy_token_reference
from inference_benchmark.model.kernel_choice import KernelConfig
from inference_benchmark.model.linear import make_linear
from inference_benchmark.model.normed import make_add_norm, make_normed_linear
from inference_benchmark.model.part_modules import file_of
from inference_benchmark.model.parts import LayerConfig
from inference_benchmark.model.sampler import sample
from inference_benchmark.model.sampling import Sampling
from inference_benchmark.model.weight_format import WeightFormat
from inference_benchmark.parallel.collectives import make_all_gather


@lru_cache
def make_begin(uses_mask: bool, context_depth: int = 0) -> Callable:
    def begin(tokens, position, some_cache, embedding, rope_cos, rope_sin):
        residual = F.embedding(tokens, embedding)
        length = tokens.shape[1]
        mask = None
        if length > 1:
            rows = slice(context_depth, context_depth + length)
            cos, sin = rope_cos[rows], rope_sin[rows]
        else:
            cos = torch.index_select(rope_cos, 0, position)
            sin = torch.index_select(rope_sin, 0, position)
            if uses_mask:
                slots = torch.arange(some_cache.shape[2], device=tokens.device)
                mask = (slots <= position)[None, None, None, :]  # [1, 1, 1, cache_length]
        return residual, torch.zeros_like(residual), cos, sin, mask

    return begin


@lru_cache
def make_layer(
    config: LayerConfig,
    norm_eps: float,
    kernels: KernelConfig,
    weight_format: WeightFormat | None = None,
    context_depth: int = 0,
) -> Callable:
    """The pure function of such a layer; the same object for all layers that are equal.

    It takes and returns (update, residual), and of a mixture of experts it returns the chosen ones.
    An update is this rank's: whoever adds it to the residual stream sums it over the ranks.
    """
    linear = make_linear(kernels.linear, weight_format)
    attention, feed_forward = config.attention, config.feed_forward
    project = make_normed_linear(kernels.linear, norm_eps, weight_format, kernels.all_reduce)
    attend = file_of(attention).make_function(attention, norm_eps, kernels, linear, context_depth)
    make_feed = file_of(feed_forward).make_normed_function
    feed = make_feed(feed_forward, norm_eps, kernels, weight_format)

    def layer(update, residual, cos, sin, position, mask, weights, cache, chosen=None):
        norms, (projection, *attention_weights), feed_forward_weights = weights
        projected, residual = project(update, residual, norms[0], projection)
        update = attend(projected, cos, sin, position, mask, attention_weights, cache)
        return feed(update, residual, norms[1], feed_forward_weights, chosen)

    return layer


@lru_cache
def make_finish(
    norm_eps: float,
    linear_backend: str,
    all_reduce: str = "none",
    num_ranks: int = 1,
    head_format: WeightFormat | None = None,
    sampling: Sampling | None = None,
) -> Callable:
    """With sampling the function takes the position of the first token that went in as well: a
    token is drawn with the random numbers of the position where it will stand."""
    project = make_normed_linear(linear_backend, norm_eps, head_format, all_reduce)
    all_gather = make_all_gather(all_reduce, num_ranks)
    choose = greedy_token if linear_backend == "gemv" else greedy_token_reference

    def last_logits(update, residual, norm_weight, head_weight):
        logits, _ = project(update[:, -1], residual[:, -1], norm_weight, head_weight)
        return all_gather(logits)

    def finish(update, residual, norm_weight, head_weight):
        logits = last_logits(update, residual, norm_weight, head_weight)
        return logits, choose(logits)

    def finish_sampled(update, residual, norm_weight, head_weight, position):
        logits = last_logits(update, residual, norm_weight, head_weight)
        where = position + update.shape[1]
        state = torch.cat((torch.full_like(where, sampling.seed), where))
        return logits, sample(logits, sampling.temperature, sampling.top_k, state)

    return finish if sampling is None else finish_sampled


@lru_cache
def make_finish_all(
    norm_eps: float,
    linear_backend: str,
    all_reduce: str = "none",
    num_ranks: int = 1,
    head_format: WeightFormat | None = None,
) -> Callable:
    """As make_finish, for the logits of all positions; nothing is chosen."""
    add_norm = make_add_norm(norm_eps, linear_backend, all_reduce)
    linear = make_linear(linear_backend, head_format)
    all_gather = make_all_gather(all_reduce, num_ranks)

    def finish(update, residual, norm_weight, head_weight):
        normed, _ = add_norm(update, residual, norm_weight)
        logits = linear(normed, head_weight)
        batch, length, share = logits.shape
        whole = all_gather(logits.reshape(batch * length, share))
        return (whole.reshape(batch, length, share * num_ranks),)

    return finish
