"""Grouped-query attention over a static KV cache, as pure functions of tensors.

A prompt attends causally to its own keys; a single token writes its key and value into the cache
first and then attends to every filled slot. `sdpa` is PyTorch alone: for a single token the query
heads of a group are packed as rows of one query, and a mask hides the unfilled slots of the whole
cache. With `flash_decode` kernels of ours rotate and fill the cache, and a single token reads the
filled slots only, split over the GPU; where a cache is longer than a layer's chunk of attention,
that layer's single tokens stay with `sdpa`.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inference_benchmark.kernels.flash_decode import flash_decode
from inference_benchmark.kernels.rope_cache import rope_and_cache
from inference_benchmark.model.cache import LayerCache, write_cache
from inference_benchmark.model.kernel_choice import Kernels
from inference_benchmark.model.linear import make_linear
from inference_benchmark.model.rope import apply_rope
from inference_benchmark.models import Attention, AttentionTemperature, GroupedQueryAttention

Attend = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, tuple[Tensor, ...], LayerCache], Tensor]


def modules(kind: GroupedQueryAttention, hidden_size: int) -> dict[str, nn.Module]:
    """The weights, in the order in which attend takes them; q, k and v in one matrix."""
    q_rows = kind.num_heads * kind.head_dim
    kv_rows = kind.num_kv_heads * kind.head_dim
    return {
        "qkv_proj": nn.Linear(hidden_size, q_rows + 2 * kv_rows, bias=False),
        "o_proj": nn.Linear(q_rows, hidden_size, bias=False),
    }


def make_attention(kind: GroupedQueryAttention, norm_eps: float, kernels: Kernels) -> Attend:
    """attend(hidden, cos, sin, position, mask, (qkv, output), (k_cache, v_cache)) -> [b, s, hidden]."""
    heads, kv_heads, head_dim = kind.num_heads, kind.num_kv_heads, kind.head_dim
    linear = make_linear(kernels.linear)
    uses_kernels = not needs_mask(kind, kernels)
    decode = _decode_flash if uses_kernels else _decode_sdpa
    over_prompt = choose_causal_attention(kernels)
    fills_cache = uses_kernels and kernels.fills_cache and _rotates_only(kind)

    def attend(hidden, cos, sin, position, mask, weights, cache):
        qkv_weight, output_weight = weights
        batch, length, _ = hidden.shape
        qkv = linear(hidden, qkv_weight)
        qkv = qkv.view(batch, length, heads + 2 * kv_heads, head_dim).transpose(1, 2)
        qk, v = qkv[:, : heads + kv_heads], qkv[:, heads + kv_heads :]
        if kind.normalizes_qk:
            # Published after the rotation, which changes no length: so before is the same.
            qk = _unit_rms(qk, norm_eps)
        if length > 1 and fills_cache and cache:
            context = _prefill_from_cache(qk, v, kind, cos, sin, position, cache)
        elif length > 1:
            context = _prefill(qk, v, kind, cos, sin, position, cache, over_prompt)
        else:
            context = decode(qk, v, kind, cos, sin, position, mask, cache)
        context = context.transpose(1, 2).reshape(batch, length, heads * head_dim)
        return linear(context, output_weight)

    return attend


def needs_mask(kind: Attention, kernels: Kernels) -> bool:
    """Whether a single token attends to the whole cache, and hides the unfilled slots."""
    return kernels.attention != "flash_decode" or not kind.supports_flash_decode


def _unit_rms(x: Tensor, eps: float) -> Tensor:
    wide = x.to(torch.float32)
    return (wide * torch.rsqrt((wide * wide).mean(dim=-1, keepdim=True) + eps)).to(x.dtype)


def _rotates_only(kind: GroupedQueryAttention) -> bool:
    """Whether positions enter by rotation and by nothing else: then one kernel serves."""
    return kind.uses_rope and kind.temperature is None


def _rotate_and_split(qk: Tensor, kind: GroupedQueryAttention, cos: Tensor, sin: Tensor):
    if kind.uses_rope:
        qk = apply_rope(qk, cos, sin)
    return qk[:, : kind.num_heads], qk[:, kind.num_heads :]


def _prefill(qk, v, kind, cos, sin, position, cache, over_prompt) -> Tensor:
    """qk [batch, heads + kv_heads, length, head_dim] -> [batch, heads, length, head_dim]."""
    q, k = _rotate_and_split(qk, kind, cos, sin)
    length = q.shape[2]
    if _has_temperature(kind.temperature, length):
        q = _scale(q, kind.temperature, torch.arange(length, device=q.device))
    if cache:
        write_cache(cache[0], k, position)
        write_cache(cache[1], v, position)
    contexts = [over_prompt(q[:, :, c], k[:, :, c], v[:, :, c]) for c in _chunks(kind, length)]
    return contexts[0] if len(contexts) == 1 else torch.cat(contexts, dim=2)


def _chunks(kind: GroupedQueryAttention, length: int) -> list[slice]:
    """The parts of a prompt that attend to themselves only."""
    size = kind.chunk_size or length
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def _prefill_from_cache(qk, v, kind, cos, sin, position, cache) -> Tensor:
    """The same with the kernel that rotates and fills the cache; attention then reads the cache."""
    q, k = qk[:, : kind.num_heads], qk[:, kind.num_heads :]
    q = rope_and_cache(q, k, v, cos, sin, *cache, position)
    chunks = _chunks(kind, q.shape[2])
    contexts = [cached_causal_attention(q[:, :, c], *cache, c.start) for c in chunks]
    return contexts[0] if len(contexts) == 1 else torch.cat(contexts, dim=2)


def choose_causal_attention(kernels: Kernels) -> Callable[..., Tensor]:
    return causal_attention if kernels.shared_heads else causal_attention_repeated


def causal_attention(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    """q [batch, heads, length, head_dim], k and v [batch, kv_heads, length, head_dim] -> as q.

    The values may be of another width, which the result then has. PyTorch chooses the kernel
    (cuDNN, flash, ...), which reads each shared head where it lies.
    """
    shares_heads = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(
        q, k, v, is_causal=True, enable_gqa=shares_heads, scale=scale
    )


def cached_causal_attention(q: Tensor, k_cache: Tensor, v_cache: Tensor, start: int) -> Tensor:
    """The same for queries of the slots start, start + 1, ... of a cache that holds their keys.

    A tracer has to take it as one operator: it knows no order between the update of the cache, of
    which it sees the queries leave, and a slice of the cache.
    """
    filled = slice(start, start + q.shape[2])
    return causal_attention(q, k_cache[:, :, filled], v_cache[:, :, filled])


def causal_attention_repeated(
    q: Tensor, k: Tensor, v: Tensor, scale: float | None = None
) -> Tensor:
    """The same for tracers whose attention knows no shared heads: each is copied per query head."""
    group = q.shape[1] // k.shape[1]
    return F.scaled_dot_product_attention(
        q, _repeat_heads(k, group), _repeat_heads(v, group), is_causal=True, scale=scale
    )


def _repeat_heads(x: Tensor, group: int) -> Tensor:
    """[batch, kv_heads, length, head_dim] -> [batch, kv_heads * group, length, head_dim]."""
    if group == 1:
        return x
    batch, kv_heads, length, head_dim = x.shape
    x = x[:, :, None].expand(batch, kv_heads, group, length, head_dim)
    return x.reshape(batch, kv_heads * group, length, head_dim)


def _has_temperature(temperature: AttentionTemperature | None, length: int) -> bool:
    """Whether any of the first `length` positions has a factor other than one."""
    return temperature is not None and length >= temperature.floor_scale


def _scale(q: Tensor, temperature: AttentionTemperature, positions: Tensor) -> Tensor:
    """q [batch, heads, length, head_dim] times the factor of its position [length]."""
    steps = torch.floor((positions.to(torch.float32) + 1.0) / temperature.floor_scale)
    factors = torch.log1p(steps) * temperature.scale + 1.0
    return (q * factors[None, None, :, None]).to(q.dtype)


def _decode_sdpa(qk, v, kind, cos, sin, position, mask, cache) -> Tensor:
    """qk [batch, heads + kv_heads, 1, head_dim] -> [batch, heads, 1, head_dim]."""
    q, k = _rotate_and_split(qk, kind, cos, sin)
    batch, heads, _, head_dim = q.shape
    k_cache = write_cache(cache[0], k, position)
    v_cache = write_cache(cache[1], v, position)
    cache_length = k_cache.shape[2]
    if _has_temperature(kind.temperature, cache_length):
        q = _scale(q, kind.temperature, position)
    if _is_cut(kind, cache_length):
        mask = _chunk_mask(position, cache_length, kind.chunk_size)
    q = q.reshape(batch, kind.num_kv_heads, kind.group_size, head_dim)
    rows = mask.expand(batch, 1, kind.group_size, cache_length)
    context = F.scaled_dot_product_attention(q, k_cache, v_cache, attn_mask=rows)
    return context.reshape(batch, heads, 1, head_dim)


def _is_cut(kind: GroupedQueryAttention, cache_length: int) -> bool:
    return kind.chunk_size is not None and cache_length > kind.chunk_size


def _chunk_mask(position: Tensor, cache_length: int, chunk_size: int) -> Tensor:
    """[1, 1, 1, cache_length]: the filled slots of the chunk that position [1] lies in."""
    slots = torch.arange(cache_length, device=position.device)
    start = position // chunk_size * chunk_size  # inductor on a CPU divides ranges wrongly
    return torch.logical_and(slots >= start, slots <= position)[None, None, None, :]


def _decode_flash(qk, v, kind, cos, sin, position, mask, cache) -> Tensor:
    cache_length = cache[0].shape[2]
    if _is_cut(kind, cache_length):
        return _decode_sdpa(qk, v, kind, cos, sin, position, mask, cache)
    if _rotates_only(kind):
        q, k = qk[:, : kind.num_heads], qk[:, kind.num_heads :]
        q = rope_and_cache(q, k, v, cos, sin, *cache, position)
        return flash_decode(q[:, :, 0], cache[0], cache[1], position)[:, :, None]
    q, k = _rotate_and_split(qk, kind, cos, sin)
    if _has_temperature(kind.temperature, cache_length):
        q = _scale(q, kind.temperature, position)
    k_cache = write_cache(cache[0], k, position)
    v_cache = write_cache(cache[1], v, position)
    return flash_decode(q[:, :, 0], k_cache, v_cache, position)[:, :, None]
