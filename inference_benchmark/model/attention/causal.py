"""Attention over a prompt, in which every token attends to itself and to those before it."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from inference_benchmark.model.kernel_choice import KernelConfig


def choose_causal_attention(kernels: KernelConfig) -> Callable[..., Tensor]:
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
