"""One row times nf4's weights, read once: sums of whole numbers.

As in integer_gemv an instruction multiplies four bytes with four others and adds them up. The levels
of nf4 are bytes too, those of a half of them in one unit and those of the other half in another; four
are looked up at once in each half, by permuting bytes that registers hold (nf4_levels, nf4_sums).

A program keeps its part of x in registers and goes from rows to rows; the next ones are requested
before the present ones are multiplied.
"""

from __future__ import annotations

import torch

from inference_benchmark.kernels._registration import jit, programmatic_launch, tl
from inference_benchmark.kernels.fixed_point import block_powers, largest_of_four, signed_bytes
from inference_benchmark.kernels.integers import cdiv
from inference_benchmark.kernels.nf4_levels import MEAN_ERROR, UNIT, byte_tables
from inference_benchmark.kernels.nf4_scales import (
    load_scale_scales,
    rows_of_a_scale,
    scale_of,
)
from inference_benchmark.kernels.nf4_sums import excess_of, group_sums
from inference_benchmark.kernels.packed_matrix import (
    MOST_WARPS,
    ROW_DTYPES,
    PackedMatrix,
    RowPlan,
)
from inference_benchmark.kernels.packed_words import SCALE_BLOCK, load_pairs
from inference_benchmark.kernels.result_shapes import fake_linear, fake_swiglu
from inference_benchmark.kernels.row_sums import sum_threads, sum_tiles
from inference_benchmark.kernels.row_swiglu import store_rows
from inference_benchmark.kernels.row_words import (
    first_tile,
    fourths,
    inside_matrix,
    load_where_used,
    load_words,
)

_TABLES = byte_tables()


