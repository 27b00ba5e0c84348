"""Grouped-query attention over a static KV cache, as pure functions of tensors.

A prompt attends to its own fresh keys causally and only writes the cache; a single token writes its
key and value first and then attends to every filled slot. `sdpa` is PyTorch alone: for a single
token the query heads of a group are packed as rows of one query, and a mask hides the unfilled
slots of the whole cache. `flash_decode` reads the filled slots only, split over the GPU.
"""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from architectures.cache import LayerCache, write_cache
from architectures.kernel_choice import Kernels
from architectures.linear import make_linear
from architectures.rope import apply_rope
from kernels.flash_decode import flash_decode
from kernels.rope_cache import rope_and_cache
from models import GroupedQueryAttention

Attend = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, tuple[Tensor, ...], LayerCache], Tensor]


def make_attention(shape: GroupedQueryAttention, kernels: Kernels) -> Attend:
    """attend(hidden, cos, sin, position, mask, (qkv, output), (k_cache, v_cache)) -> [b, s, hidden]."""
    heads, kv_heads, head_dim = shape.num_heads, shape.num_kv_heads, shape.head_dim
    linear = make_linear(kernels.linear)
    decode = _decode_flash if kernels.attention == "flash_decode" else _decode_sdpa
    over_prompt = causal_attention if kernels.shared_heads else causal_attention_repeated

    def attend(hidden, cos, sin, position, mask, weights, cache):
        qkv_weight, output_weight = weights
        batch, length, _ = hidden.shape
        qkv = linear(hidden, qkv_weight)
        qkv = qkv.view(batch, length, heads + 2 * kv_heads, head_dim).transpose(1, 2)
        if length > 1:
            q, k, v = _rotate_and_split(qkv, heads, kv_heads, cos, sin)
            write_cache(cache[0], k, position)
            write_cache(cache[1], v, position)
            context = over_prompt(q, k, v)
        else:
            context = decode(qkv, heads, kv_heads, cos, sin, position, mask, cache)
        context = context.transpose(1, 2).reshape(batch, length, heads * head_dim)
        return linear(context, output_weight)

    return attend


def _rotate_and_split(qkv: Tensor, heads: int, kv_heads: int, cos: Tensor, sin: Tensor):
    rotated = apply_rope(qkv[:, : heads + kv_heads], cos, sin)
    return rotated[:, :heads], rotated[:, heads:], qkv[:, heads + kv_heads :]


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q [batch, heads, length, head_dim], k and v [batch, kv_heads, length, head_dim] -> as q.

    PyTorch chooses the kernel (cuDNN, flash, ...), which reads each shared head where it lies.
    """
    shares_heads = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=shares_heads)


def causal_attention_repeated(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same for tracers whose attention knows no shared heads: each is copied per query head."""
    group = q.shape[1] // k.shape[1]
    return F.scaled_dot_product_attention(
        q, _repeat_heads(k, group), _repeat_heads(v, group), is_causal=True
    )


def _repeat_heads(x: Tensor, group: int) -> Tensor:
    """[batch, kv_heads, length, head_dim] -> [batch, kv_heads * group, length, head_dim]."""
    if group == 1:
        return x
    batch, kv_heads, length, head_dim = x.shape
    x = x[:, :, None].expand(batch, kv_heads, group, length, head_dim)
    return x.reshape(batch, kv_heads * group, length, head_dim)


def _decode_sdpa(qkv, heads, kv_heads, cos, sin, position, mask, cache) -> Tensor:
    """qkv [batch, heads + 2 kv_heads, 1, head_dim] -> [batch, heads, 1, head_dim]."""
    q, k, v = _rotate_and_split(qkv, heads, kv_heads, cos, sin)
    k_cache = write_cache(cache[0], k, position)
    v_cache = write_cache(cache[1], v, position)
    batch, _, _, head_dim = q.shape
    group = heads // kv_heads
    q = q.reshape(batch, kv_heads, group, head_dim)
    rows = mask.expand(batch, 1, group, k_cache.shape[2])
    context = F.scaled_dot_product_attention(q, k_cache, v_cache, attn_mask=rows)
    return context.reshape(batch, heads, 1, head_dim)


def _decode_flash(qkv, heads, kv_heads, cos, sin, position, mask, cache) -> Tensor:
    q, k, v = qkv[:, :heads, 0], qkv[:, heads : heads + kv_heads, 0], qkv[:, heads + kv_heads :, 0]
    q = rope_and_cache(q, k, v, cos, sin, cache[0], cache[1], position)
    return flash_decode(q, cache[0], cache[1], position)[:, :, None]
