"""Sums of weights of 8 or 4 bits, as they are stored, times x in fixed point, four at a time."""

from __future__ import annotations

from inference_benchmark.kernels._registration import jit, tl


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
def _dots_by_hand(words, x, excess, FORMAT: tl.constexpr):
    dots = tl.zeros(words[0].shape, dtype=tl.int32) - excess
    for place in tl.static_range(4):
        if FORMAT == "int8":
            dots += _dot_by_hand(words[place], x[0][place], x[1][place])
        else:
            dots += _dot_by_hand(words[place] & 0x0F0F0F0F, x[0][place], x[1][place])
            dots += _dot_by_hand((words[place] >> 4) & 0x0F0F0F0F, x[2][place], x[3][place])
    return dots


@jit
def integer_dots(words, x, excess, FORMAT: tl.constexpr, BY_HAND: tl.constexpr):
    """The sum of what is stored in four words, times x, less excess: int32. x: for each word its high and
    its low bytes, of 4 bits those of the words' lower halves of bytes first."""
    if BY_HAND:
        dots = _dots_by_hand(words, x, excess, FORMAT)
    elif FORMAT == "int8":
        w0, w1, w2, w3 = words
        h0, h1, h2, h3 = x[0]
        l0, l1, l2, l3 = x[1]
        dots = tl.inline_asm_elementwise(
            "dp4a.u32.s32 $0, $1, $5, 0; dp4a.u32.s32 $0, $2, $6, $0; "
            "dp4a.u32.s32 $0, $3, $7, $0; dp4a.u32.s32 $0, $4, $8, $0; "
            "mad.lo.s32 $0, $0, 256, $13; "
            "dp4a.u32.u32 $0, $1, $9, $0; dp4a.u32.u32 $0, $2, $10, $0; "
            "dp4a.u32.u32 $0, $3, $11, $0; dp4a.u32.u32 $0, $4, $12, $0; ",
            "=&r,r,r,r,r,r,r,r,r,r,r,r,r,r",
            [w0, w1, w2, w3, h0, h1, h2, h3, l0, l1, l2, l3, -excess],
            dtype=tl.int32,
            is_pure=True,
            pack=1,
        )
    else:
        w0, w1, w2, w3 = words
        h0, h1, h2, h3 = x[0]
        l0, l1, l2, l3 = x[1]
        u0, u1, u2, u3 = x[2]
        v0, v1, v2, v3 = x[3]
        dots = tl.inline_asm_elementwise(
            "{ .reg .b32 a0, a1, a2, a3, b0, b1, b2, b3; "
            "and.b32 a0, $1, 0x0f0f0f0f; shr.u32 b0, $1, 4; and.b32 b0, b0, 0x0f0f0f0f; "
            "and.b32 a1, $2, 0x0f0f0f0f; shr.u32 b1, $2, 4; and.b32 b1, b1, 0x0f0f0f0f; "
            "and.b32 a2, $3, 0x0f0f0f0f; shr.u32 b2, $3, 4; and.b32 b2, b2, 0x0f0f0f0f; "
            "and.b32 a3, $4, 0x0f0f0f0f; shr.u32 b3, $4, 4; and.b32 b3, b3, 0x0f0f0f0f; "
            "dp4a.u32.s32 $0, a0, $5, 0; dp4a.u32.s32 $0, b0, $13, $0; "
            "dp4a.u32.s32 $0, a1, $6, $0; dp4a.u32.s32 $0, b1, $14, $0; "
            "dp4a.u32.s32 $0, a2, $7, $0; dp4a.u32.s32 $0, b2, $15, $0; "
            "dp4a.u32.s32 $0, a3, $8, $0; dp4a.u32.s32 $0, b3, $16, $0; "
            "mad.lo.s32 $0, $0, 256, $21; "
            "dp4a.u32.u32 $0, a0, $9, $0; dp4a.u32.u32 $0, b0, $17, $0; "
            "dp4a.u32.u32 $0, a1, $10, $0; dp4a.u32.u32 $0, b1, $18, $0; "
            "dp4a.u32.u32 $0, a2, $11, $0; dp4a.u32.u32 $0, b2, $19, $0; "
            "dp4a.u32.u32 $0, a3, $12, $0; dp4a.u32.u32 $0, b3, $20, $0; }",
            "=&r,r,r,r,r,r,r,r,r,r,r,r,r,r,r,r,r,r,r,r,r,r",
            [
                w0, w1, w2, w3, h0, h1, h2, h3, l0, l1, l2, l3,
                u0, u1, u2, u3, v0, v1, v2, v3, -excess,
            ],
            dtype=tl.int32,
            is_pure=True,
            pack=1,
        )  # fmt: skip
    return dots
