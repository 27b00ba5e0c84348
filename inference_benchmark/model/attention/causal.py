"""Attention over a prompt, in which every token attends to itself and to those before it.

A prompt that continues a context has more keys than queries: its last token stands at the last key.
For PyTorch's attention `is_causal` means that the first token stands at the first key, so these go
through an operator of their own, opaque to compilers, which asks PyTorch for the other alignment.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from inference_benchmark.kernels._registration import register_operator
from inference_benchmark.model.kernel_choice import KernelConfig


def choose_causal_attention(kernels: KernelConfig) -> Callable[..., Tensor]:
    return causal_attention if kernels.shared_heads else causal_attention_repeated


def causal_attention(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    """q [batch, heads, length, head_dim], k and v [batch, kv_heads, length, head_dim] -> as q.

    The values may be of another width, which the result then has. PyTorch chooses the kernel
    (cuDNN, flash, ...), which reads each shared head where it lies. Of more keys than queries, the
    last query stands at the last key.
    """
    if q.shape[2] != k.shape[2]:
        return _continued_operator(q, k, v, scale)
    shares_heads = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(
        q, k, v, is_causal=True, enable_gqa=shares_heads, scale=scale
    )


def cached_causal_attention(q: Tensor, k_cache: Tensor, v_cache: Tensor, start: int) -> Tensor:
    """The same for queries of the slots start, start + 1, ... of a cache that holds their keys.

    A tracer has to treat this as one operator. The kernel that fills the cache returns the queries
    only, so in a trace nothing would order a slice of the cache after that update.
    """
    filled = slice(start, start + q.shape[2])
    return causal_attention(q, k_cache[:, :, filled], v_cache[:, :, filled])


def causal_attention_repeated(
    q: Tensor, k: Tensor, v: Tensor, scale: float | None = None
) -> Tensor:
    """The same for tracers whose attention knows no shared heads: each is copied per query head."""
    group = q.shape[1] // k.shape[1]
    k, v = _repeat_heads(k, group), _repeat_heads(v, group)
    if q.shape[2] != k.shape[2]:
        mask = _continued_mask(q.shape[2], k.shape[2], q.device)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)


def _repeat_heads(x: Tensor, group: int) -> Tensor:
    """[batch, kv_heads, length, head_dim] -> [batch, kv_heads * group, length, head_dim]."""
    if group == 1:
        return x
    batch, kv_heads, length, head_dim = x.shape
    x = x[:, :, None].expand(batch, kv_heads, group, length, head_dim)
    return x.reshape(batch, kv_heads * group, length, head_dim)


def _continued_mask(queries: int, keys: int, device: torch.device) -> Tensor:
    """[queries, keys]: which keys each query may see."""
    positions = torch.arange(keys - queries, keys, device=device)
    return torch.arange(keys, device=device)[None, :] <= positions[:, None]


def _continued_reference(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    """q [batch, heads, queries, head_dim], k and v [batch, kv_heads, keys, ...] -> as q."""
    group = q.shape[1] // k.shape[1]
    mask = _continued_mask(q.shape[2], k.shape[2], q.device)
    context = F.scaled_dot_product_attention(
        q, _repeat_heads(k, group), _repeat_heads(v, group), attn_mask=mask, scale=scale
    )
    return _empty_context(q, v).copy_(context)


def _continued(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    """The same on a GPU: flash attention where it can serve, which counts from the last key."""
    from torch.nn.attention.bias import causal_lower_right

    bias = causal_lower_right(q.shape[2], k.shape[2])
    shares_heads = q.shape[1] != k.shape[1]
    context = F.scaled_dot_product_attention(
        q, k, v, attn_mask=bias, scale=scale, enable_gqa=shares_heads
    )
    return _empty_context(q, v).copy_(context) if not _is_by_token(context) else context


def _is_by_token(context: Tensor) -> bool:
    return context.transpose(1, 2).is_contiguous()


def _empty_context(q: Tensor, v: Tensor) -> Tensor:
    """[batch, heads, queries, value_dim], token by token in memory, as flash attention leaves it."""
    batch, heads, queries, _ = q.shape
    return q.new_empty((batch, queries, heads, v.shape[-1])).transpose(1, 2)


def _continued_fake(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    return _empty_context(q, v)


_continued_operator = register_operator(
    "continued_attention", _continued_reference, _continued, _continued_fake
)
