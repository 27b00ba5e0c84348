"""Sums of nf4's levels, as sums of two bytes (nf4_levels), times x in whole numbers of two bytes
(fixed_point): all products of bytes are there, so these sums are exact.
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
def group_sums(w0, w1, w2, w3, upper, lower, excess, TABLES: tl.constexpr, BY_HAND: tl.constexpr):
    """Of the last 16 bits of four words, the sum of their 16 levels as whole numbers, times x, less
    excess: int32. upper, lower: x's bytes for each of these words."""
    if BY_HAND:
        total = _word_by_hand(w0, upper[0], lower[0], TABLES) - excess
        total += _word_by_hand(w1, upper[1], lower[1], TABLES)
        total += _word_by_hand(w2, upper[2], lower[2], TABLES)
        total += _word_by_hand(w3, upper[3], lower[3], TABLES)
    else:
        total = _group_sums(w0, w1, w2, w3, upper, lower, excess, TABLES)
    return total


@jit
def _group_sums(w0, w1, w2, w3, upper, lower, excess, TABLES: tl.constexpr):
    u0, u1, u2, u3 = upper
    l0, l1, l2, l3 = lower
    return tl.inline_asm_elementwise(
        "{ .reg .b32 a0, a1, a2, a3, b0, b1, b2, b3, s; "
        "xor.b32 b0, $1, 0x88888888; xor.b32 b1, $2, 0x88888888; "
        "xor.b32 b2, $3, 0x88888888; xor.b32 b3, $4, 0x88888888; "
        "prmt.b32 a0, $14, $15, $1; prmt.b32 b0, $16, $17, b0; "
        "prmt.b32 a1, $14, $15, $2; prmt.b32 b1, $16, $17, b1; "
        "prmt.b32 a2, $14, $15, $3; prmt.b32 b2, $16, $17, b2; "
        "prmt.b32 a3, $14, $15, $4; prmt.b32 b3, $16, $17, b3; "
        "dp4a.s32.s32 $0, a0, $5, 0; dp4a.s32.s32 s, b0, $5, 0; "
        "dp4a.s32.s32 $0, a1, $6, $0; dp4a.s32.s32 s, b1, $6, s; "
        "dp4a.s32.s32 $0, a2, $7, $0; dp4a.s32.s32 s, b2, $7, s; "
        "dp4a.s32.s32 $0, a3, $8, $0; dp4a.s32.s32 s, b3, $8, s; "
        "shl.b32 $0, $0, 8; shl.b32 s, s, 8; "
        "dp4a.s32.s32 $0, a0, $9, $0; dp4a.s32.s32 s, b0, $9, s; "
        "dp4a.s32.s32 $0, a1, $10, $0; dp4a.s32.s32 s, b1, $10, s; "
        "dp4a.s32.s32 $0, a2, $11, $0; dp4a.s32.s32 s, b2, $11, s; "
        "dp4a.s32.s32 $0, a3, $12, $0; dp4a.s32.s32 s, b3, $12, s; "
        "mad.lo.s32 $0, $0, 3, $13; mad.lo.s32 $0, s, 4, $0; }",
        "=&r,r,r,r,r,r,r,r,r,r,r,r,r,r,r,r,r,r",
        [
            w0, w1, w2, w3, u0, u1, u2, u3, l0, l1, l2, l3, -excess,
            _in_register(TABLES[0]),
            tl.full((1, 1, 1), TABLES[1], dtype=tl.uint32),
            _in_register(TABLES[2]),
            tl.full((1, 1, 1), TABLES[3], dtype=tl.uint32),
        ],
        dtype=tl.int32,
        is_pure=True,
        pack=1,
    )  # fmt: skip


@jit
def _word_by_hand(words, upper, lower, TABLES: tl.constexpr):
    total = tl.zeros(words.shape, dtype=tl.int32)
    for place in tl.static_range(4):
        codes = (words >> (4 * place)) & 15
        first = _looked_up(codes, TABLES[0], TABLES[1])
        second = _looked_up(codes ^ 8, TABLES[2], TABLES[3])
        x_upper = (upper << (24 - 8 * place)).to(tl.int32, bitcast=True) >> 24
        x_lower = (lower << (24 - 8 * place)).to(tl.int32, bitcast=True) >> 24
        total += (3 * first + 4 * second) * (x_upper * 256 + x_lower)
    return total


@jit
def _looked_up(codes, LOW: tl.constexpr, HIGH: tl.constexpr):
    """Of eight bytes the one that three bits of a code name, or its sign where the fourth is set."""
    low = tl.full(codes.shape, LOW, dtype=tl.uint32)
    word = tl.where(codes % 8 < 4, low, tl.full(codes.shape, HIGH, dtype=tl.uint32))
    byte = (word << (24 - 8 * (codes % 4))).to(tl.int32, bitcast=True) >> 24
    return tl.where(codes < 8, byte, byte >> 31)


@jit
def excess_of(upper, lower, MEAN_ERROR: tl.constexpr, BY_HAND: tl.constexpr):
    """By how much such a sum is too large, if its weights are as many of each level as those of a normal
    distribution are."""
    uppers = tl.zeros(upper[0].shape, dtype=tl.int32)
    lowers = tl.zeros(upper[0].shape, dtype=tl.int32)
    for place in tl.static_range(4):
        uppers = sum_bytes(upper[place], uppers, BY_HAND)
        lowers = sum_bytes(lower[place], lowers, BY_HAND)
    return ((uppers * 256 + lowers).to(tl.float32) * MEAN_ERROR).to(tl.int32)
