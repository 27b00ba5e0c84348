"""One row times nf4's weights, read once: sums of whole numbers.

As in integer_gemv x is in 16 bits, in two operands of high and of low bytes. The levels of nf4 are
whole numbers too, 32767 times what they are: a sixteenth of bf16's steps at the smallest one. They
are looked up two at a time (level_table), and one instruction multiplies both by two bytes.

A program keeps its part of x in registers and goes from rows to rows; the next ones are requested
before the present ones are multiplied.
"""

from __future__ import annotations

import torch

from inference_benchmark.kernels._registration import jit, programmatic_launch, tl
from inference_benchmark.kernels.flash_decode import cdiv
from inference_benchmark.kernels.integer_gemv import DTYPES, Plan, load_fixed_point, word_warps
from inference_benchmark.kernels.level_table import fill_level_table, whole_levels
from inference_benchmark.kernels.packed_matrix import PackedMatrix
from inference_benchmark.kernels.packed_words import SCALE_BLOCK

LEVEL_FACTOR = 32767.0


def choose_plan(packed: PackedMatrix) -> Plan:
    """Chosen on an H200, on the matrices of Llama 3.1 8B."""
    warps = word_warps(packed)
    if warps == 16:
        return Plan(rows=4, tiles=8, num_warps=warps)
    return Plan(rows=8, tiles=4, num_warps=warps)


@jit
def _dots(words, high0, low0, high1, low1):
    """For each word the sums of its levels times the high and the low bytes of x, of its first two
    pairs and of its last two: int32."""
    return tl.inline_asm_elementwise(
        "{ .reg .b32 a, l, v; mov.u32 l, %laneid; shl.b32 l, l, 2; mov.u32 a, level_pairs; "
        "add.u32 l, l, a; "
        "prmt.b32 a, $4, 0, 0x4440; mad.lo.u32 a, a, 128, l; ld.shared.b32 v, [a]; "
        "dp2a.lo.s32.s32 $0, v, $5, 0; dp2a.lo.s32.u32 $1, v, $6, 0; "
        "prmt.b32 a, $4, 0, 0x4441; mad.lo.u32 a, a, 128, l; ld.shared.b32 v, [a]; "
        "dp2a.hi.s32.s32 $0, v, $5, $0; dp2a.hi.s32.u32 $1, v, $6, $1; "
        "prmt.b32 a, $4, 0, 0x4442; mad.lo.u32 a, a, 128, l; ld.shared.b32 v, [a]; "
        "dp2a.lo.s32.s32 $2, v, $7, 0; dp2a.lo.s32.u32 $3, v, $8, 0; "
        "prmt.b32 a, $4, 0, 0x4443; mad.lo.u32 a, a, 128, l; ld.shared.b32 v, [a]; "
        "dp2a.hi.s32.s32 $2, v, $7, $2; dp2a.hi.s32.u32 $3, v, $8, $3; }",
        "=&r,=&r,=&r,=&r,r,r,r,r,r",
        [words, high0, low0, high1, low1],
        dtype=(tl.int32, tl.int32, tl.int32, tl.int32),
        is_pure=True,
        pack=1,
    )


@jit
def _dots_by_hand(words, high0, low0, high1, low1, levels):
    """The same without these instructions; levels: [16], whole numbers."""
    first = _pair_sums(words, high0, low0, levels)
    second = _pair_sums(words >> 16, high1, low1, levels)
    return first[0], first[1], second[0], second[1]


@jit
def _pair_sums(words, high, low, levels):
    of_high = tl.zeros(words.shape, dtype=tl.int32)
    of_low = tl.zeros(words.shape, dtype=tl.int32)
    for place in tl.static_range(4):
        codes = ((words >> (4 * place)) & 15).to(tl.int32)
        flat = tl.reshape(codes, (codes.numel,))
        weights = tl.reshape(tl.gather(levels, flat, 0), codes.shape)
        of_high += weights * ((high << (24 - 8 * place)).to(tl.int32, bitcast=True) >> 24)
        of_low += weights * ((low >> (8 * place)) & 255).to(tl.int32)
    return of_high, of_low


@jit
def _thread_sum(sums, BLOCKS: tl.constexpr, ROWS: tl.constexpr):
    """[BLOCKS, ROWS, 16] -> [BLOCKS, ROWS, 4]: of the words that a thread loads at a time."""
    return tl.sum(tl.reshape(sums, (BLOCKS, ROWS, 4, 4)), axis=3).to(tl.float32)


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
    FACTOR: tl.constexpr,
    BLOCKS: tl.constexpr,  # a power of two that covers ROW_BLOCKS
    ROWS: tl.constexpr,
    TILES: tl.constexpr,
    BY_HAND: tl.constexpr,
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
    if BY_HAND:
        levels = whole_levels(tl.load(levels_ptr + tl.arange(0, 16)), FACTOR)
    else:
        fill_level_table(levels_ptr, out_features, FACTOR)
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()
    high0, low0, high1, low1, inverses = load_fixed_point(x_ptr, blocks, lanes, IN_FEATURES, "nf4")
    high0, low0 = high0[:, None, :], low0[:, None, :]
    high1, low1 = high1[:, None, :], low1[:, None, :]
    inverses = inverses[:, None] / FACTOR
    for number in tl.range(0, TILES):
        words = tile.to(tl.uint32, bitcast=True)
        first_scales = (first.to(tl.float32) * of_both + mean) * inverses
        second_scales = (second.to(tl.float32) * of_both + mean) * inverses
        rows = first_row + number * ROWS + row_numbers
        following = tl.where(number + 1 < TILES, rows + ROWS, out_features)
        tile, first, second, of_both = _load_tile(
            words_ptr, scales_ptr, scale_scales_ptr, following, blocks, lanes,
            out_features, ROW_BLOCKS, SCALE_BLOCK,
        )  # fmt: skip
        if BY_HAND:
            sums = _dots_by_hand(words, high0, low0, high1, low1, levels)
        else:
            sums = _dots(words, high0, low0, high1, low1)
        # A group's sums of high and of low bytes each fit 32 bits, together they do not.
        low_group = _thread_sum(sums[0], BLOCKS, ROWS) * 256 + _thread_sum(sums[1], BLOCKS, ROWS)
        high_group = _thread_sum(sums[2], BLOCKS, ROWS) * 256 + _thread_sum(sums[3], BLOCKS, ROWS)
        part = low_group * first_scales[:, :, None] + high_group * second_scales[:, :, None]
        result = tl.sum(tl.sum(part, axis=2), axis=0)
        tl.store(out_ptr + rows, result.to(out_ptr.dtype.element_ty), mask=rows < out_features)


def launch_nf4_gemv(
    x: torch.Tensor, packed: PackedMatrix, plan: Plan | None = None
) -> torch.Tensor:
    """x [..., in_features] of one row times packed words of nf4, on the current device and stream."""
    packed.check_fits(x)
    in_features, out_features = x.shape[-1], packed.out_features
    if x.numel() != in_features or x.dtype not in DTYPES:
        raise ValueError(f"nf4 gemv: x {tuple(x.shape)} is not one row of bf16 or fp16")
    plan = plan or choose_plan(packed)
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
        FACTOR=LEVEL_FACTOR,
        BLOCKS=max(1 << (packed.row_blocks - 1).bit_length(), 2),
        ROWS=plan.rows,
        TILES=plan.tiles,
        BY_HAND=plan.by_hand,
        PROGRAMMATIC=programmatic,
        num_warps=plan.num_warps,
        launch_pdl=programmatic,
    )
    return out
