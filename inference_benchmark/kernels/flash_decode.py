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

import math
from dataclasses import dataclass

import torch

from inference_benchmark.kernels._registration import (
    jit,
    multiprocessor_count,
    programmatic_launch,
    register_operator,
    tl,
    triton,
)
from inference_benchmark.kernels.arrivals import arrival_counters
from inference_benchmark.kernels.split_attention import attend_tile, chunk_tokens, leave_result

# Programs launched per multiprocessor at most. On an H200 one beats two: 6.7 against 7.8 us at batch
# 1 and 1,500 tokens (fewer partial results to combine), 48 against 55 us at batch 32.
PROGRAMS_PER_MULTIPROCESSOR = 1
# Bytes of one tile of K (and of V); the tile's length in tokens follows from it.
TILE_BYTES = 16384
MIN_TILE_TOKENS = 16  # the least a tensor core takes
MAX_TILE_TOKENS = 128
# Steps of the software pipeline: the tiles of all but one of them are on their way at a time.
NUM_STAGES = 3
# Where few tiles follow each other. A kernel of more than 48 KiB of shared memory takes L1 away, from
# the kernels after it as well, which start before it has ended: beside ours that read vectors from L1
# a layer of Llama 3.1 8B took 125 us on an H200 with three steps here, 114 with two.
NUM_STAGES_OF_FEW_TILES = 2
FEW_TILES = 8
NUM_WARPS = 4
# Partial results that are on their way from L2 at a time while they are combined.
COMBINE_UNROLL = 16
MIN_DOT_ROWS = 16
MIN_HEAD_DIM = 16
LOG2_E = math.log2(math.e)


@dataclass(frozen=True)
class Plan:
    """How one call is cut and compiled. A function of static shapes, never of the position."""

    splits: int  # programs per (sequence, KV head)
    tile_tokens: int
    num_warps: int = NUM_WARPS
    num_stages: int = NUM_STAGES
    combine_unroll: int = COMBINE_UNROLL


def choose_plan(
    pairs: int, cache_length: int, head_dim: int, element_bytes: int, multiprocessors: int
) -> Plan:
    """The plan for batch * kv_heads = pairs independent attentions over cache_length slots."""
    one_tile_each = cache_length * pairs // multiprocessors  # tokens, if all were to have work
    tile_tokens = min(TILE_BYTES // (head_dim * element_bytes), one_tile_each, MAX_TILE_TOKENS)
    tile_tokens = power_of_2_at_most(max(tile_tokens, MIN_TILE_TOKENS))
    splits = max(1, PROGRAMS_PER_MULTIPROCESSOR * multiprocessors // pairs)
    splits = min(splits, cdiv(cache_length, tile_tokens))
    has_few_tiles = splits > 1 and cdiv(cache_length, splits * tile_tokens) <= FEW_TILES
    num_stages = NUM_STAGES_OF_FEW_TILES if has_few_tiles else NUM_STAGES
    return Plan(splits, tile_tokens, num_stages=num_stages)


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
    scores = grouped @ k_cache[:, :, :length].to(dtype).mT * _scale(scale, head_dim)
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
    # The sum over a tile's columns crosses warps, so it is taken once, after the loop.
    weight_sums = tl.zeros([GROUP_PADDED, TILE_TOKENS], tl.float32)
    acc = tl.zeros([GROUP_PADDED, HEAD_DIM], tl.float32)
    for start in range(begin, end, TILE_TOKENS):
        filled = start + tokens < end
        first = tl.cast(start, tl.int64)
        # Masked, not only ignored: an unwritten slot may hold NaN, and 0 * NaN is NaN.
        k = tl.load(k_head_ptr + first * k_stride_t + k_offsets, mask=filled[:, None], other=0.0)
        v = tl.load(v_head_ptr + first * v_stride_t + v_offsets, mask=filled[:, None], other=0.0)
        running_max, weight_sums, acc = attend_tile(
            q, k, v, filled, scale_log2, running_max, weight_sums, acc
        )

    weight_sum = tl.sum(weight_sums, axis=1)
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
    _check(q, k_cache, v_cache)
    batch, heads, head_dim = q.shape
    kv_heads, cache_length = k_cache.shape[1:3]
    pairs, group = batch * kv_heads, heads // kv_heads
    plan = plan or choose_plan(
        pairs, cache_length, head_dim, q.element_size(), multiprocessor_count(q.device)
    )
    out = _empty_output(q)
    single = plan.splits == 1
    partial, lse = (None, None) if single else _workspace(pairs * plan.splits * group, head_dim, q)
    combine_rows = triton.next_power_of_2(group)
    programmatic = programmatic_launch(q.device)
    _flash_decode_kernel[(pairs, plan.splits)](
        q,
        k_cache,
        v_cache,
        position,
        out,
        partial,
        lse,
        None if single else arrival_counters("flash_decode", q.device, pairs),
        *q.stride()[:2],
        *k_cache.stride()[:3],
        *v_cache.stride()[:3],
        _scale(scale, head_dim) * LOG2_E,
        KV_HEADS=kv_heads,
        SPLITS=plan.splits,
        GROUP=group,
        GROUP_PADDED=max(MIN_DOT_ROWS, combine_rows),
        HEAD_DIM=head_dim,
        TILE_TOKENS=plan.tile_tokens,
        COMBINE_ROWS=combine_rows,
        COMBINE_UNROLL=plan.combine_unroll,
        PROGRAMMATIC=programmatic,
        num_warps=plan.num_warps,
        num_stages=plan.num_stages,
        launch_pdl=programmatic,
    )
    return out


def _workspace(rows: int, head_dim: int, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Room for the partial results [rows, head_dim] and their log2 denominators [rows], fp32."""
    return (
        torch.empty((rows, head_dim), dtype=torch.float32, device=q.device),
        torch.empty(rows, dtype=torch.float32, device=q.device),
    )


def _scale(scale: float | None, head_dim: int) -> float:
    return 1.0 / math.sqrt(head_dim) if scale is None else scale


def cdiv(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


def power_of_2_at_most(number: int) -> int:
    return 1 << (number.bit_length() - 1)


def _check(q: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor) -> None:
    batch, heads, head_dim = q.shape
    if head_dim < MIN_HEAD_DIM or head_dim & (head_dim - 1):
        raise ValueError(
            f"flash_decode: head_dim {head_dim} is not a power of two of at least {MIN_HEAD_DIM}"
        )
    kv_heads = k_cache.shape[1]
    fits = k_cache.shape == v_cache.shape and k_cache.shape[::3] == (batch, head_dim)
    if not fits or heads % kv_heads:
        raise ValueError(
            f"flash_decode: q {tuple(q.shape)}, k_cache {tuple(k_cache.shape)} and v_cache "
            f"{tuple(v_cache.shape)} do not fit"
        )
    if any(tensor.stride(-1) != 1 for tensor in (q, k_cache, v_cache)):
        raise ValueError("flash_decode: the elements of a head must be contiguous")


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
