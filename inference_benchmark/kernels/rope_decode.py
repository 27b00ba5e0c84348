"""Rotary embedding, cache update and decode attention of one token per sequence as one kernel.

The attention of flash_decode.py, whose programs rotate their queries as they load them. The program
whose part of the context ends with the new token rotates its key, stores key and value into the
cache, and attends to them in registers: no program reads what another one writes, so nothing has to
wait, and the kernel that did this before is saved with its launch. So are those that divide queries
and keys by their root mean square, in models that do, and without a rotation the copies into the
cache. At batch 1 each program has its first tile in registers before its queries are there.
"""

from __future__ import annotations

import torch

from inference_benchmark.kernels._registration import jit, register_operator, tl
from inference_benchmark.kernels.attention_plan import Plan, check_caches, prepare
from inference_benchmark.kernels.flash_decode import flash_decode_reference
from inference_benchmark.kernels.rope_cache import (
    refuse_shared_storage,
    rope_and_cache_reference,
)
from inference_benchmark.kernels.split_attention import (
    attend_tiles,
    chunk_tokens,
    leave_result,
    load_tile,
    prefetch_tiles,
)


def rope_decode(
    qkv: torch.Tensor,
    cos: torch.Tensor | None,
    sin: torch.Tensor | None,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    position: torch.Tensor,
    norm_eps: float | None = None,
) -> torch.Tensor:
    """Rotate q and k, store k and v in the slot in position, attend to the slots 0 .. position.

    qkv [batch, heads + 2 * kv_heads, head_dim], contiguous; cos and sin [1, head_dim] (sin signed),
    or None: nothing is rotated; k_cache and v_cache [batch, kv_heads, cache_length, head_dim],
    updated in place, of different storages where this is compiled; position: int64 [1] on the
    device, less than cache_length (not checked: that would need a synchronisation). norm_eps: q and
    k of each head are divided by their root mean square, of which this is added to the square; None:
    they are not. Returns [batch, heads, head_dim], contiguous. For the rest see rope_and_cache and
    flash_decode, which do the same in two kernels.
    """
    return _operator(qkv, cos, sin, k_cache, v_cache, position, norm_eps)


def rope_decode_reference(
    qkv: torch.Tensor,
    cos: torch.Tensor | None,
    sin: torch.Tensor | None,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    position: torch.Tensor,
    norm_eps: float | None = None,
) -> torch.Tensor:
    """The same in plain PyTorch; float64 inputs are computed in float64."""
    kv_heads = k_cache.shape[1]
    q, k, v = qkv[:, :, None].split((qkv.shape[1] - 2 * kv_heads, kv_heads, kv_heads), dim=1)
    if norm_eps is not None:
        q, k = _divided_by_rms(q, norm_eps), _divided_by_rms(k, norm_eps)
    if cos is None or sin is None:
        cos, sin = qkv.new_ones(1, qkv.shape[-1]), qkv.new_zeros(1, qkv.shape[-1])
    q = rope_and_cache_reference(q, k, v, cos, sin, k_cache, v_cache, position)
    return flash_decode_reference(q[:, :, 0], k_cache, v_cache, position).contiguous()


def _divided_by_rms(x: torch.Tensor, eps: float) -> torch.Tensor:
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide * torch.rsqrt((wide * wide).mean(dim=-1, keepdim=True) + eps)).to(x.dtype)


@jit
def _rotated(row_ptr, cos, sin, mask, norm_eps, HALF: tl.constexpr, ROTATES: tl.constexpr):
    """Vectors of 2 * HALF values that begin at row_ptr [rows, 1], rotated and, with norm_eps, divided
    by their root mean square, in fp32."""
    dims = tl.arange(0, 2 * HALF)[None, :]
    x = tl.load(row_ptr + dims, mask=mask, other=0.0).to(tl.float32)
    if ROTATES:
        swapped = tl.load(row_ptr + (dims + HALF) % (2 * HALF), mask=mask, other=0.0)
        x = x * cos[None, :] + swapped.to(tl.float32) * sin[None, :]
    if norm_eps is not None:  # after the rotation, which changes no length
        x *= tl.rsqrt(tl.sum(x * x, axis=1) / (2 * HALF) + norm_eps)[:, None]
    return x


