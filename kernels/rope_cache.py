"""Rotary embedding of one new token per sequence, and its entry into the KV cache, as one kernel.

A decode step rotates heads + kv_heads vectors of head_dim elements and writes 2 x kv_heads of them
into one slot of the cache: some 12 KiB per sequence, microseconds of launches if done by separate
kernels (negate, concatenate, multiply, add, two index copies), one launch here. One warp per head,
no head waits for another. The slot is read from the device, so that a captured graph can be
replayed at every position.
"""

from __future__ import annotations

import torch

from kernels._registration import jit, programmatic_launch, register_operator, tl

WARPS_PER_HEAD = 1


def rope_and_cache(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    position: torch.Tensor,
) -> torch.Tensor:
    """Rotate q and k by the angles of one position; store k and v into that slot of the caches.

    q [batch, heads, head_dim], k and v [batch, kv_heads, head_dim], views with unit last stride;
    cos and sin [1, head_dim] (sin signed); k_cache and v_cache [batch, kv_heads,
    cache_length, head_dim], updated in place, of different storages where this is compiled
    (ValueError); position int64 [1] on the device, less than cache_length (not checked: that would
    need a synchronisation). rotated = x * cos + cat(x2, x1) * sin, where x1 and x2 are the halves
    of x, in fp32 and rounded once. Returns the rotated q, contiguous.
    """
    return _operator(q, k, v, cos, sin, k_cache, v_cache, position)


def rope_and_cache_reference(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    position: torch.Tensor,
) -> torch.Tensor:
    """The same in plain PyTorch; float64 inputs are computed in float64."""
    k_cache.index_copy_(2, position, _rotate_reference(k, cos, sin)[:, :, None])
    v_cache.index_copy_(2, position, v[:, :, None])
    return _rotate_reference(q, cos, sin)


def _rotate_reference(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    first, second = wide.chunk(2, dim=-1)
    return (wide * cos + torch.cat((second, first), dim=-1) * sin).to(x.dtype)


@jit
def _rotate(x_ptr, out_ptr, cos_ptr, sin_ptr, HALF: tl.constexpr):
    first = tl.arange(0, HALF)
    second = first + HALF
    x1 = tl.load(x_ptr + first).to(tl.float32)
    x2 = tl.load(x_ptr + second).to(tl.float32)
    cos1 = tl.load(cos_ptr + first).to(tl.float32)
    cos2 = tl.load(cos_ptr + second).to(tl.float32)
    sin1 = tl.load(sin_ptr + first).to(tl.float32)
    sin2 = tl.load(sin_ptr + second).to(tl.float32)
    tl.store(out_ptr + first, (x1 * cos1 + x2 * sin1).to(out_ptr.dtype.element_ty))
    tl.store(out_ptr + second, (x2 * cos2 + x1 * sin2).to(out_ptr.dtype.element_ty))


@jit
def _rope_and_cache_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    cos_ptr,
    sin_ptr,
    k_cache_ptr,
    v_cache_ptr,
    position_ptr,
    out_ptr,
    q_stride_b,
    q_stride_h,
    k_stride_b,
    k_stride_h,
    v_stride_b,
    v_stride_h,
    k_cache_stride_b,
    k_cache_stride_h,
    k_cache_stride_t,
    v_cache_stride_b,
    v_cache_stride_h,
    v_cache_stride_t,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
):
    batch = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)  # the query heads, then the key heads, then the value heads
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    if head < HEADS:
        q_row = q_ptr + batch * q_stride_b + head * q_stride_h
        out_row = out_ptr + (batch * HEADS + head) * HEAD_DIM
        _rotate(q_row, out_row, cos_ptr, sin_ptr, HEAD_DIM // 2)
    else:
        slot = tl.load(position_ptr).to(tl.int64)
        if head < HEADS + KV_HEADS:
            kv_head = head - HEADS
            k_row = k_ptr + batch * k_stride_b + kv_head * k_stride_h
            cache_row = k_cache_ptr + batch * k_cache_stride_b + slot * k_cache_stride_t
            cache_row += kv_head.to(tl.int64) * k_cache_stride_h
            _rotate(k_row, cache_row, cos_ptr, sin_ptr, HEAD_DIM // 2)
        else:
            kv_head = head - HEADS - KV_HEADS
            dims = tl.arange(0, HEAD_DIM)
            v_row = v_ptr + batch * v_stride_b + kv_head * v_stride_h
            cache_row = v_cache_ptr + batch * v_cache_stride_b + slot * v_cache_stride_t
            cache_row += kv_head.to(tl.int64) * v_cache_stride_h
            tl.store(cache_row + dims, tl.load(v_row + dims))


def launch_rope_and_cache(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    position: torch.Tensor,
) -> torch.Tensor:
    """The Triton kernel, on the current device and stream."""
    _check(q, k, v, cos, sin, k_cache, v_cache)
    batch, heads, head_dim = q.shape
    kv_heads = k.shape[1]
    out = _empty_output(q)
    programmatic = programmatic_launch(q.device)
    _rope_and_cache_kernel[(batch, heads + 2 * kv_heads)](
        q,
        k,
        v,
        cos,
        sin,
        k_cache,
        v_cache,
        position,
        out,
        *q.stride()[:2],
        *k.stride()[:2],
        *v.stride()[:2],
        *k_cache.stride()[:3],
        *v_cache.stride()[:3],
        HEADS=heads,
        KV_HEADS=kv_heads,
        HEAD_DIM=head_dim,
        PROGRAMMATIC=programmatic,
        num_warps=WARPS_PER_HEAD,
        launch_pdl=programmatic,
    )
    return out


def _check(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
) -> None:
    batch, _, head_dim = q.shape
    if head_dim & (head_dim - 1):
        raise ValueError(f"rope_and_cache: head_dim {head_dim} is not a power of two")
    if cos.numel() != head_dim or sin.numel() != head_dim:
        raise ValueError("rope_and_cache: cos and sin must be one row of head_dim elements")
    for cache, new in ((k_cache, k), (v_cache, v)):
        if cache.shape[:2] != new.shape[:2] or cache.shape[0] != batch:
            raise ValueError(
                f"rope_and_cache: q {tuple(q.shape)}, new token {tuple(new.shape)} and cache "
                f"{tuple(cache.shape)} do not fit"
            )
    if any(tensor.stride(-1) != 1 for tensor in (q, k, v, cos, sin, k_cache, v_cache)):
        raise ValueError("rope_and_cache: the elements of a head must be contiguous")


def _empty_output(q: torch.Tensor) -> torch.Tensor:
    return torch.empty(q.shape, dtype=q.dtype, device=q.device)


def _fake(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    position: torch.Tensor,
) -> torch.Tensor:
    # Of two updated graph inputs in one storage, inductor (torch 2.11) updates a misplaced copy of
    # one: a wrong cache, silently. Only tracing comes here, and there it must not happen.
    if k_cache.untyped_storage()._cdata == v_cache.untyped_storage()._cdata:
        raise ValueError("rope_and_cache: k_cache and v_cache must not share storage in a compiler")
    return _empty_output(q)


_operator = register_operator(
    "rope_and_cache",
    rope_and_cache_reference,
    launch_rope_and_cache,
    _fake,
    mutates_args=("k_cache", "v_cache"),
)
