"""One row times weights of 8 or 4 bits, read once: sums of whole numbers.

A multiprocessor has about four instructions for a weight of 4 bits in the time it takes to read it,
so weights are not widened: an instruction multiplies four bytes with four others and adds them up.
The other factor is x in fixed point (fixed_point): its high and its low bytes are two operands. Sums
of a block are exact; blocks are added up in fp32, times their scales.

A program keeps its x in registers and goes from rows to rows; the next ones are requested before
the present ones are multiplied.
"""

from __future__ import annotations

import torch

from inference_benchmark.kernels._registration import jit, programmatic_launch, tl
from inference_benchmark.kernels.fixed_point import (
    as_integers,
    block_powers,
    largest_of_four,
    pack_both_bytes,
)
from inference_benchmark.kernels.integer_dots import integer_dots
from inference_benchmark.kernels.integers import cdiv
from inference_benchmark.kernels.packed_matrix import (
    MOST_WARPS,
    ROW_DTYPES,
    PackedMatrix,
    RowPlan,
)
from inference_benchmark.kernels.packed_words import load_pairs
from inference_benchmark.kernels.result_shapes import fake_linear, fake_swiglu
from inference_benchmark.kernels.row_sums import sum_threads, sum_tiles
from inference_benchmark.kernels.row_swiglu import matrix_rows, store_rows
from inference_benchmark.kernels.row_words import (
    first_tile,
    fourths,
    inside_matrix,
    load_where_used,
    load_words,
)


