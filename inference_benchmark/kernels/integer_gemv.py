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
    pack_bytes,
)
from inference_benchmark.kernels.integers import cdiv, next_power_of_2
from inference_benchmark.kernels.packed_matrix import (
    MOST_WARPS,
    ROW_DTYPES,
    WORDS,
    WORDS_PER_WARP,
    PackedMatrix,
    RowPlan,
)
from inference_benchmark.kernels.packed_words import load_pairs
from inference_benchmark.kernels.result_shapes import fake_linear, fake_swiglu
from inference_benchmark.kernels.row_swiglu import matrix_rows, store_rows


def choose_plan(packed: PackedMatrix) -> RowPlan:
    """Nearly the best of up to 14 plans on an H200, on the matrices of Llama 3.1 8B; in us, beside the
    time of their bytes at 4.36 TB/s:

        matrix    [out, in]     int4  zeros  bytes  plan       int8  bytes  plan
        qkv       6144, 4096     5.3    5.6    3.0  16, 1, 4    8.5    5.8  4, 2, 8
        o         4096, 4096     4.3    4.5    2.0  16, 1, 4    5.5    3.9  4, 2, 8
        gate, up  28672, 4096   17.5   17.2   13.9  4, 4, 4    29.5   27.0  4, 2, 8
        down      4096, 14336   11.3   11.5    6.9  4, 4, 8    17.2   13.5  2, 8, 16
    """
    warps = next_power_of_2(cdiv(packed.row_blocks * WORDS, WORDS_PER_WARP))
    if packed.weight_format == "int8":
        if warps > 8:
            return RowPlan(rows=2, tiles=8, num_warps=MOST_WARPS)
        return RowPlan(rows=4, tiles=2, num_warps=warps)
    if warps > 8:  # of 8 words or more for each thread
        return RowPlan(rows=4, tiles=4, num_warps=min(warps // 2, MOST_WARPS))
    if packed.out_features > 8192:
        return RowPlan(rows=4, tiles=4, num_warps=warps)
    return RowPlan(rows=16, tiles=1, num_warps=warps)


@jit
def _load_fixed_point(x_ptr, blocks, lanes, IN_FEATURES: tl.constexpr, FORMAT: tl.constexpr):
    """x of a word's columns, [blocks, 16]: two words of high bytes (signed) and two of low ones, of
    int8 each twice, in the order in which a word of the format has its columns; and what an integer
    stands for, [blocks]."""
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
        high0, low0 = pack_bytes(a0, a1, b0, b1, 8), pack_bytes(a0, a1, b0, b1, 0)
        high1, low1 = high0, low0
    else:
        a2, b2 = as_integers(a2, factors), as_integers(b2, factors)
        a3, b3 = as_integers(a3, factors), as_integers(b3, factors)
        high0, low0 = pack_bytes(a0, a2, b0, b2, 8), pack_bytes(a0, a2, b0, b2, 0)
        high1, low1 = pack_bytes(a1, a3, b1, b3, 8), pack_bytes(a1, a3, b1, b3, 0)
    return high0, low0, high1, low1, inverses


@jit
def _dot_by_hand(bytes_of_words, high, low):
    total = tl.zeros(bytes_of_words.shape, dtype=tl.int32)
    for place in tl.static_range(4):
        weights = ((bytes_of_words >> (8 * place)) & 255).to(tl.int32)
        x_high = (high << (24 - 8 * place)).to(tl.int32, bitcast=True) >> 24
        x_low = ((low >> (8 * place)) & 255).to(tl.int32)
        total += weights * (x_high * 256 + x_low)
    return total


@jit
def _dots(words, high0, low0, high1, low1, FORMAT: tl.constexpr, BY_HAND: tl.constexpr):
    """For each word the sum of what is stored in it, times x: int32."""
    if BY_HAND:
        if FORMAT == "int8":
            dots = _dot_by_hand(words, high0, low0)
        else:
            dots = _dot_by_hand(words & 0x0F0F0F0F, high0, low0)
            dots += _dot_by_hand((words >> 4) & 0x0F0F0F0F, high1, low1)
    elif FORMAT == "int8":
        dots = tl.inline_asm_elementwise(
            "{ .reg .b32 h; dp4a.u32.s32 h, $1, $2, 0; shl.b32 h, h, 8; "
            "dp4a.u32.u32 $0, $1, $3, h; }",
            "=r,r,r,r",
            [words, high0, low0],
            dtype=tl.int32,
            is_pure=True,
            pack=1,
        )
    else:
        dots = tl.inline_asm_elementwise(
            "{ .reg .b32 a, b, h; and.b32 a, $1, 0x0f0f0f0f; shr.u32 b, $1, 4; "
            "and.b32 b, b, 0x0f0f0f0f; dp4a.u32.s32 h, a, $2, 0; dp4a.u32.s32 h, b, $4, h; "
            "shl.b32 h, h, 8; dp4a.u32.u32 h, a, $3, h; dp4a.u32.u32 $0, b, $5, h; }",
            "=r,r,r,r,r,r",
            [words, high0, low0, high1, low1],
            dtype=tl.int32,
            is_pure=True,
            pack=1,
        )
    return dots


@jit
def _load_tile(
    words_ptr, scales_ptr, zeros_ptr, rows, blocks, lanes, out_features,
    ROW_BLOCKS: tl.constexpr, FORMAT: tl.constexpr, SWIGLU: tl.constexpr,
):  # fmt: skip
    """Words [blocks, rows, 16], and what their blocks have beside them [blocks, rows]."""
    inside = (rows < out_features)[None, :] & (blocks < ROW_BLOCKS)[:, None]
    rows = matrix_rows(rows, out_features, SWIGLU)
    numbers = rows.to(tl.int64)[None, :] * ROW_BLOCKS + blocks[:, None]
    # In this order Triton gives neighbouring threads neighbouring words of a row.
    words_at = words_ptr + numbers[:, :, None] * 16 + lanes[None, None, :]
    words = tl.load(words_at, mask=inside[:, :, None], other=0, eviction_policy="evict_first")
    scales = 0.0
    zeros = 0
    if FORMAT != "int8":
        scales = tl.load(scales_ptr + numbers, mask=inside, other=0.0)
    if FORMAT == "int4_zeros":
        zeros = tl.load(zeros_ptr + numbers, mask=inside, other=0)
    return words, scales, zeros


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
    SWIGLU: tl.constexpr,
    BY_HAND: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
):
    blocks = tl.arange(0, BLOCKS)
    lanes = tl.arange(0, 16)
    first_row = tl.program_id(0) * (ROWS * TILES)
    row_numbers = tl.arange(0, ROWS)
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_launch_dependents()
    tile, scales, zeros = _load_tile(
        words_ptr, scales_ptr, zeros_ptr, first_row + row_numbers, blocks, lanes, out_features,
        ROW_BLOCKS, FORMAT, SWIGLU,
    )  # fmt: skip
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()

    high0, low0, high1, low1, inverses = _load_fixed_point(
        x_ptr, blocks, lanes, IN_FEATURES, FORMAT
    )
    if FORMAT == "int8":
        ones = tl.full((BLOCKS, 16), 0x01010101, dtype=tl.uint32)
    else:
        ones = tl.full((BLOCKS, 16), 0x11111111, dtype=tl.uint32)
    x_sums = tl.sum(_dots(ones, high0, low0, high1, low1, FORMAT, BY_HAND), axis=1)[:, None]
    high0, low0 = high0[:, None, :], low0[:, None, :]
    high1, low1 = high1[:, None, :], low1[:, None, :]

    for number in tl.range(0, TILES):
        words = tile.to(tl.uint32, bitcast=True)
        now, zero = scales, zeros
        start = first_row + number * ROWS
        rows = start + row_numbers
        following = tl.where(number + 1 < TILES, rows + ROWS, out_features)
        tile, scales, zeros = _load_tile(
            words_ptr, scales_ptr, zeros_ptr, following, blocks, lanes, out_features,
            ROW_BLOCKS, FORMAT, SWIGLU,
        )  # fmt: skip
        sums = tl.sum(_dots(words, high0, low0, high1, low1, FORMAT, BY_HAND), axis=2)
        if FORMAT == "int8":
            sums = (sums - 128 * x_sums).to(tl.float32) * inverses[:, None]
            result = tl.sum(sums, axis=0)
            places = matrix_rows(rows, out_features, SWIGLU)
            result *= tl.load(scales_ptr + places, mask=rows < out_features, other=0.0)
        else:
            if FORMAT == "int4_zeros":
                sums -= zero.to(tl.int32) * x_sums
            else:
                sums -= 8 * x_sums
            result = tl.sum(sums.to(tl.float32) * (now.to(tl.float32) * inverses[:, None]), axis=0)
        store_rows(out_ptr, result, start, out_features, ROWS, SWIGLU)


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
        SWIGLU=swiglu,
        BY_HAND=plan.by_hand,
        PROGRAMMATIC=programmatic,
        num_warps=plan.num_warps,
        launch_pdl=programmatic,
    )
    return out
