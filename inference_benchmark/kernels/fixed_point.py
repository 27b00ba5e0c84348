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
def halves(a, b, c, d, factors, ZERO: tl.constexpr, MEAN_LOWER: tl.constexpr):
    """Of four values their upper halves, -128 to 127, and their lower ones, about -64 to 64, each
    four bytes of a word; and by how much a sum is too large of x times levels that are stored
    ZERO larger, and without the products of lower halves."""
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
