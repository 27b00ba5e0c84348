"""One row times nf4's weights, read once.

The levels of nf4 are no integers: they are looked up, by a shuffle among the lanes of a warp, each
of which holds one. That is one instruction per weight, half as many a clock as others, besides the
shift that brings its bits into place and the product: looking up takes longer than reading.

A program keeps its part of x in registers and goes from rows to rows; the next ones are requested
before the present ones are multiplied.

A thread loads four neighbouring words, and for each place in them eight neighbouring values of x.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from inference_benchmark.kernels._registration import jit, programmatic_launch, tl
from inference_benchmark.kernels.integers import cdiv, next_power_of_2
from inference_benchmark.kernels.packed_matrix import PackedMatrix
from inference_benchmark.kernels.packed_words import (
    SCALE_BLOCK,
    load_levels,
    load_pairs,
    look_up,
)

_X_PER_THREAD = 32  # registers of a thread that hold x, for 4 words of each row
_MOST_WARPS = 16


@dataclass(frozen=True)
class Plan:
    """How one matrix [out_features, in_features] is cut."""

    rows: int  # of the matrix, at a time
    tiles: int  # of so many rows, per program
    num_warps: int
    lookup: str = "shuffle"  # of nf4's levels; "gather" is for the interpreter


def choose_plan(out_features: int, in_features: int) -> Plan:
    """Chosen on an H200 among rows 2 to 8, tiles 1 to 12 and two numbers of warps, on the matrices
    of Llama 3.1 8B."""
    warps = next_power_of_2(cdiv(in_features, 32 * _X_PER_THREAD))
    if warps > _MOST_WARPS:  # more of x per thread, so fewer rows
        return Plan(rows=2, tiles=8, num_warps=_MOST_WARPS)
    if warps == _MOST_WARPS:
        return Plan(rows=2, tiles=8, num_warps=warps)
    return Plan(rows=4, tiles=2 if out_features <= 8192 else 4, num_warps=warps)


@jit
def _level(words, table, SHIFT: tl.constexpr, LOOKUP: tl.constexpr):
    return look_up(table, words >> SHIFT, LOOKUP).to(tl.float32, bitcast=True)


@jit
def _load_tile(
    words_ptr, scales_ptr, scale_scales_ptr, rows, blocks, lanes, out_features,
    ROW_BLOCKS: tl.constexpr, SCALE_BLOCK: tl.constexpr,
):  # fmt: skip
    """Words [blocks, rows, 16]; of both groups of a block their scales, of a block the scale of
    these, [blocks, rows]."""
    inside = (rows < out_features)[None, :] & (blocks < ROW_BLOCKS)[:, None]
    numbers = rows.to(tl.int64)[None, :] * ROW_BLOCKS + blocks[:, None]
    # In this order Triton gives neighbouring threads neighbouring words of a row.
    words_at = words_ptr + numbers[:, :, None] * 16 + lanes[None, None, :]
    words = tl.load(words_at, mask=inside[:, :, None], other=0, eviction_policy="evict_first")
    first = tl.load(scales_ptr + 2 * numbers, mask=inside, other=0.0)
    second = tl.load(scales_ptr + 2 * numbers + 1, mask=inside, other=0.0)
    of_both = tl.load(scale_scales_ptr + 2 * numbers // SCALE_BLOCK, mask=inside, other=0.0)
    return words, first, second, of_both


@jit
def _nf4_gemv_kernel(
    x_ptr,  # [IN_FEATURES]
    words_ptr,  # [out_features, ROW_BLOCKS * 16]
    scales_ptr,
    scale_scales_ptr,
    scale_mean_ptr,
    levels_ptr,
    out_ptr,  # [out_features]
    out_features,
    IN_FEATURES: tl.constexpr,
    ROW_BLOCKS: tl.constexpr,
    SCALE_BLOCK: tl.constexpr,
    BLOCKS: tl.constexpr,  # a power of two that covers ROW_BLOCKS
    ROWS: tl.constexpr,
    TILES: tl.constexpr,
    LOOKUP: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
):
    blocks = tl.arange(0, BLOCKS)
    lanes = tl.arange(0, 16)
    first_row = tl.program_id(0) * (ROWS * TILES)
    row_numbers = tl.arange(0, ROWS)
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_launch_dependents()
    tile, first, second, of_both = _load_tile(
        words_ptr, scales_ptr, scale_scales_ptr, first_row + row_numbers, blocks, lanes,
        out_features, ROW_BLOCKS, SCALE_BLOCK,
    )  # fmt: skip
    mean = tl.load(scale_mean_ptr)
    table = load_levels(levels_ptr, LOOKUP)
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()
    pairs = blocks[:, None] * 64 + lanes[None, :]
    x0, x1 = load_pairs(x_ptr, pairs, IN_FEATURES)
    x2, x3 = load_pairs(x_ptr, pairs + 16, IN_FEATURES)
    x4, x5 = load_pairs(x_ptr, pairs + 32, IN_FEATURES)
    x6, x7 = load_pairs(x_ptr, pairs + 48, IN_FEATURES)
    for number in tl.range(0, TILES):
        words = tile.to(tl.uint32, bitcast=True)
        low_scales = (first.to(tl.float32) * of_both + mean)[:, :, None]
        high_scales = (second.to(tl.float32) * of_both + mean)[:, :, None]
        rows = first_row + number * ROWS + row_numbers
        following = tl.where(number + 1 < TILES, rows + ROWS, out_features)
        tile, first, second, of_both = _load_tile(
            words_ptr, scales_ptr, scale_scales_ptr, following, blocks, lanes,
            out_features, ROW_BLOCKS, SCALE_BLOCK,
        )  # fmt: skip
        low = _level(words, table, 0, LOOKUP) * x0[:, None, :]
        low += _level(words, table, 4, LOOKUP) * x1[:, None, :]
        low += _level(words, table, 8, LOOKUP) * x2[:, None, :]
        low += _level(words, table, 12, LOOKUP) * x3[:, None, :]
        high = _level(words, table, 16, LOOKUP) * x4[:, None, :]
        high += _level(words, table, 20, LOOKUP) * x5[:, None, :]
        high += _level(words, table, 24, LOOKUP) * x6[:, None, :]
        high += _level(words, table, 28, LOOKUP) * x7[:, None, :]
        result = tl.sum(tl.sum(low * low_scales + high * high_scales, axis=2), axis=0)
        tl.store(out_ptr + rows, result.to(out_ptr.dtype.element_ty), mask=rows < out_features)


def launch_nf4_gemv(
    x: torch.Tensor, packed: PackedMatrix, plan: Plan | None = None
) -> torch.Tensor:
    """x [..., in_features] of one row times packed words of nf4, on the current device and stream.

    Products and sums are in fp32, rounded once.
    """
    packed.check_fits(x)
    in_features, out_features = x.shape[-1], packed.out_features
    if x.numel() != in_features:
        raise ValueError(f"nf4 gemv: x {tuple(x.shape)} is not one row")
    plan = plan or choose_plan(out_features, in_features)
    out = torch.empty((*x.shape[:-1], out_features), dtype=x.dtype, device=x.device)
    programmatic = programmatic_launch(x.device)
    _nf4_gemv_kernel[(cdiv(out_features, plan.rows * plan.tiles),)](
        x,
        packed.words,
        packed.scales,
        packed.scale_scales,
        packed.scale_mean,
        packed.levels,
        out,
        out_features,
        IN_FEATURES=in_features,
        ROW_BLOCKS=packed.row_blocks,
        SCALE_BLOCK=SCALE_BLOCK,
        BLOCKS=packed.padded_row_blocks,
        ROWS=plan.rows,
        TILES=plan.tiles,
        LOOKUP=plan.lookup,
        PROGRAMMATIC=programmatic,
        num_warps=plan.num_warps,
        launch_pdl=programmatic,
    )
    return out