def choose_plan(packed: PackedMatrix) -> RowPlan:
    """The best of 6 to 10 plans on an H200, or nearly, on the matrices of Llama 3.1 8B
    (results/trials/packed_rows.json); in us, beside the time of their bytes at 4.36 TB/s, the fourth
    number of a plan being the most registers of a thread:

        matrix            [out, in]     int4  bytes  plan         int8  bytes  plan
        qkv               6144, 4096     4.4    3.0  4, 2, 4, 72   7.5    5.8  8, 2, 8
        o                 4096, 4096     4.1    2.0  16, 1, 4      4.9    3.9  4, 2, 8, 64
        gate, up, SwiGLU  28672, 4096   17.6   13.9  4, 2, 4, 72  29.3   27.0  8, 2, 8
        down              4096, 14336   11.2    6.9  2, 8, 8      17.4   13.5  2, 4, 16
    """
    warps = packed.row_warps
    is_tall = packed.out_features > 4096
    if packed.weight_format == "int8":
        if warps > 8:
            return RowPlan(rows=2, tiles=4, num_warps=MOST_WARPS)
        if is_tall:
            return RowPlan(rows=8, tiles=2, num_warps=warps)
        return RowPlan(rows=4, tiles=2, num_warps=warps, most_registers=64)
    if warps > 8:  # of 8 words or more for each thread
        return RowPlan(rows=2, tiles=8, num_warps=min(warps // 2, MOST_WARPS))
    if is_tall:
        return RowPlan(rows=4, tiles=2, num_warps=warps, most_registers=72)
    return RowPlan(rows=16, tiles=1, num_warps=warps)


@jit
def _load_fixed_point(
    x_ptr, blocks, lanes, IN_FEATURES: tl.constexpr, FORMAT: tl.constexpr, BY_HAND: tl.constexpr
):  # fmt: skip
    """x of a word's columns, in the order in which a word of the format has them: of each of the four
    words that a thread loads at a time, [blocks, 1, 4], a word of high bytes (signed) and one of low
    ones, of 4 bits another two; and what an integer stands for, [blocks]."""
    BLOCKS: tl.constexpr = blocks.numel
    PAIRS: tl.constexpr = 32 if FORMAT == "int8" else 64  # of a block
    pairs = blocks[:, None] * PAIRS + lanes[None, :]
    a0, b0 = load_pairs(x_ptr, pairs, IN_FEATURES)
    a1, b1 = load_pairs(x_ptr, pairs + 16, IN_FEATURES)
    largest = largest_of_four(a0, b0, a1, b1)
    if FORMAT != "int8":
        a2, b2 = load_pairs(x_ptr, pairs + 32, IN_FEATURES)
        a3, b3 = load_pairs(x_ptr, pairs + 48, IN_FEATURES)
        largest = tl.maximum(largest, largest_of_four(a2, b2, a3, b3))
    factors, inverses = block_powers(largest)
    a0, b0 = as_integers(a0, factors), as_integers(b0, factors)
    a1, b1 = as_integers(a1, factors), as_integers(b1, factors)
    if FORMAT == "int8":
        high, low = pack_both_bytes(a0, a1, b0, b1, BY_HAND)
        x = (fourths(high[:, None, :], BLOCKS, 1), fourths(low[:, None, :], BLOCKS, 1))
    else:
        a2, b2 = as_integers(a2, factors), as_integers(b2, factors)
        a3, b3 = as_integers(a3, factors), as_integers(b3, factors)
        high, low = pack_both_bytes(a0, a2, b0, b2, BY_HAND)
        x = (fourths(high[:, None, :], BLOCKS, 1), fourths(low[:, None, :], BLOCKS, 1))
        high, low = pack_both_bytes(a1, a3, b1, b3, BY_HAND)
        x = x + (fourths(high[:, None, :], BLOCKS, 1), fourths(low[:, None, :], BLOCKS, 1))
    return x, inverses


@jit
def _load_beside(
    scales_ptr, zeros_ptr, numbers, inside,
    FORMAT: tl.constexpr, WHOLE: tl.constexpr, BY_HAND: tl.constexpr,
):  # fmt: skip
    """What blocks of 4 bits have beside their words: the scales' bits, and zeros or what is always one."""
    scales = tl.zeros((1, 1, 1), dtype=tl.int16)
    zeros = tl.full((1, 1, 1), 8, dtype=tl.int16)
    if FORMAT != "int8":
        scales_at = scales_ptr.to(tl.pointer_type(tl.int16)) + numbers
        scales = load_where_used(scales_at, inside, "b16", "h", not WHOLE, BY_HAND)
    if FORMAT == "int4_zeros":
        zeros_at = zeros_ptr + numbers
        if BY_HAND:
            zeros = tl.load(zeros_at, mask=inside, other=0).to(tl.int16)
        else:  # in a register of 16 bits
            zeros_at = zeros_at.to(tl.pointer_type(tl.int16))
            zeros = load_where_used(zeros_at, inside, "u8", "h", not WHOLE, BY_HAND)
    return scales, zeros


@jit
def _integer_gemv_kernel(
    x_ptr,  # [IN_FEATURES]
    words_ptr,  # [out_features, ROW_BLOCKS * 16]
    scales_ptr,
    zeros_ptr,
    out_ptr,  # [out_features], with SWIGLU half of that
    out_features,
    IN_FEATURES: tl.constexpr,
    ROW_BLOCKS: tl.constexpr,
    FORMAT: tl.constexpr,
    BLOCKS: tl.constexpr,  # a power of two that covers ROW_BLOCKS
    ROWS: tl.constexpr,
    TILES: tl.constexpr,
    WHOLE: tl.constexpr,  # whether the last program has all its rows, too
    SWIGLU: tl.constexpr,
    EXCHANGED: tl.constexpr,  # as sum_threads has it
    BY_HAND: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
):
    blocks = tl.arange(0, BLOCKS)
    lanes = tl.arange(0, 16)
    first_row = tl.program_id(0) * (ROWS * TILES)
    rows = tl.arange(0, ROWS)
    # Blocks of the matrix from one tile to the next.
    STEP: tl.constexpr = (ROWS // 2 if SWIGLU else ROWS) * ROW_BLOCKS
    words_at, numbers, _ = first_tile(
        words_ptr, first_row, rows, blocks, out_features, ROW_BLOCKS, SWIGLU
    )
    MASKED: tl.constexpr = (not WHOLE) or BLOCKS != ROW_BLOCKS
    rows += first_row
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_launch_dependents()
    inside = inside_matrix(blocks, rows, out_features, ROW_BLOCKS, WHOLE)
    tile = load_words(words_at, inside, MASKED)
    scales, zeros = _load_beside(scales_ptr, zeros_ptr, numbers, inside, FORMAT, WHOLE, BY_HAND)
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()

    x, inverses = _load_fixed_point(x_ptr, blocks, lanes, IN_FEATURES, FORMAT, BY_HAND)
    inverses = inverses[:, None, None]
    ones = tl.full((BLOCKS, 1, 4), 0x01010101 if FORMAT == "int8" else 0x11111111, dtype=tl.uint32)
    nothing = tl.zeros((BLOCKS, 1, 4), dtype=tl.int32)
    x_sums = integer_dots((ones, ones, ones, ones), x, nothing, FORMAT, BY_HAND)
    excess = x_sums * (128 if FORMAT == "int8" else 8)

    results = ()
    for number in tl.static_range(TILES):
        words = tile.to(tl.uint32, bitcast=True)
        factors = inverses
        if FORMAT != "int8":
            factors *= scales.to(tl.bfloat16, bitcast=True).to(tl.float32)
        if FORMAT == "int4_zeros":
            excess = x_sums * zeros.to(tl.int32)
        if number + 1 < TILES:
            further = (number + 1) * STEP
            next_rows = rows + (number + 1) * ROWS
            inside = inside_matrix(blocks, next_rows, out_features, ROW_BLOCKS, WHOLE)
            tile = load_words(words_at + further * 16, inside, MASKED)
            scales, zeros = _load_beside(
                scales_ptr, zeros_ptr, numbers + further, inside, FORMAT, WHOLE, BY_HAND
            )
        dots = integer_dots(fourths(words, BLOCKS, ROWS), x, excess, FORMAT, BY_HAND)
        results = results + (sum_threads(dots.to(tl.float32) * factors, EXCHANGED),)
    result = sum_tiles(results, TILES)
    if FORMAT == "int8":
        rows = first_row + tl.arange(0, ROWS * TILES)
        places = matrix_rows(rows, out_features, SWIGLU)
        result *= tl.load(scales_ptr + places, mask=rows < out_features, other=0.0)
    store_rows(out_ptr, result, first_row, out_features, ROWS * TILES, SWIGLU)


def launch_integer_gemv(
    x: torch.Tensor, packed: PackedMatrix, plan: RowPlan | None = None, swiglu: bool = False
) -> torch.Tensor:
    """x [..., in_features] of one row times packed words of int8 or int4, or silu(gate) * up of its
    halves, on the current device and stream."""
    packed.check_fits(x)
    in_features, out_features = x.shape[-1], packed.out_features
    if x.numel() != in_features or x.dtype not in ROW_DTYPES:
        raise ValueError(
            f"{packed.weight_format} gemv: x {tuple(x.shape)} is not one row of bf16 or fp16"
        )
    plan = plan or choose_plan(packed)
    out = (fake_swiglu if swiglu else fake_linear)(x, packed.words)
    programmatic = programmatic_launch(x.device)
    _integer_gemv_kernel[(cdiv(out_features, plan.rows * plan.tiles),)](
        x,
        *packed.pointers[:3],
        out,
        out_features,
        IN_FEATURES=in_features,
        ROW_BLOCKS=packed.row_blocks,
        FORMAT=packed.weight_format,
        BLOCKS=packed.padded_row_blocks,
        ROWS=plan.rows,
        TILES=plan.tiles,
        WHOLE=out_features % (plan.rows * plan.tiles) == 0,
        SWIGLU=swiglu,
        EXCHANGED=plan.fills_warps(packed.padded_row_blocks),
        BY_HAND=plan.by_hand,
        PROGRAMMATIC=programmatic,
        num_warps=plan.num_warps,
        maxnreg=plan.most_registers,
        launch_pdl=programmatic,
    )
    return out
