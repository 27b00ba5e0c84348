"""Rotary embedding of new tokens, and their entry into the KV cache, as one kernel.

A decode step rotates heads + kv_heads vectors of head_dim elements and writes 2 x kv_heads of them
into one slot of the cache: some 12 KiB per sequence, microseconds of launches if done by separate
kernels (negate, concatenate, multiply, add, two index copies), one launch here. A prompt does the
same for each of its tokens: what has to be read and written is read and written once, and the
queries leave in the layout in which attention's result needs no transposing copy. One program per
head and tile of tokens, none waits for another. A single token's slot is read from the device, so
that a captured graph can be replayed at every position.
"""

from __future__ import annotations

import torch

from inference_benchmark.kernels._registration import (
    jit,
    programmatic_launch,
    register_operator,
    tl,
)

TILE_TOKENS = 32  # of a prompt, per program
WARPS_PER_TILE = 4
WARPS_PER_TOKEN = 1  # where there is one token only


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
    """Rotate q and k by the angles of their positions; store k and v into the caches.

    q [batch, heads, length, head_dim], k and v [batch, kv_heads, length, head_dim], views with unit
    last stride; cos and sin [length, head_dim], contiguous (sin signed); k_cache and v_cache
    [batch, kv_heads, cache_length, head_dim], updated in place, of different storages where this is
    compiled (ValueError). A prompt (length > 1) fills the slots from 0 on; a single token goes to
    the slot in position, int64 [1] on the device, less than cache_length (not checked: that would
    need a synchronisation). rotated = x * cos + cat(x2, x1) * sin, where x1 and x2 are the halves
    of x, in fp32 and rounded once. Returns the rotated q, [batch, length, heads, head_dim] in
    memory.
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
    length = q.shape[2]
    for cache, new in ((k_cache, _rotate_reference(k, cos, sin)), (v_cache, v)):
        if length > 1:
            cache[:, :, :length].copy_(new)
        else:
            cache.index_copy_(2, position, new)
    return _empty_output(q).copy_(_rotate_reference(q, cos, sin))


def _rotate_reference(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    first, second = wide.chunk(2, dim=-1)
    return (wide * cos + torch.cat((second, first), dim=-1) * sin).to(x.dtype)


@jit
def _rotate(
    x_ptr, x_stride, out_ptr, out_stride, cos_ptr, sin_ptr, tokens, inside, HALF: tl.constexpr
):
    """Rows x_ptr + tokens * x_stride to out_ptr + tokens * out_stride."""
    first = tl.arange(0, HALF)[None, :]
    x_rows = x_ptr + tokens[:, None] * x_stride
    out_rows = out_ptr + tokens[:, None] * out_stride
    angles = tokens[:, None] * (2 * HALF)
    x1 = tl.load(x_rows + first, mask=inside, other=0.0).to(tl.float32)
    x2 = tl.load(x_rows + HALF + first, mask=inside, other=0.0).to(tl.float32)
    cos1 = tl.load(cos_ptr + angles + first, mask=inside, other=0.0).to(tl.float32)
    cos2 = tl.load(cos_ptr + angles + HALF + first, mask=inside, other=0.0).to(tl.float32)
    sin1 = tl.load(sin_ptr + angles + first, mask=inside, other=0.0).to(tl.float32)
    sin2 = tl.load(sin_ptr + angles + HALF + first, mask=inside, other=0.0).to(tl.float32)
    out1 = (x1 * cos1 + x2 * sin1).to(out_ptr.dtype.element_ty)
    out2 = (x2 * cos2 + x1 * sin2).to(out_ptr.dtype.element_ty)
    tl.store(out_rows + first, out1, mask=inside)
    tl.store(out_rows + HALF + first, out2, mask=inside)


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
    length,
    q_stride_b,
    q_stride_h,
    q_stride_t,
    k_stride_b,
    k_stride_h,
    k_stride_t,
    v_stride_b,
    v_stride_h,
    v_stride_t,
    k_cache_stride_b,
    k_cache_stride_h,
    k_cache_stride_t,
    v_cache_stride_b,
    v_cache_stride_h,
    v_cache_stride_t,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    TILE: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
):
    head = tl.program_id(0)  # the query heads, then the key heads, then the value heads
    tokens = tl.program_id(1).to(tl.int64) * TILE + tl.arange(0, TILE)
    batch = tl.program_id(2).to(tl.int64)
    inside = (tokens < length)[:, None]
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    if head < HEADS:
        q_head = q_ptr + batch * q_stride_b + head * q_stride_h
        out_head = out_ptr + (batch * length * HEADS + head) * HEAD_DIM
        _rotate(
            q_head,
            q_stride_t,
            out_head,
            HEADS * HEAD_DIM,
            cos_ptr,
            sin_ptr,
            tokens,
            inside,
            HEAD_DIM // 2,
        )
    else:
        start = tl.zeros((), tl.int64)
        if TILE == 1:
            start = tl.load(position_ptr).to(tl.int64)
        if head < HEADS + KV_HEADS:
            kv_head = (head - HEADS).to(tl.int64)
            cache_head = k_cache_ptr + batch * k_cache_stride_b + kv_head * k_cache_stride_h
            _rotate(
                k_ptr + batch * k_stride_b + kv_head * k_stride_h,
                k_stride_t,
                cache_head + start * k_cache_stride_t,
                k_cache_stride_t,
                cos_ptr,
                sin_ptr,
                tokens,
                inside,
                HEAD_DIM // 2,
            )
        else:
            kv_head = (head - HEADS - KV_HEADS).to(tl.int64)
            dims = tl.arange(0, HEAD_DIM)[None, :]
            v_head = v_ptr + batch * v_stride_b + kv_head * v_stride_h
            values = tl.load(v_head + tokens[:, None] * v_stride_t + dims, mask=inside)
            cache_head = v_cache_ptr + batch * v_cache_stride_b + kv_head * v_cache_stride_h
            slots = (start + tokens)[:, None] * v_cache_stride_t
            tl.store(cache_head + slots + dims, values, mask=inside)


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
    batch, heads, length, head_dim = q.shape
    kv_heads = k.shape[1]
    out = _empty_output(q)
    programmatic = programmatic_launch(q.device)
    tile = 1 if length == 1 else TILE_TOKENS
    _rope_and_cache_kernel[(heads + 2 * kv_heads, (length + tile - 1) // tile, batch)](
        q,
        k,
        v,
        cos,
        sin,
        k_cache,
        v_cache,
        position,
        out,
        length,
        *q.stride()[:3],
        *k.stride()[:3],
        *v.stride()[:3],
        *k_cache.stride()[:3],
        *v_cache.stride()[:3],
        HEADS=heads,
        KV_HEADS=kv_heads,
        HEAD_DIM=head_dim,
        TILE=tile,
        PROGRAMMATIC=programmatic,
        num_warps=WARPS_PER_TOKEN if length == 1 else WARPS_PER_TILE,
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
    batch, _, length, head_dim = q.shape
    if head_dim & (head_dim - 1):
        raise ValueError(f"rope_and_cache: head_dim {head_dim} is not a power of two")
    if any(
        angles.shape != (length, head_dim) or not angles.is_contiguous() for angles in (cos, sin)
    ):
        raise ValueError("rope_and_cache: cos and sin must be contiguous rows, one per token")
    for cache, new in ((k_cache, k), (v_cache, v)):
        fits = cache.shape[:2] == new.shape[:2] and cache.shape[0] == batch
        if not fits or new.shape[2] != length or cache.shape[2] < length:
            raise ValueError(
                f"rope_and_cache: q {tuple(q.shape)}, new tokens {tuple(new.shape)} and cache "
                f"{tuple(cache.shape)} do not fit"
            )
    if any(tensor.stride(-1) != 1 for tensor in (q, k, v, k_cache, v_cache)):
        raise ValueError("rope_and_cache: the elements of a head must be contiguous")


def _empty_output(q: torch.Tensor) -> torch.Tensor:
    batch, heads, length, head_dim = q.shape
    by_token = torch.empty((batch, length, heads, head_dim), dtype=q.dtype, device=q.device)
    return by_token.transpose(1, 2)


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
    refuse_shared_storage("rope_and_cache", k_cache, v_cache)
    return _empty_output(q)


def refuse_shared_storage(operator: str, k_cache: torch.Tensor, v_cache: torch.Tensor) -> None:
    """Of two updated graph inputs in one storage, inductor (torch 2.11) updates a misplaced copy of
    one: a wrong cache, silently. Only tracing asks, and there it must not happen."""
    if k_cache.untyped_storage()._cdata == v_cache.untyped_storage()._cdata:
        raise ValueError(f"{operator}: k_cache and v_cache must not share storage in a compiler")


_operator = register_operator(
    "rope_and_cache",
    rope_and_cache_reference,
    launch_rope_and_cache,
    _fake,
    mutates_args=("k_cache", "v_cache"),
)