def choose_plan(packed: PackedMatrix) -> RowPlan:
    """The best of 12 to 19 plans on an H200, or nearly, on the matrices of Llama 3.1 8B
    (results/trials/packed_rows.json); in us, beside the time of their bytes at 4.36 TB/s:

        matrix            [out, in]     nf4  bytes  plan
        qkv               6144, 4096     5.6    3.0  8, 2, 4
        o                 4096, 4096     4.9    2.0  8, 1, 4
        gate, up, SwiGLU  28672, 4096   22.8   13.9  8, 2, 4, 128 registers
        down              4096, 14336   13.2    6.9  2, 8, 8
    """
    warps = packed.row_warps
    if warps > 8:  # of 8 words or more for each thread
        return RowPlan(rows=2, tiles=8, num_warps=min(warps // 2, MOST_WARPS))
    if packed.out_features <= 4096:
        return RowPlan(rows=8, tiles=1, num_warps=warps)
    # Without the limit 142 registers, with which a multiprocessor has three programs instead of four.
    most_registers = 128 if packed.out_features > 8192 else None
    return RowPlan(rows=8, tiles=2, num_warps=warps, most_registers=most_registers)


@jit
def _load_x(
    x_ptr, blocks, IN_FEATURES: tl.constexpr, MEAN_ERROR: tl.constexpr, BY_HAND: tl.constexpr
):
    """x of words' halves: for each of the four words that a thread loads at a time a word of upper bytes
    and one of lower ones, [blocks, 1, 4] each, and by what sums of their products are too large, for both
    groups of a block; and what a whole number of x stands for, [blocks]."""
    BLOCKS: tl.constexpr = blocks.numel
    lanes = tl.arange(0, 16)
    pairs = blocks[:, None] * 64 + lanes[None, :]
    a0, b0 = load_pairs(x_ptr, pairs, IN_FEATURES)
    a1, b1 = load_pairs(x_ptr, pairs + 16, IN_FEATURES)
    a2, b2 = load_pairs(x_ptr, pairs + 32, IN_FEATURES)
    a3, b3 = load_pairs(x_ptr, pairs + 48, IN_FEATURES)
    largest = largest_of_four(a0, b0, a1, b1)
    factors, inverses = block_powers(tl.maximum(largest, largest_of_four(a2, b2, a3, b3)))
    # Up to 2^15, but for what keeps the largest, rounded, within two bytes with signs.
    factors *= 2 * 255 / 256
    inverses *= 256 / (2 * 255)
    upper0, lower0 = signed_bytes(a0, b0, a1, b1, factors, BY_HAND)
    upper1, lower1 = signed_bytes(a2, b2, a3, b3, factors, BY_HAND)
    u0, l0 = fourths(upper0[:, None, :], BLOCKS, 1), fourths(lower0[:, None, :], BLOCKS, 1)
    u1, l1 = fourths(upper1[:, None, :], BLOCKS, 1), fourths(lower1[:, None, :], BLOCKS, 1)
    first = (u0, l0, excess_of(u0, l0, MEAN_ERROR, BY_HAND))
    second = (u1, l1, excess_of(u1, l1, MEAN_ERROR, BY_HAND))
    return first, second, inverses


@jit
def _load_tile(
    words_at, scales_at, scale_scales_ptr, start, half, in_tile, numbers, inside,
    FURTHER: tl.constexpr, ROW_BLOCKS: tl.constexpr, MASKED: tl.constexpr, WHOLE: tl.constexpr,
    ROWS: tl.constexpr, SCALE_ROWS: tl.constexpr, SCALE_BLOCK: tl.constexpr, SWIGLU: tl.constexpr,
    BY_HAND: tl.constexpr,
):  # fmt: skip
    """Of the tile that begins FURTHER rows behind the first one (whose places and numbers these are) the
    words, both scales of each block in 16 bits, and what these are multiplied by."""
    words = load_words(words_at + FURTHER * ROW_BLOCKS * 16, inside, MASKED)
    scales_at += FURTHER * ROW_BLOCKS
    scales = load_where_used(scales_at, inside, "b16", "h", not WHOLE, BY_HAND)
    scale_scales = load_scale_scales(
        scale_scales_ptr, start + FURTHER, half, in_tile, numbers + FURTHER * ROW_BLOCKS, inside,
        ROWS, SCALE_ROWS, SCALE_BLOCK, SWIGLU, not WHOLE, BY_HAND,
    )  # fmt: skip
    return words, scales, scale_scales


@jit
def _tile_sums(
    words, first, second, scales0, scales1,
    TABLES: tl.constexpr, EXCHANGED: tl.constexpr, BY_HAND: tl.constexpr,
):  # fmt: skip
    """Words [blocks, rows, 16] times x (first, second: of a block's groups, as _load_x has it) and their
    groups' scales -> [blocks, rows]."""
    BLOCKS: tl.constexpr = words.shape[0]
    ROWS: tl.constexpr = words.shape[1]
    w0, w1, w2, w3 = fourths(words, BLOCKS, ROWS)
    v0, v1, v2, v3 = w0 >> 16, w1 >> 16, w2 >> 16, w3 >> 16
    sums0 = group_sums(w0, w1, w2, w3, first[0], first[1], first[2], TABLES, BY_HAND)
    sums1 = group_sums(v0, v1, v2, v3, second[0], second[1], second[2], TABLES, BY_HAND)
    parts = sums0.to(tl.float32) * scales0 + sums1.to(tl.float32) * scales1
    return sum_threads(parts, EXCHANGED)


@jit
def _nf4_gemv_kernel(
    x_ptr,  # [IN_FEATURES]
    words_ptr,  # [out_features, ROW_BLOCKS * 16]
    scales_ptr,
    scale_scales_ptr,
    scale_mean_ptr,
    out_ptr,  # [out_features], with SWIGLU half of that
    out_features,
    IN_FEATURES: tl.constexpr,
    ROW_BLOCKS: tl.constexpr,
    SCALE_BLOCK: tl.constexpr,
    UNIT: tl.constexpr,
    MEAN_ERROR: tl.constexpr,
    TABLES: tl.constexpr,
    BLOCKS: tl.constexpr,  # a power of two that covers ROW_BLOCKS
    ROWS: tl.constexpr,
    TILES: tl.constexpr,
    WHOLE: tl.constexpr,  # whether the last program has all its rows, too
    SCALE_ROWS: tl.constexpr,  # that share a scale of scales, or 0
    SWIGLU: tl.constexpr,
    EXCHANGED: tl.constexpr,  # as sum_threads has it
    BY_HAND: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
):
    blocks = tl.arange(0, BLOCKS)
    first_row = tl.program_id(0) * (ROWS * TILES)
    rows = tl.arange(0, ROWS)
    TILE_ROWS: tl.constexpr = ROWS // 2 if SWIGLU else ROWS  # side by side in the matrix
    words_at, numbers, start = first_tile(
        words_ptr, first_row, rows, blocks, out_features, ROW_BLOCKS, SWIGLU
    )
    in_tile = tl.broadcast_to(rows[None, :, None], (BLOCKS, ROWS, 4))
    scales_at = scales_ptr.to(tl.pointer_type(tl.int16)) + numbers
    MASKED: tl.constexpr = (not WHOLE) or BLOCKS != ROW_BLOCKS
    rows += first_row
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_launch_dependents()
    inside = inside_matrix(blocks, rows, out_features, ROW_BLOCKS, WHOLE)
    tile, scales, scale_scales = _load_tile(
        words_at, scales_at, scale_scales_ptr, start, out_features // 2, in_tile, numbers, inside,
        0, ROW_BLOCKS, MASKED, WHOLE, ROWS, SCALE_ROWS, SCALE_BLOCK, SWIGLU, BY_HAND,
    )  # fmt: skip
    mean = tl.load(scale_mean_ptr)
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()
    first, second, inverses = _load_x(x_ptr, blocks, IN_FEATURES, MEAN_ERROR, BY_HAND)
    inverses = inverses[:, None, None] * (1.0 / UNIT)
    mean *= inverses

    results = ()
    for number in tl.static_range(TILES):
        words = tile.to(tl.uint32, bitcast=True)
        scale_scales *= inverses
        scales0 = scale_of(scales & 255, scale_scales, mean)
        scales1 = scale_of((scales >> 8) & 255, scale_scales, mean)
        if number + 1 < TILES:
            next_rows = rows + (number + 1) * ROWS
            inside = inside_matrix(blocks, next_rows, out_features, ROW_BLOCKS, WHOLE)
            tile, scales, scale_scales = _load_tile(
                words_at, scales_at, scale_scales_ptr, start, out_features // 2, in_tile, numbers,
                inside, (number + 1) * TILE_ROWS,
                ROW_BLOCKS, MASKED, WHOLE, ROWS, SCALE_ROWS, SCALE_BLOCK, SWIGLU, BY_HAND,
            )  # fmt: skip
        sums = _tile_sums(words, first, second, scales0, scales1, TABLES, EXCHANGED, BY_HAND)
        results = results + (sums,)
    result = sum_tiles(results, TILES)
    store_rows(out_ptr, result, first_row, out_features, ROWS * TILES, SWIGLU)


def launch_nf4_gemv(
    x: torch.Tensor, packed: PackedMatrix, plan: RowPlan | None = None, swiglu: bool = False
) -> torch.Tensor:
    """x [..., in_features] of one row times packed words of nf4, or silu(gate) * up of its halves, on
    the current device and stream."""
    packed.check_fits(x)
    in_features, out_features = x.shape[-1], packed.out_features
    if x.numel() != in_features or x.dtype not in ROW_DTYPES:
        raise ValueError(f"nf4 gemv: x {tuple(x.shape)} is not one row of bf16 or fp16")
    plan = plan or choose_plan(packed)
    out = (fake_swiglu if swiglu else fake_linear)(x, packed.words)
    whole = out_features % (plan.rows * plan.tiles) == 0
    programmatic = programmatic_launch(x.device)
    _nf4_gemv_kernel[(cdiv(out_features, plan.rows * plan.tiles),)](
        x,
        packed.words,
        packed.scales,
        packed.scale_scales,
        packed.scale_mean,
        out,
        out_features,
        IN_FEATURES=in_features,
        ROW_BLOCKS=packed.row_blocks,
        SCALE_BLOCK=SCALE_BLOCK,
        UNIT=UNIT,
        MEAN_ERROR=MEAN_ERROR,
        TABLES=_TABLES,
        BLOCKS=packed.padded_row_blocks,
        ROWS=plan.rows,
        TILES=plan.tiles,
        WHOLE=whole,
        SCALE_ROWS=rows_of_a_scale(packed, plan, whole, swiglu),
        SWIGLU=swiglu,
        EXCHANGED=plan.fills_warps(packed.padded_row_blocks),
        BY_HAND=plan.by_hand,
        PROGRAMMATIC=programmatic,
        num_warps=plan.num_warps,
        maxnreg=plan.most_registers,
        launch_pdl=programmatic,
    )
    return out
