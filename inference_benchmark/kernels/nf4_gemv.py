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

import torch

from inference_benchmark.kernels._registration import jit, programmatic_launch, tl
from inference_benchmark.kernels.fixed_point import block_powers, halves, largest_of_four
from inference_benchmark.kernels.integers import cdiv
from inference_benchmark.kernels.nf4_levels import MEAN_LOWER, UNIT, ZERO, byte_tables
from inference_benchmark.kernels.packed_matrix import (
    MOST_WARPS,
    ROW_DTYPES,
    WORDS,
    WORDS_PER_WARP,
    PackedMatrix,
    RowPlan,
)
from inference_benchmark.kernels.packed_words import SCALE_BLOCK, load_pairs
from inference_benchmark.kernels.result_shapes import fake_linear, fake_swiglu
from inference_benchmark.kernels.row_swiglu import matrix_rows, store_rows, sum_tiles

_TABLES = byte_tables()


def choose_plan(packed: PackedMatrix) -> RowPlan:
    """Nearly the best of 6 to 12 plans on an H200, on the matrices of Llama 3.1 8B; in us, beside the
    time of their bytes at 4.36 TB/s, of a kernel with an eighth more instructions than this one:

        matrix    [out, in]     nf4  bytes  plan
        qkv       6144, 4096     8.0    3.0  8, 2, 4
        o         4096, 4096     5.9    2.0  8, 1, 4
        gate, up  28672, 4096   27.4   13.9  4, 8, 4
        down      4096, 14336   18.7    6.9  2, 8, 8
    """
    words = packed.padded_row_blocks * WORDS
    warps = max(1, min(words // WORDS_PER_WARP, MOST_WARPS))
    if warps == MOST_WARPS:  # of 8 words or more for each thread
        return RowPlan(rows=2, tiles=8, num_warps=8 if words == 16 * WORDS_PER_WARP else MOST_WARPS)
    if packed.out_features > 8192:
        return RowPlan(rows=4, tiles=8, num_warps=warps)
    return RowPlan(rows=8, tiles=1 if packed.out_features <= 4096 else 2, num_warps=warps)


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
def _group_sums(
    w0, w1, w2, w3, u0, u1, u2, u3, l0, l1, l2, l3, TABLES: tl.constexpr
):  # fmt: skip
    """Of the last 16 bits of four words, the sum of their 16 levels as whole numbers, times x, over 128:
    int32. u, l: x's upper and lower halves for each of these words."""
    return tl.inline_asm_elementwise(
        "{ .reg .b32 a, b0, b1, b2, b3, h0, h1, h2, h3; "
        "xor.b32 b0, $1, 0x88888888; xor.b32 b1, $2, 0x88888888; "
        "xor.b32 b2, $3, 0x88888888; xor.b32 b3, $4, 0x88888888; "
        "prmt.b32 h0, $13, $14, $1; prmt.b32 a, $15, $16, b0; add.u32 h0, h0, a; "
        "prmt.b32 h1, $13, $14, $2; prmt.b32 a, $15, $16, b1; add.u32 h1, h1, a; "
        "prmt.b32 h2, $13, $14, $3; prmt.b32 a, $15, $16, b2; add.u32 h2, h2, a; "
        "prmt.b32 h3, $13, $14, $4; prmt.b32 a, $15, $16, b3; add.u32 h3, h3, a; "
        "dp4a.u32.s32 $0, h0, $5, 0; dp4a.u32.s32 $0, h1, $6, $0; "
        "dp4a.u32.s32 $0, h2, $7, $0; dp4a.u32.s32 $0, h3, $8, $0; shl.b32 $0, $0, 7; "
        "dp4a.u32.s32 $0, h0, $9, $0; dp4a.u32.s32 $0, h1, $10, $0; "
        "dp4a.u32.s32 $0, h2, $11, $0; dp4a.u32.s32 $0, h3, $12, $0; "
        "prmt.b32 h0, $17, $18, $1; prmt.b32 a, $19, $20, b0; add.u32 h0, h0, a; "
        "prmt.b32 h1, $17, $18, $2; prmt.b32 a, $19, $20, b1; add.u32 h1, h1, a; "
        "prmt.b32 h2, $17, $18, $3; prmt.b32 a, $19, $20, b2; add.u32 h2, h2, a; "
        "prmt.b32 h3, $17, $18, $4; prmt.b32 a, $19, $20, b3; add.u32 h3, h3, a; "
        "dp4a.u32.s32 $0, h0, $5, $0; dp4a.u32.s32 $0, h1, $6, $0; "
        "dp4a.u32.s32 $0, h2, $7, $0; dp4a.u32.s32 $0, h3, $8, $0; }",
        "=&r,r,r,r,r,r,r,r,r,r,r,r,r,r,r,r,r,r,r,r,r",
        [
            w0, w1, w2, w3, u0, u1, u2, u3, l0, l1, l2, l3,
            _in_register(TABLES[0]),
            tl.full((1, 1, 1), TABLES[1], dtype=tl.uint32),
            _in_register(TABLES[2]),
            tl.full((1, 1, 1), TABLES[3], dtype=tl.uint32),
            _in_register(TABLES[4]),
            tl.full((1, 1, 1), TABLES[5], dtype=tl.uint32),
            _in_register(TABLES[6]),
            tl.full((1, 1, 1), TABLES[7], dtype=tl.uint32),
        ],
        dtype=tl.int32,
        is_pure=True,
        pack=1,
    )  # fmt: skip


@jit
def _sum_by_hand(words, upper, lower, levels):
    """The same of one word; levels: [16], whole numbers."""
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
def _fourths(tensor, BLOCKS: tl.constexpr, ROWS: tl.constexpr):
    """[BLOCKS, ROWS, 16] -> four of [BLOCKS, ROWS, 4]: of the words that a thread loads at a time the
    first, second, third and fourth."""
    even, odd = tl.split(tl.reshape(tensor, (BLOCKS, ROWS, 4, 2, 2)))
    first, third = tl.split(even)
    second, fourth = tl.split(odd)
    return first, second, third, fourth


@jit
def _sum_fourths(tensor, BLOCKS: tl.constexpr):
    """[BLOCKS, 16] -> [BLOCKS, 1, 4]"""
    first, second, third, fourth = _fourths(tensor[:, None, :], BLOCKS, 1)
    return first + second + third + fourth


@jit
def _load(pointers, inside, TYPE: tl.constexpr, REGISTER: tl.constexpr, BY_HAND: tl.constexpr):
    """What these point to, zero outside; by the threads that need it: a load of Triton's would be spread
    over all of them, and then handed round in shared memory."""
    if BY_HAND:
        values = tl.load(pointers, mask=inside, other=0.0)
    else:
        values = tl.inline_asm_elementwise(
            "{ .reg .pred p; setp.ne.b32 p, $2, 0; mov." + TYPE + " $0, 0; "
            "@p ld.global.nc." + TYPE + " $0, [$1]; }",
            "=" + REGISTER + ",l,r",
            [pointers.to(tl.int64), inside.to(tl.int32)],
            dtype=pointers.dtype.element_ty,
            is_pure=True,
            pack=1,
        )
    return values


@jit
def _scale_of(byte, of_both, mean):
    return byte.to(tl.uint8).to(tl.float8e4nv, bitcast=True).to(tl.float32) * of_both + mean


@jit
def _load_tile(
    words_at, scales_at, scale_scales_ptr, numbers, inside,
    OFFSET: tl.constexpr, SCALE_BLOCK: tl.constexpr, BY_HAND: tl.constexpr,
):  # fmt: skip
    """Of the tile whose blocks stand OFFSET behind those of the first one: words [blocks, rows, 16]; for
    each of the four threads of a block the scales of its two groups, side by side, and the scale of
    these, [blocks, rows, 4]."""
    words = tl.load(words_at + OFFSET * 16, mask=inside, other=0, eviction_policy="evict_first")
    pairs = _load(scales_at + OFFSET, inside, "b16", "h", BY_HAND)
    of_both_at = scale_scales_ptr + 2 * (numbers + OFFSET) // SCALE_BLOCK
    return words, pairs, _load(of_both_at, inside, "b32", "r", BY_HAND)


@jit
def _nf4_gemv_kernel(
    x_ptr,  # [IN_FEATURES]
    words_ptr,  # [out_features, ROW_BLOCKS * 16]
    scales_ptr,
    scale_scales_ptr,
    scale_mean_ptr,
    levels_ptr,
    out_ptr,  # [out_features], with SWIGLU half of that
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
    SWIGLU: tl.constexpr,
    BY_HAND: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
):
    blocks = tl.arange(0, BLOCKS)
    lanes = tl.arange(0, 16)
    first_row = tl.program_id(0) * (ROWS * TILES)
    rows = first_row + tl.arange(0, ROWS)
    numbers = matrix_rows(rows, out_features, SWIGLU)[None, :] * ROW_BLOCKS + blocks[:, None]
    # In this order Triton gives neighbouring threads neighbouring words of a row.
    words_at = words_ptr + (numbers[:, :, None] * 16 + lanes[None, None, :])
    numbers = numbers[:, :, None] + tl.zeros((1, 1, 4), dtype=tl.int32)
    scales_at = scales_ptr.to(tl.pointer_type(tl.int16)) + numbers
    of_row = (blocks < ROW_BLOCKS)[:, None, None]
    TILE: tl.constexpr = (ROWS // 2 if SWIGLU else ROWS) * ROW_BLOCKS  # blocks of the matrix
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_launch_dependents()
    tile, pairs_of_scales, of_both = _load_tile(
        words_at, scales_at, scale_scales_ptr, numbers, of_row & (rows < out_features)[None, :, None],
        0, SCALE_BLOCK, BY_HAND,
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
    largest = largest_of_four(a0, b0, a1, b1)
    factors, inverses = block_powers(tl.maximum(largest, largest_of_four(a2, b2, a3, b3)))
    upper0, lower0, excess0 = halves(a0, b0, a1, b1, factors, ZERO, MEAN_LOWER)
    upper1, lower1, excess1 = halves(a2, b2, a3, b3, factors, ZERO, MEAN_LOWER)
    u0, u1, u2, u3 = _fourths(upper0[:, None, :], BLOCKS, 1)
    l0, l1, l2, l3 = _fourths(lower0[:, None, :], BLOCKS, 1)
    v0, v1, v2, v3 = _fourths(upper1[:, None, :], BLOCKS, 1)
    m0, m1, m2, m3 = _fourths(lower1[:, None, :], BLOCKS, 1)
    excess0, excess1 = _sum_fourths(excess0, BLOCKS), _sum_fourths(excess1, BLOCKS)
    inverses = inverses[:, None, None] * (128.0 / UNIT)

    results = ()
    for number in tl.static_range(TILES):
        words = tile.to(tl.uint32, bitcast=True)
        scales0 = _scale_of(pairs_of_scales & 255, of_both, mean) * inverses
        scales1 = _scale_of((pairs_of_scales >> 8) & 255, of_both, mean) * inverses
        if number + 1 < TILES:
            inside = of_row & (rows + (number + 1) * ROWS < out_features)[None, :, None]
            tile, pairs_of_scales, of_both = _load_tile(
                words_at, scales_at, scale_scales_ptr, numbers, inside,
                (number + 1) * TILE, SCALE_BLOCK, BY_HAND,
            )  # fmt: skip
        w0, w1, w2, w3 = _fourths(words, BLOCKS, ROWS)
        if BY_HAND:
            sums0 = _sum_by_hand(w0, u0, l0, levels) + _sum_by_hand(w1, u1, l1, levels)
            sums0 += _sum_by_hand(w2, u2, l2, levels) + _sum_by_hand(w3, u3, l3, levels)
            sums1 = _sum_by_hand(w0 >> 16, v0, m0, levels) + _sum_by_hand(w1 >> 16, v1, m1, levels)
            sums1 += _sum_by_hand(w2 >> 16, v2, m2, levels) + _sum_by_hand(w3 >> 16, v3, m3, levels)
        else:
            sums0 = _group_sums(w0, w1, w2, w3, u0, u1, u2, u3, l0, l1, l2, l3, TABLES)
            sums1 = _group_sums(
                w0 >> 16, w1 >> 16, w2 >> 16, w3 >> 16, v0, v1, v2, v3, m0, m1, m2, m3, TABLES
            )
        sums0 = (sums0 - excess0).to(tl.float32)
        sums1 = (sums1 - excess1).to(tl.float32)
        parts = sums0 * scales0 + sums1 * scales1
        results = results + (parts,)
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
        SWIGLU=swiglu,
        BY_HAND=plan.by_hand,
        PROGRAMMATIC=programmatic,
        num_warps=plan.num_warps,
        launch_pdl=programmatic,
    )
    return out
