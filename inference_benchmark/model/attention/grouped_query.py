"""Grouped-query attention over a static KV cache: weights, sharding and a pure function of tensors.

A prompt attends causally to its own keys; a single token writes its key and value into the cache
first and then attends to every filled slot. `sdpa` is PyTorch alone: for a single token the query
heads of a group are packed as rows of one query, and a mask hides the unfilled slots of the whole
cache. With `flash_decode` kernels of ours rotate and fill the cache, and a single token reads the
filled slots only, split over the GPU; where a cache is longer than a layer's chunk of attention,
that layer's single tokens stay with `sdpa`.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from inference_benchmark.kernels.flash_decode import flash_decode
from inference_benchmark.kernels.rope_cache import rope_and_cache
from inference_benchmark.kernels.rope_decode import rope_decode
from inference_benchmark.model.attention.causal import (
    cached_causal_attention,
    choose_causal_attention,
)
from inference_benchmark.model.attention.grouped_query_config import (
    AttentionTemperature,
    GroupedQueryAttention,
)
from inference_benchmark.model.attention.over_slots import (
    SlotAttention,
    choose_slot_attention,
    over_slots_sdpa,
)
from inference_benchmark.model.cache import LayerCache, write_cache
from inference_benchmark.model.checkpoint_layout import Layout, Target, rope_rows, unchanged
from inference_benchmark.model.kernel_choice import KernelConfig, needs_mask
from inference_benchmark.model.linear import Linear
from inference_benchmark.model.norm import divide_by_rms, rms_norm
from inference_benchmark.model.rope import apply_rope
from inference_benchmark.parallel.sharding import RowRange, Shard, WeightShard, WeightShards

# projected, cos, sin, position, mask, further weights, cache -> [batch, length, hidden];
# projected: what the first matrix makes of the normalised hidden vectors
Attend = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, tuple[Tensor, ...], LayerCache], Tensor]


def modules(config: GroupedQueryAttention, hidden_size: int) -> dict[str, nn.Module]:
    """The weights: what makes q, k and v, in one matrix, then as attend takes them."""
    q_rows, kv_rows = _rows(config)
    linears: dict[str, nn.Module] = {
        "qkv_proj": nn.Linear(hidden_size, q_rows + 2 * kv_rows, bias=False),
        "o_proj": nn.Linear(q_rows, hidden_size, bias=False),
    }
    norms = ("q_norm", "k_norm") if config.learned_qk_norm else ()
    return linears | {name: nn.RMSNorm(config.head_dim) for name in norms}


def _rows(config: GroupedQueryAttention) -> tuple[int, int]:
    """Rows of the matrix that makes queries, and of the one that makes keys."""
    return config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim


def weight_shards(config: GroupedQueryAttention, shard: Shard) -> WeightShards:
    """config: that of the full model."""
    queries = shard.rows(config.num_heads * config.head_dim)
    keys = _kv_rows(config, shard)
    return {
        "qkv_proj": WeightShard(0, (queries, keys, keys)),
        "o_proj": WeightShard(1, (queries,)),
    }


def _kv_rows(config: GroupedQueryAttention, shard: Shard) -> RowRange:
    """Rows of this rank's KV heads; of more ranks than KV heads, those of the one that its query
    heads share."""
    rows = config.num_kv_heads * config.head_dim
    if config.num_kv_heads >= shard.size:
        return shard.rows(rows)
    head = shard.rank * config.num_kv_heads // shard.size
    return RowRange(rows, head * config.head_dim, config.head_dim)


def checkpoint_tensors(
    layer: nn.Module, config: GroupedQueryAttention, layout: Layout, shards: WeightShards
) -> Iterator[tuple[str, Target]]:
    q_rows, kv_rows = _rows(config)
    q, k, v = layer.qkv_proj.weight.split((q_rows, kv_rows, kv_rows))
    head_dim = config.head_dim
    arrange = rope_rows(head_dim, head_dim) if layout.interleaved_rope else unchanged
    fused = shards.get("qkv_proj")
    q_shard, k_shard, v_shard = fused.split() if fused else (None, None, None)
    yield "q_proj.weight", Target(q, arrange, shard=q_shard)
    yield "k_proj.weight", Target(k, arrange, shard=k_shard)
    yield "v_proj.weight", Target(v, shard=v_shard)
    yield "o_proj.weight", Target(layer.o_proj.weight, shard=shards.get("o_proj"))
    if config.learned_qk_norm:
        yield "q_norm.weight", Target(layer.q_norm.weight, arrange)
        yield "k_norm.weight", Target(layer.k_norm.weight, arrange)


def make_function(
    config: GroupedQueryAttention,
    norm_eps: float,
    kernels: KernelConfig,
    linear: Linear,
    context_depth: int = 0,
) -> Attend:
    """attend(qkv, cos, sin, position, mask, weights, (k_cache, v_cache)) -> [b, s, hidden].

    context_depth: filled slots that a prompt stands behind and attends to.
    """
    heads, kv_heads, head_dim = config.num_heads, config.num_kv_heads, config.head_dim
    uses_kernels = not needs_mask(config, kernels)
    normalize = _choose_norm(config)
    attend_slots = choose_slot_attention("sdpa" if uses_kernels else kernels.attention)
    decode = _decode_flash if uses_kernels else _decode_over_slots
    over_prompt = choose_causal_attention(kernels)
    one_kernel = uses_kernels and not config.learned_qk_norm
    plain_norm_eps = norm_eps if config.normalizes_qk else None
    fills_cache = uses_kernels and kernels.fills_cache and _rotates_only(config)
    fills_cache = fills_cache and not context_depth  # that kernel fills from slot 0 on

    def attend(qkv, cos, sin, position, mask, weights, cache):
        output_weight, *norm_weights = weights
        batch, length, _ = qkv.shape
        if length == 1 and one_kernel and _has_plain_scores(config, cache[0].shape[2]):
            vectors = qkv.view(batch, heads + 2 * kv_heads, head_dim)
            angles = (cos, sin) if config.uses_rope else (None, None)
            context = rope_decode(vectors, *angles, *cache, position, plain_norm_eps)
            return linear(context.view(batch, 1, heads * head_dim), output_weight)
        qkv = qkv.view(batch, length, heads + 2 * kv_heads, head_dim).transpose(1, 2)
        qk, v = qkv[:, : heads + kv_heads], qkv[:, heads + kv_heads :]
        if normalize is not None:
            qk = normalize(qk, heads, norm_weights, norm_eps)
        if length > 1 and fills_cache and cache:
            context = _prefill_from_cache(qk, v, config, cos, sin, position, cache)
        elif length > 1:
            context = _prefill(qk, v, config, cos, sin, position, cache, over_prompt, context_depth)
        else:
            context = decode(qk, v, config, cos, sin, position, mask, cache, attend_slots)
        context = context.transpose(1, 2).reshape(batch, length, heads * head_dim)
        return linear(context, output_weight)

    return attend


def _choose_norm(config: GroupedQueryAttention) -> Callable | None:
    """norm(qk [batch, heads + kv_heads, length, head_dim], heads, norm weights, eps) -> as qk; each
    head's vector is divided by its own root mean square."""
    if config.learned_qk_norm:
        return _learned_norm
    return _plain_norm if config.normalizes_qk else None


