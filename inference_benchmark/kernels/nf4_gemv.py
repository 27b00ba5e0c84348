"""One row times nf4's weights, read once: sums of whole numbers.

As in integer_gemv an instruction multiplies four bytes with four others and adds them up. The levels
of nf4 are whole numbers too, of 14 bits; four of them are looked up at once, their upper and their
lower halves, by permuting bytes that registers hold (nf4_levels). Of the products of halves that of
the lower ones is left out, but for x's lower halves times the mean of the levels': what remains is
noise of 2^-12 of the result or less.

A program keeps its part of x in registers and goes from rows to rows; the next ones are requested
before the present ones are multiplied.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from inference_benchmark.kernels._registration import jit, programmatic_launch, tl
from inference_benchmark.kernels.fixed_point import as_integers, block_powers, pack_bytes
from inference_benchmark.kernels.integers import cdiv, next_power_of_2
from inference_benchmark.kernels.nf4_levels import MEAN_LOWER, UNIT, ZERO, byte_tables
from inference_benchmark.kernels.packed_matrix import WORDS, PackedMatrix
from inference_benchmark.kernels.packed_words import SCALE_BLOCK, load_pairs

DTYPES = (torch.bfloat16, torch.float16)  # of x
_WORDS_PER_WARP = 128  # 16 bytes for each thread
_MOST_WARPS = 16
_TABLES = byte_tables()


@dataclass(frozen=True)
class Plan:
    """How one matrix [out_features, in_features] is cut."""

    rows: int  # of the matrix, at a time
    tiles: int  # of so many rows, per program
    num_warps: int
    by_hand: bool = False  # without the instructions, which the interpreter does not know


def choose_plan(packed: PackedMatrix) -> Plan:
    """As many warps as give each thread four words of a row, as far as there may be so many; not timed
    yet."""
    warps = next_power_of_2(cdiv(packed.row_blocks * WORDS, _WORDS_PER_WARP))
    if warps >= _MOST_WARPS:
        return Plan(rows=2, tiles=8, num_warps=_MOST_WARPS)
    if packed.out_features > 8192:
        return Plan(rows=4, tiles=4, num_warps=warps)
    return Plan(rows=8, tiles=1, num_warps=warps)


@jit
def _halves(a, b, c, d, factors, ZERO: tl.constexpr, MEAN_LOWER: tl.constexpr):
    """Of four values their upper halves, -128 to 127, and their lower ones, about -64 to 64, each
    four bytes of a word; and what _sums is too large by, because levels are stored ZERO larger and
    products of lower halves are missing."""
    a, b, c, d = _whole(a, factors), _whole(b, factors), _whole(c, factors), _whole(d, factors)
    upper_a, upper_b = tl.minimum((a + 64) >> 7, 127), tl.minimum((b + 64) >> 7, 127)
    upper_c, upper_d = tl.minimum((c + 64) >> 7, 127), tl.minimum((d + 64) >> 7, 127)
    upper = pack_bytes(upper_a, upper_b, upper_c, upper_d, 0)
    a, b, c, d = a - 128 * upper_a, b - 128 * upper_b, c - 128 * upper_c, d - 128 * upper_d
    lower = pack_bytes(a, b, c, d, 0)
    lowers = a + b + c + d
    wholes = 128 * (upper_a + upper_b + upper_c + upper_d) + lowers
    excess = wholes * (ZERO // 128) - (lowers * MEAN_LOWER * (1 / 128)).to(tl.int32)
    return upper.to(tl.uint32, bitcast=True), lower.to(tl.uint32, bitcast=True), excess


@jit
def _whole(x, factors):
    return as_integers(x, factors).to(tl.int32, bitcast=True) - 0x4B400000  # of 1.5 * 2^23


@jit
def _in_register(VALUE: tl.constexpr):
    """VALUE, in a register of each thread. Of two constants an instruction takes one as it is; the
    other would be brought from a uniform register every time. So this one depends on the thread."""
    return tl.inline_asm_elementwise(
        "{ .reg .b32 l; mov.u32 l, %laneid; shr.u32 l, l, 5; add.u32 $0, l, $1; }",
        "=r,r",
        [tl.full((1, 1, 1), VALUE, dtype=tl.uint32)],
        dtype=tl.uint32,
        is_pure=True,
        pack=1,
    )


@jit
def _sums(words, upper0, lower0, upper1, lower1, TABLES: tl.constexpr):
    """For each word the sums of its levels, as whole numbers, times x, over 128: int32, of its first
    four columns, which belong to one group, and of its last four."""
    return tl.inline_asm_elementwise(
        "{ .reg .b32 a, b, h, l; "
        "xor.b32 b, $2, 0x88888888; "
        "prmt.b32 h, $7, $8, $2; prmt.b32 a, $9, $10, b; add.u32 h, h, a; "
        "prmt.b32 l, $11, $12, $2; prmt.b32 a, $13, $14, b; add.u32 l, l, a; "
        "dp4a.u32.s32 $0, h, $3, 0; shl.b32 $0, $0, 7; "
        "dp4a.u32.s32 $0, h, $4, $0; dp4a.u32.s32 $0, l, $3, $0; "
        "shr.u32 b, b, 16; shr.u32 l, $2, 16; "
        "prmt.b32 h, $7, $8, l; prmt.b32 a, $9, $10, b; add.u32 h, h, a; "
        "prmt.b32 l, $11, $12, l; prmt.b32 a, $13, $14, b; add.u32 l, l, a; "
        "dp4a.u32.s32 $1, h, $5, 0; shl.b32 $1, $1, 7; "
        "dp4a.u32.s32 $1, h, $6, $1; dp4a.u32.s32 $1, l, $5, $1; }",
        "=&r,=&r,r,r,r,r,r,r,r,r,r,r,r,r,r",
        [
            words,
            upper0,
            lower0,
            upper1,
            lower1,
            _in_register(TABLES[0]),
            tl.full((1, 1, 1), TABLES[1], dtype=tl.uint32),
            _in_register(TABLES[2]),
            tl.full((1, 1, 1), TABLES[3], dtype=tl.uint32),
            _in_register(TABLES[4]),
            tl.full((1, 1, 1), TABLES[5], dtype=tl.uint32),
            _in_register(TABLES[6]),
            tl.full((1, 1, 1), TABLES[7], dtype=tl.uint32),
        ],
        dtype=(tl.int32, tl.int32),
        is_pure=True,
        pack=1,
    )


@jit
def _sum_by_hand(words, upper, lower, levels):
    """The same of the last 16 bits of the words; levels: [16], whole numbers."""
    total = tl.zeros(words.shape, dtype=tl.int32)
    for place in tl.static_range(4):
        codes = ((words >> (4 * place)) & 15).to(tl.int32)
        flat = tl.reshape(codes, (codes.numel,))
        weights = tl.reshape(tl.gather(levels, flat, 0), codes.shape)
        x_upper = (upper << (24 - 8 * place)).to(tl.int32, bitcast=True) >> 24
        x_lower = (lower << (24 - 8 * place)).to(tl.int32, bitcast=True) >> 24
        total += weights * x_upper + (weights >> 7) * x_lower
    return total


@jit
def _thread_sums(sums, BLOCKS: tl.constexpr, ROWS: tl.constexpr):
    """[BLOCKS, ROWS, 16] -> [BLOCKS, ROWS, 4]: of the words that a thread loads at a time."""
    return tl.sum(tl.reshape(sums, (BLOCKS, ROWS, 4, 4)), axis=3)


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
    UNIT: tl.constexpr,
    ZERO: tl.constexpr,
    MEAN_LOWER: tl.constexpr,
    TABLES: tl.constexpr,
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
        levels = tl.load(levels_ptr + tl.arange(0, 16))
        levels = tl.floor(levels * UNIT + 0.5).to(tl.int32) + ZERO
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()
    pairs = blocks[:, None] * 64 + lanes[None, :]
    a0, b0 = load_pairs(x_ptr, pairs, IN_FEATURES)
    a1, b1 = load_pairs(x_ptr, pairs + 16, IN_FEATURES)
    a2, b2 = load_pairs(x_ptr, pairs + 32, IN_FEATURES)
    a3, b3 = load_pairs(x_ptr, pairs + 48, IN_FEATURES)
    largest = tl.maximum(tl.maximum(tl.abs(a0), tl.abs(b0)), tl.maximum(tl.abs(a1), tl.abs(b1)))
    others = tl.maximum(tl.maximum(tl.abs(a2), tl.abs(b2)), tl.maximum(tl.abs(a3), tl.abs(b3)))
    factors, inverses = block_powers(tl.maximum(largest, others))
    upper0, lower0, excess0 = _halves(a0, b0, a1, b1, factors, ZERO, MEAN_LOWER)
    upper1, lower1, excess1 = _halves(a2, b2, a3, b3, factors, ZERO, MEAN_LOWER)
    excess0 = _thread_sums(excess0[:, None, :], BLOCKS, 1)
    excess1 = _thread_sums(excess1[:, None, :], BLOCKS, 1)
    upper0, lower0 = upper0[:, None, :], lower0[:, None, :]
    upper1, lower1 = upper1[:, None, :], lower1[:, None, :]
    inverses = inverses[:, None] * (128.0 / UNIT)

    for number in tl.range(0, TILES):
        words = tile.to(tl.uint32, bitcast=True)
        scales0 = (first.to(tl.float32) * of_both + mean) * inverses
        scales1 = (second.to(tl.float32) * of_both + mean) * inverses
        rows = first_row + number * ROWS + row_numbers
        following = tl.where(number + 1 < TILES, rows + ROWS, out_features)
        tile, first, second, of_both = _load_tile(
            words_ptr, scales_ptr, scale_scales_ptr, following, blocks, lanes,
            out_features, ROW_BLOCKS, SCALE_BLOCK,
        )  # fmt: skip
        if BY_HAND:
            sums0 = _sum_by_hand(words, upper0, lower0, levels)
            sums1 = _sum_by_hand(words >> 16, upper1, lower1, levels)
        else:
            sums0, sums1 = _sums(words, upper0, lower0, upper1, lower1, TABLES)
        sums0 = (_thread_sums(sums0, BLOCKS, ROWS) - excess0).to(tl.float32)
        sums1 = (_thread_sums(sums1, BLOCKS, ROWS) - excess1).to(tl.float32)
        parts = sums0 * scales0[:, :, None] + sums1 * scales1[:, :, None]
        result = tl.sum(tl.sum(parts, axis=2), axis=0)
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
        UNIT=UNIT,
        ZERO=ZERO,
        MEAN_LOWER=MEAN_LOWER,
        TABLES=_TABLES,
        BLOCKS=packed.padded_row_blocks,
        ROWS=plan.rows,
        TILES=plan.tiles,
        BY_HAND=plan.by_hand,
        PROGRAMMATIC=programmatic,
        num_warps=plan.num_warps,
        launch_pdl=programmatic,
    )
    return out
