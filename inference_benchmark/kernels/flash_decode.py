"""Attention of one new token per sequence over the filled part of its KV cache (flash-decoding).

The work is reading: K and V once each, 4 x kv_heads x head_dim bytes per token of context in a
2-byte dtype, and a few FLOPs per byte. At batch 1 and 1,500 tokens that is 6 MB a layer, 1.5 us at
4.2 TB/s - if every multiprocessor reads. One program per KV head would leave most of the GPU idle,
so the sequence is split as well: each program attends to a chunk with an online softmax and writes
a normalised partial result and the log2 of its softmax denominator; the last program of each
(sequence, KV head) to arrive combines them. The query heads of a group share each tile of K and V,
padded to the 16 rows of a tensor core tile.

How the context is cut follows from the position, which is read on the device: a captured graph
serves every position, a short context is spread over all programs too, and what lies beyond the
position is never read. How many programs there are follows from static shapes alone.
"""

from __future__ import annotations

import torch

from inference_benchmark.kernels._registration import jit, register_operator, tl
from inference_benchmark.kernels.attention_plan import Plan, check_caches, prepare, softmax_scale
from inference_benchmark.kernels.split_attention import attend_tiles, chunk_tokens, leave_result


def flash_decode(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    position: torch.Tensor,
    scale: float | None = None,
) -> torch.Tensor:
    """Attention of q [batch, heads, head_dim] over the slots 0 .. position of the caches.

    k_cache, v_cache [batch, kv_heads, cache_length, head_dim]: unit last stride, others arbitrary;
    heads is a multiple of kv_heads, and head h reads KV head h // (heads / kv_heads). position:
    int64 [1] on the device, less than cache_length (not checked: that would need a
    synchronisation). scale: of the scores, 1 / sqrt(head_dim) if None. Returns [batch, heads,
    head_dim], contiguous, in the dtype of q, accumulated in fp32.

    On a GPU head_dim is a power of two of at least 16 (ValueError), and calls of the same
    batch * kv_heads must not run concurrently on two streams: they share arrival counters.
    """
    return _operator(q, k_cache, v_cache, position, scale)


def flash_decode_reference(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    position: torch.Tensor,
    scale: float | None = None,
) -> torch.Tensor:
    """The same in plain PyTorch; float64 inputs are computed in float64. Synchronises on a GPU."""
    batch, heads, head_dim = q.shape
    kv_heads, length = k_cache.shape[1], int(position) + 1
    dtype = torch.promote_types(q.dtype, torch.float32)
    grouped = q.to(dtype).reshape(batch, kv_heads, heads // kv_heads, head_dim)
    scores = grouped @ k_cache[:, :, :length].to(dtype).mT * softmax_scale(scale, head_dim)
    out = scores.softmax(dim=-1) @ v_cache[:, :, :length].to(dtype)  # [batch, kv_heads, group, dim]
    return out.reshape(batch, heads, head_dim).to(q.dtype)


@jit
def _flash_decode_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    position_ptr,
    out_ptr,
    partial_ptr,
    lse_ptr,
    arrivals_ptr,
    q_stride_b,
    q_stride_h,
    k_stride_b,
    k_stride_h,
    k_stride_t,
    v_stride_b,
    v_stride_h,
    v_stride_t,
    scale_log2,
    KV_HEADS: tl.constexpr,
    SPLITS: tl.constexpr,
    GROUP: tl.constexpr,
    GROUP_PADDED: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    TILE_TOKENS: tl.constexpr,
    COMBINE_ROWS: tl.constexpr,
    COMBINE_UNROLL: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
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
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()

    # Before the position, whose value all addresses of K and V wait for: one latency, not two.
    q_offsets = (kv_head * GROUP + rows)[:, None] * q_stride_h + dims[None, :]
    q = tl.load(q_ptr + batch * q_stride_b + q_offsets, mask=is_head[:, None], other=0.0)
    length = tl.load(position_ptr).to(tl.int32) + 1
    chunk = chunk_tokens(length, SPLITS, TILE_TOKENS)
    begin = split * chunk
    if begin >= length:
        return
    end = tl.minimum(begin + chunk, length)
    active_splits = tl.cdiv(length, chunk)

    k_head_ptr = k_ptr + batch * k_stride_b + kv_head * k_stride_h
    v_head_ptr = v_ptr + batch * v_stride_b + kv_head * v_stride_h
    k_offsets = tokens[:, None] * k_stride_t + dims[None, :]
    v_offsets = tokens[:, None] * v_stride_t + dims[None, :]

    running_max = tl.full([GROUP_PADDED], float("-inf"), tl.float32)
    running_max, weight_sum, acc = attend_tiles(
        q,
        None,
        None,
        k_head_ptr,
        v_head_ptr,
        k_offsets,
        v_offsets,
        k_stride_t,
        v_stride_t,
        begin,
        end,
        scale_log2,
        running_max,
        GROUP_PADDED,
        HEAD_DIM,
        TILE_TOKENS,
    )
    leave_result(
        acc,
        running_max,
        weight_sum,
        out_ptr,
        partial_ptr,
        lse_ptr,
        arrivals_ptr,
        pair,
        split,
        active_splits,
        SPLITS,
        GROUP,
        GROUP_PADDED,
        HEAD_DIM,
        COMBINE_ROWS,
        COMBINE_UNROLL,
    )


def launch_flash_decode(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    position: torch.Tensor,
    scale: float | None = None,
    plan: Plan | None = None,
) -> torch.Tensor:
    """The Triton kernel, on the current device and stream. plan None: the one of choose_plan."""
    check_caches("flash_decode", q, q.shape[1], k_cache, v_cache)
    out = _empty_output(q)
    launch = prepare("flash_decode", q, q.shape[1], k_cache, v_cache, scale, plan)
    _flash_decode_kernel[launch.grid](
        q,
        k_cache,
        v_cache,
        position,
        out,
        *launch.workspace,
        *q.stride()[:2],
        *launch.strides,
        launch.scale_log2,
        **launch.settings,
    )
    return out


def _empty_output(q: torch.Tensor) -> torch.Tensor:
    return torch.empty(q.shape, dtype=q.dtype, device=q.device)


def _fake(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    position: torch.Tensor,
    scale: float | None = None,
) -> torch.Tensor:
    return _empty_output(q)


_operator = register_operator("flash_decode", flash_decode_reference, launch_flash_decode, _fake)