def _learned_norm(qk: Tensor, heads: int, norm_weights: list[Tensor], eps: float) -> Tensor:
    """Learned weights stretch the values of a rotated pair unevenly: the rotation comes after."""
    q_weight, k_weight = norm_weights
    q, k = rms_norm(qk[:, :heads], q_weight, eps), rms_norm(qk[:, heads:], k_weight, eps)
    return torch.cat((q, k), dim=1)


def _plain_norm(qk: Tensor, heads: int, norm_weights: list[Tensor], eps: float) -> Tensor:
    """Published models do this after the rotation, which changes no length: the same."""
    return divide_by_rms(qk, eps)


def _rotates_only(config: GroupedQueryAttention) -> bool:
    """Whether positions enter by rotation and by nothing else: then one kernel serves."""
    return config.uses_rope and config.temperature is None


def _rotate_and_split(qk: Tensor, config: GroupedQueryAttention, cos: Tensor, sin: Tensor):
    if config.uses_rope:
        qk = apply_rope(qk, cos, sin)
    return qk[:, : config.num_heads], qk[:, config.num_heads :]


def _prefill(
    qk, v, config, cos, sin, position, cache, over_prompt, context_depth: int = 0
) -> Tensor:
    """qk [batch, heads + kv_heads, length, head_dim] -> [batch, heads, length, head_dim]."""
    q, k = _rotate_and_split(qk, config, cos, sin)
    end = context_depth + q.shape[2]
    if _has_temperature(config.temperature, end):
        q = _scale(q, config.temperature, torch.arange(context_depth, end, device=q.device))
    if cache:
        k_cache = write_cache(cache[0], k, position, context_depth)
        v_cache = write_cache(cache[1], v, position, context_depth)
    if context_depth:
        k, v = k_cache, v_cache
    contexts = [
        over_prompt(q[:, :, queries], k[:, :, keys], v[:, :, keys])
        for queries, keys in _chunks(config, q.shape[2], context_depth)
    ]
    return contexts[0] if len(contexts) == 1 else torch.cat(contexts, dim=2)