@jit
def _rope_decode_kernel(
    qkv_ptr,
    cos_ptr,
    sin_ptr,
    k_ptr,
    v_ptr,
    position_ptr,
    out_ptr,
    partial_ptr,
    lse_ptr,
    arrivals_ptr,
    k_stride_b,
    k_stride_h,
    k_stride_t,
    v_stride_b,
    v_stride_h,
    v_stride_t,
    scale_log2,
    norm_eps,  # None: no norm
    ROTATES: tl.constexpr,
    KV_HEADS: tl.constexpr,
    SPLITS: tl.constexpr,
    GROUP: tl.constexpr,
    GROUP_PADDED: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    TILE_TOKENS: tl.constexpr,
    COMBINE_ROWS: tl.constexpr,
    COMBINE_UNROLL: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
    STEP_TOKENS: tl.constexpr,
    AHEAD: tl.constexpr,
):
    pair = tl.program_id(0)
    split = tl.program_id(1)
    batch = (pair // KV_HEADS).to(tl.int64)
    kv_head = (pair % KV_HEADS).to(tl.int64)
    rows = tl.arange(0, GROUP_PADDED)  # the query heads that share this KV head
    dims = tl.arange(0, HEAD_DIM)
    tokens = tl.arange(0, TILE_TOKENS)
    is_head = rows < GROUP
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_launch_dependents()
    # Position and filled slots were written in an earlier step, which has ended: only qkv and the
    # angles are of this one. So the first tiles are on their way while the predecessor still runs.
    # (.cg: from L2; no wait has made the nearer cache forget the position of the step before.)
    position = tl.load(position_ptr, cache_modifier=".cg").to(tl.int32)
    length = position + 1
    chunk = chunk_tokens(length, SPLITS, STEP_TOKENS)
    begin = split * chunk
    if begin >= length:
        return
    end = tl.minimum(begin + chunk, position)  # of what was in the cache before
    active_splits = tl.cdiv(length, chunk)
    has_new = split == active_splits - 1
    k_head_ptr = k_ptr + batch * k_stride_b + kv_head * k_stride_h
    v_head_ptr = v_ptr + batch * v_stride_b + kv_head * v_stride_h
    k_offsets = tokens[:, None] * k_stride_t + dims[None, :]
    v_offsets = tokens[:, None] * v_stride_t + dims[None, :]
    k = None
    v = None
    if AHEAD:
        # Into registers: no way to L2 is left between the wait and the scores, which takes the longer
        # as the next kernel, which is here already, asks for its weights.
        filled = begin + tokens < end
        k = load_tile(k_head_ptr, k_offsets, k_stride_t, begin, filled, ".cg")
        v = load_tile(v_head_ptr, v_offsets, v_stride_t, begin, filled, ".cg")
    elif PROGRAMMATIC:
        # With a program for each pair, of the many at batch 32, more than one tile gained nothing more.
        TILES: tl.constexpr = 4 if SPLITS > 1 else 1
        strides = k_stride_t, v_stride_t
        prefetch_tiles(k_head_ptr, v_head_ptr, strides, begin, end, TILES, HEAD_DIM, TILE_TOKENS)
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()

    token_ptr = qkv_ptr + batch * ((GROUP + 2) * KV_HEADS * HEAD_DIM)
    cos = None
    sin = None
    if ROTATES:
        cos = tl.load(cos_ptr + dims).to(tl.float32)
        sin = tl.load(sin_ptr + dims).to(tl.float32)
    is_row = is_head[:, None]
    q_rows = token_ptr + (kv_head * GROUP + rows)[:, None] * HEAD_DIM
    q = _rotated(q_rows, cos, sin, is_row, norm_eps, HEAD_DIM // 2, ROTATES)
    q = q.to(qkv_ptr.dtype.element_ty)
    # The new key and value, as rows that repeat: no exchange between layouts, and they lie in L1.
    k_row = token_ptr + (kv_head + GROUP * KV_HEADS + 0 * rows)[:, None] * HEAD_DIM
    new_k = _rotated(k_row, cos, sin, is_row, norm_eps, HEAD_DIM // 2, ROTATES).to(q.dtype)
    v_row = k_row + KV_HEADS * HEAD_DIM
    new_v = tl.load(v_row + dims[None, :], mask=is_row, other=0.0)
    is_stored = ((rows == 0) & has_new)[:, None]
    slot = position.to(tl.int64) + 0 * rows[:, None]
    tl.store(k_head_ptr + slot * k_stride_t + dims[None, :], new_k, mask=is_stored)
    tl.store(v_head_ptr + slot * v_stride_t + dims[None, :], new_v, mask=is_stored)

    # The least number, not -inf: differences of it are no NaN.
    running_max = tl.full([GROUP_PADDED], -3.0e38, tl.float32)
    running_max, weight_sum, acc = attend_tiles(
        q, k, v, k_head_ptr, v_head_ptr, k_offsets, v_offsets, k_stride_t, v_stride_t,
        begin, end, scale_log2, running_max, GROUP_PADDED, HEAD_DIM, TILE_TOKENS,
    )  # fmt: skip
    # The new token joins last.
    new_scores = tl.sum(q.to(tl.float32) * new_k.to(tl.float32), axis=1) * scale_log2
    new_scores = tl.where(has_new, new_scores, float("-inf"))
    new_max = tl.maximum(running_max, new_scores)
    decay = tl.exp2(running_max - new_max)
    new_weight = tl.exp2(new_scores - new_max)
    weight_sum = weight_sum * decay + new_weight
    acc = acc * decay[:, None] + new_weight[:, None] * new_v.to(tl.float32)
    running_max = new_max
    leave_result(
        acc, running_max, weight_sum, out_ptr, partial_ptr, lse_ptr, arrivals_ptr,
        pair, split, active_splits,
        SPLITS, GROUP, GROUP_PADDED, HEAD_DIM, COMBINE_ROWS, COMBINE_UNROLL,
    )  # fmt: skip


def launch_rope_decode(
    qkv: torch.Tensor,
    cos: torch.Tensor | None,
    sin: torch.Tensor | None,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    position: torch.Tensor,
    norm_eps: float | None = None,
    plan: Plan | None = None,
) -> torch.Tensor:
    """The Triton kernel, on the current device and stream. plan None: the one of choose_plan."""
    out = _empty_output(qkv, k_cache.shape[1])
    check_caches("rope_decode", qkv, out.shape[1], k_cache, v_cache)
    angles = [tensor for tensor in (cos, sin) if tensor is not None]
    if len(angles) == 1 or any(tensor.numel() != qkv.shape[-1] for tensor in angles):
        raise ValueError("rope_decode: cos and sin must be those of one position")
    if not (qkv.is_contiguous() and all(tensor.stride(-1) == 1 for tensor in angles)):
        raise ValueError("rope_decode: qkv, cos and sin must be contiguous")
    caches = k_cache, v_cache
    is_one_row = qkv.shape[0] == 1
    launch = prepare("rope_decode", qkv, out.shape[1], *caches, plan=plan, beside_others=is_one_row)
    _rope_decode_kernel[launch.grid](
        qkv,
        cos,
        sin,
        k_cache,
        v_cache,
        position,
        out,
        *launch.workspace,
        *launch.strides,
        launch.scale_log2,
        norm_eps,
        ROTATES=cos is not None,
        STEP_TOKENS=launch.plan.step_tokens,
        AHEAD=launch.plan.ahead,
        **launch.settings,
    )
    return out


def _empty_output(qkv: torch.Tensor, kv_heads: int) -> torch.Tensor:
    batch, rows, head_dim = qkv.shape
    return qkv.new_empty((batch, rows - 2 * kv_heads, head_dim))


def _fake(
    qkv: torch.Tensor,
    cos: torch.Tensor | None,
    sin: torch.Tensor | None,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    position: torch.Tensor,
    norm_eps: float | None = None,
) -> torch.Tensor:
    refuse_shared_storage("rope_decode", k_cache, v_cache)
    return _empty_output(qkv, k_cache.shape[1])


_operator = register_operator(
    "rope_decode",
    rope_decode_reference,
    launch_rope_decode,
    _fake,
    mutates_args=("k_cache", "v_cache"),
)
