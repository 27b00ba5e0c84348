"""A row of x in fixed point: whole numbers of 15 bits, under a power of two for each block of columns.

It is the largest that a block's largest magnitude leaves room for. bf16 has 8 bits, so that values
down to a 64th of a block's largest are exact, and the others lose less than the largest is rounded
by; fp16 likewise.
"""

from __future__ import annotations

from inference_benchmark.kernels._registration import jit, tl


@jit
def block_powers(magnitudes):
    """Of magnitudes [blocks, n] in fp32: the power of two that takes a block's largest one to 2^13 up
    to 2^14, [blocks, 1], and its inverse, [blocks]."""
    exponents = tl.max(magnitudes, axis=1).to(tl.uint32, bitcast=True) >> 23
    exponents = tl.maximum(exponents, 14)
    factors = ((267 - exponents) << 23).to(tl.float32, bitcast=True)[:, None]
    inverses = ((exponents - 13) << 23).to(tl.float32, bitcast=True)
    return factors, inverses


@jit
def as_integers(x, factor):
    """x times factor, rounded: the last 16 bits of the result, two's complement."""
    return (x * factor + 12582912.0).to(tl.uint32, bitcast=True)  # 1.5 * 2^23


@jit
def pack_bytes(a, b, c, d, SHIFT: tl.constexpr):
    """A byte of each of four, in one word."""
    low = ((a >> SHIFT) & 255) | (((b >> SHIFT) & 255) << 8)
    return low | (((c >> SHIFT) & 255) << 16) | (((d >> SHIFT) & 255) << 24)