def _chunks(
    config: GroupedQueryAttention, length: int, context_depth: int = 0
) -> list[tuple[slice, slice]]:
    """The parts of a prompt, each with the slots that it attends to: its chunk of the context."""
    end = context_depth + length
    size = config.chunk_size or end
    return [
        (slice(max(start - context_depth, 0), stop - context_depth), slice(start, stop))
        for start in range(context_depth // size * size, end, size)
        for stop in (min(start + size, end),)
    ]


def _prefill_from_cache(qk, v, config, cos, sin, position, cache) -> Tensor:
    """The same with the kernel that rotates and fills the cache; attention then reads the cache."""
    q, k = qk[:, : config.num_heads], qk[:, config.num_heads :]
    q = rope_and_cache(q, k, v, cos, sin, *cache, position)
    chunks = [queries for queries, _ in _chunks(config, q.shape[2])]
    contexts = [cached_causal_attention(q[:, :, c], *cache, c.start) for c in chunks]
    return contexts[0] if len(contexts) == 1 else torch.cat(contexts, dim=2)


def _has_temperature(temperature: AttentionTemperature | None, length: int) -> bool:
    """Whether any of the first `length` positions has a factor other than one."""
    return temperature is not None and length >= temperature.floor_scale


def _scale(q: Tensor, temperature: AttentionTemperature, positions: Tensor) -> Tensor:
    """q [batch, heads, length, head_dim] times the factor of its position [length]."""
    steps = torch.floor((positions.to(torch.float32) + 1.0) / temperature.floor_scale)
    factors = torch.log1p(steps) * temperature.scale + 1.0
    return (q * factors[None, None, :, None]).to(q.dtype)


def _decode_over_slots(
    qk, v, config, cos, sin, position, mask, cache, attend_slots: SlotAttention
) -> Tensor:
    """qk [batch, heads + kv_heads, 1, head_dim] -> [batch, heads, 1, head_dim]."""
    q, k = _rotate_and_split(qk, config, cos, sin)
    batch, heads, _, head_dim = q.shape
    k_cache = write_cache(cache[0], k, position)
    v_cache = write_cache(cache[1], v, position)
    cache_length = k_cache.shape[2]
    if _has_temperature(config.temperature, cache_length):
        q = _scale(q, config.temperature, position)
    if _exceeds_chunk(config, cache_length):
        mask = _chunk_mask(position, cache_length, config.chunk_size)
        attend_slots = over_slots_sdpa  # which alone takes any mask
    q = q.reshape(batch, config.num_kv_heads, config.group_size, head_dim)
    context = attend_slots(q, k_cache, v_cache, mask, position)
    return context.reshape(batch, heads, 1, head_dim)


def _has_plain_scores(config: GroupedQueryAttention, cache_length: int) -> bool:
    """Whether a single token attends to all filled slots, by scores without a factor."""
    scaled = _has_temperature(config.temperature, cache_length)
    return not scaled and not _exceeds_chunk(config, cache_length)


def _exceeds_chunk(config: GroupedQueryAttention, cache_length: int) -> bool:
    return config.chunk_size is not None and cache_length > config.chunk_size


def _chunk_mask(position: Tensor, cache_length: int, chunk_size: int) -> Tensor:
    """[1, 1, 1, cache_length]: the filled slots of the chunk that position [1] lies in."""
    slots = torch.arange(cache_length, device=position.device)
    start = position // chunk_size * chunk_size  # inductor on a CPU divides ranges wrongly
    return torch.logical_and(slots >= start, slots <= position)[None, None, None, :]


def _decode_flash(qk, v, config, cos, sin, position, mask, cache, attend_slots) -> Tensor:
    cache_length = cache[0].shape[2]
    if _exceeds_chunk(config, cache_length):
        return _decode_over_slots(qk, v, config, cos, sin, position, mask, cache, attend_slots)
    if _rotates_only(config):
        q, k = qk[:, : config.num_heads], qk[:, config.num_heads :]
        q = rope_and_cache(q, k, v, cos, sin, *cache, position)
        return flash_decode(q[:, :, 0], cache[0], cache[1], position)[:, :, None]
    q, k = _rotate_and_split(qk, config, cos, sin)
    if _has_temperature(config.temperature, cache_length):
        q = _scale(q, config.temperature, position)
    k_cache = write_cache(cache[0], k, position)
    v_cache = write_cache(cache[1], v, position)
    return flash_decode(q[:, :, 0], k_cache, v_cache, position)[:, :, None]
