"""Sums of nf4's levels times x, both whole numbers of two bytes (nf4_levels, fixed_point): the upper
bytes' products, 65536-fold, plus those of an upper and a lower one, 256-fold. The lower bytes' own are
left out, but for x's times the mean of the levels': what remains is noise of 2^-12 of the result or
less.
"""

from __future__ import annotations

from inference_benchmark.kernels._registration import jit, tl
from inference_benchmark.kernels.fixed_point import sum_bytes


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
def group_sums(w0, w1, w2, w3, upper, lower, excess, TABLES: tl.constexpr):
    """Of the last 16 bits of four words, the sum of their 16 levels as whole numbers, times x, over 256,
    less excess: int32. upper, lower: x's bytes for each of these words."""
    u0, u1, u2, u3 = upper
    l0, l1, l2, l3 = lower
    return tl.inline_asm_elementwise(
        "{ .reg .b32 a, b0, b1, b2, b3, h0, h1, h2, h3; "
        "xor.b32 b0, $1, 0x88888888; xor.b32 b1, $2, 0x88888888; "
        "xor.b32 b2, $3, 0x88888888; xor.b32 b3, $4, 0x88888888; "
        "prmt.b32 h0, $14, $15, $1; prmt.b32 a, $16, $17, b0; add.u32 h0, h0, a; "
        "prmt.b32 h1, $14, $15, $2; prmt.b32 a, $16, $17, b1; add.u32 h1, h1, a; "
        "prmt.b32 h2, $14, $15, $3; prmt.b32 a, $16, $17, b2; add.u32 h2, h2, a; "
        "prmt.b32 h3, $14, $15, $4; prmt.b32 a, $16, $17, b3; add.u32 h3, h3, a; "
        "dp4a.u32.s32 $0, h0, $5, 0; dp4a.u32.s32 $0, h1, $6, $0; "
        "dp4a.u32.s32 $0, h2, $7, $0; dp4a.u32.s32 $0, h3, $8, $0; "
        "mad.lo.s32 $0, $0, 256, $13; "
        "dp4a.u32.s32 $0, h0, $9, $0; dp4a.u32.s32 $0, h1, $10, $0; "
        "dp4a.u32.s32 $0, h2, $11, $0; dp4a.u32.s32 $0, h3, $12, $0; "
        "prmt.b32 a, $18, $19, $1; prmt.b32 b0, $20, $21, b0; "
        "dp4a.s32.s32 $0, a, $5, $0; dp4a.s32.s32 $0, b0, $5, $0; "
        "prmt.b32 a, $18, $19, $2; prmt.b32 b1, $20, $21, b1; "
        "dp4a.s32.s32 $0, a, $6, $0; dp4a.s32.s32 $0, b1, $6, $0; "
        "prmt.b32 a, $18, $19, $3; prmt.b32 b2, $20, $21, b2; "
        "dp4a.s32.s32 $0, a, $7, $0; dp4a.s32.s32 $0, b2, $7, $0; "
        "prmt.b32 a, $18, $19, $4; prmt.b32 b3, $20, $21, b3; "
        "dp4a.s32.s32 $0, a, $8, $0; dp4a.s32.s32 $0, b3, $8, $0; }",
        "=&r,r,r,r,r,r,r,r,r,r,r,r,r,r,r,r,r,r,r,r,r,r",
        [
            w0, w1, w2, w3, u0, u1, u2, u3, l0, l1, l2, l3, -excess,
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
def group_sums_by_hand(w0, w1, w2, w3, upper, lower, excess, levels):
    """The same; levels: [16], whole numbers."""
    total = _word_by_hand(w0, upper[0], lower[0], levels) - excess
    total += _word_by_hand(w1, upper[1], lower[1], levels)
    total += _word_by_hand(w2, upper[2], lower[2], levels)
    return total + _word_by_hand(w3, upper[3], lower[3], levels)


@jit
def _word_by_hand(words, upper, lower, levels):
    total = tl.zeros(words.shape, dtype=tl.int32)
    for place in tl.static_range(4):
        codes = ((words >> (4 * place)) & 15).to(tl.int32)
        flat = tl.reshape(codes, (codes.numel,))
        weights = tl.reshape(tl.gather(levels, flat, 0), codes.shape)
        x_upper = (upper << (24 - 8 * place)).to(tl.int32, bitcast=True) >> 24
        x_lower = (lower << (24 - 8 * place)).to(tl.int32, bitcast=True) >> 24
        total += weights * x_upper + ((weights + 128) >> 8) * x_lower
    return total


@jit
def excess_of(upper, lower, ZERO: tl.constexpr, MEAN_LOWER: tl.constexpr, BY_HAND: tl.constexpr):
    """By how much such a sum is too large of x times levels that are stored ZERO larger, and without the
    products of lower bytes."""
    uppers = tl.zeros(upper[0].shape, dtype=tl.int32)
    lowers = tl.zeros(upper[0].shape, dtype=tl.int32)
    for place in tl.static_range(4):
        uppers = sum_bytes(upper[place], uppers, BY_HAND)
        lowers = sum_bytes(lower[place], lowers, BY_HAND)
    left_out = (lowers.to(tl.float32) * (MEAN_LOWER / 256)).to(tl.int32)
    return (uppers * 256 + lowers) * (ZERO // 256) - left_out
