"""A row of x in fixed point: whole numbers of 15 bits, under a power of two for each block of columns.

It is the largest that a block's largest magnitude leaves room for. bf16 has 8 bits, so that values
down to a 64th of a block's largest are exact, and the others lose less than the largest is rounded
by; fp16 likewise.
"""

from __future__ import annotations

from inference_benchmark.kernels._registration import jit, tl


@jit
def magnitude(x):
    """Bits of |x| in fp32: as whole numbers they have its order, and infinity and NaN are the largest,
    which a maximum of floating point would drop."""
    return x.to(tl.uint32, bitcast=True) & 0x7FFFFFFF


@jit
def largest_of_four(a, b, c, d):
    return tl.maximum(
        tl.maximum(magnitude(a), magnitude(b)), tl.maximum(magnitude(c), magnitude(d))
    )


@jit
def block_powers(magnitudes):
    """Of magnitudes [blocks, n]: the power of two that takes a block's largest one to 2^13 up to 2^14,
    [blocks, 1], and its inverse, [blocks]. The inverse is NaN for a block with infinity or NaN in it:
    whole numbers have no such values, and what is multiplied by it must not look sound."""
    exponents = tl.maximum(tl.max(magnitudes, axis=1) >> 23, 14)
    factors = ((267 - exponents) << 23).to(tl.float32, bitcast=True)[:, None]
    inverses = ((exponents - 13) << 23).to(tl.float32, bitcast=True)
    return factors, tl.where(exponents == 255, float("nan"), inverses)


@jit
def as_integers(x, factor):
    """x times factor, rounded: the last 16 bits of the result, two's complement."""
    return (x * factor + 12582912.0).to(tl.uint32, bitcast=True)  # 1.5 * 2^23


@jit
def pack_bytes(a, b, c, d, SHIFT: tl.constexpr):
    """A byte of each of four, in one word."""
    low = ((a >> SHIFT) & 255) | (((b >> SHIFT) & 255) << 8)
    return low | (((c >> SHIFT) & 255) << 16) | (((d >> SHIFT) & 255) << 24)


@jit
def signed_bytes(a, b, c, d, factors, BY_HAND: tl.constexpr):
    """Four values times factors, rounded, as 256 times one byte plus another, -128 to 127 both: the
    words of the upper bytes and of the lower ones. Of 16 bits: the largest is to stay below 32639.5."""
    # 12583040: 1.5 * 2^23, and the lower bytes' 128.
    a, b = a * factors + 12583040.0, b * factors + 12583040.0
    c, d = c * factors + 12583040.0, d * factors + 12583040.0
    a, b = a.to(tl.uint32, bitcast=True), b.to(tl.uint32, bitcast=True)
    c, d = c.to(tl.uint32, bitcast=True), d.to(tl.uint32, bitcast=True)
    upper, lower = pack_both_bytes(a, b, c, d, BY_HAND)
    return upper, lower ^ 0x80808080


@jit
def pack_both_bytes(a, b, c, d, BY_HAND: tl.constexpr):
    """Of the last two bytes of each of four the upper ones in one word, and the lower ones."""
    if BY_HAND:
        upper, lower = pack_bytes(a, b, c, d, 8), pack_bytes(a, b, c, d, 0)
    else:
        ab, cd = _permute_bytes(a, b, 0x5410), _permute_bytes(c, d, 0x5410)
        upper, lower = _permute_bytes(ab, cd, 0x7531), _permute_bytes(ab, cd, 0x6420)
    return upper, lower


@jit
def _permute_bytes(a, b, SELECTOR: tl.constexpr):
    """Of eight bytes those that the digits of SELECTOR name, in one instruction: of masks and shifts
    seven are made."""
    return tl.inline_asm_elementwise(
        "prmt.b32 $0, $1, $2, $3;",
        "=r,r,r,r",
        [a, b, tl.full((1, 1), SELECTOR, dtype=tl.uint32)],
        dtype=tl.uint32,
        is_pure=True,
        pack=1,
    )


@jit
def sum_bytes(word, total, BY_HAND: tl.constexpr):
    """total plus the four signed bytes of word: int32."""
    if BY_HAND:
        for place in tl.static_range(4):
            total += (word << (24 - 8 * place)).to(tl.int32, bitcast=True) >> 24
    else:
        total = tl.inline_asm_elementwise(
            "dp4a.s32.s32 $0, $1, 0x01010101, $2;",
            "=r,r,r",
            [word, total],
            dtype=tl.int32,
            is_pure=True,
            pack=1,
        )
    return total
