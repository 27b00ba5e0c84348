"""The 16 levels of nf4, the numbers by which they are stored, and the same as sums of two bytes.

One instruction takes four bytes out of eight that two registers hold, by three bits of a number each;
where the number's fourth bit is set it repeats the sign of the byte instead: 0, or -1 of a negative
one. So two tables of eight bytes, the second asked with that bit turned over, answer for four numbers
of 4 bits, each by a byte of the one and a 0 or -1 of the other. Multiplied with x and added up apart,
3 times what the first gives plus 4 times what the second gives are the levels in one unit.

Which level has which number is ours to choose, and this choice brings the levels nearest to such
whole numbers: for weights of a normal distribution they are off by 0.10 % (the root of the mean
square, of a weight), less than what rounding each weight to bf16 takes, 0.17 %.
"""

from __future__ import annotations

# QLoRA (arXiv:2305.14314), appendix E: in order.
LEVELS = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
# By stored number its place in that order, and the other way round.
PLACES = (2, 6, 7, 8, 9, 10, 11, 12, 1, 4, 13, 0, 3, 14, 5, 15)
NUMBERS = tuple(PLACES.index(place) for place in range(16))
STORED_LEVELS = tuple(LEVELS[place] for place in PLACES)

FACTORS = (3, 4)  # of the first eight numbers' bytes, of the others'
BYTES = (-82, -13, 0, 14, 27, 39, 55, 70, -82, -33, 67, -119, -47, 86, -22, 119)
UNIT = 475.96  # the level 1 as a whole number
MEAN_ERROR = (
    0.128  # by which whole numbers are too large on average, of weights of a normal distribution
)


def whole_level(number: int) -> int:
    """What the bytes make of a stored number."""
    own, other = (0, 1) if number < 8 else (1, 0)
    return FACTORS[own] * BYTES[number] - FACTORS[other] * (BYTES[number ^ 8] < 0)


def byte_tables() -> tuple[int, ...]:
    """Two words of four bytes for the first eight numbers, two for the others."""
    return tuple(
        int.from_bytes(bytes(byte & 255 for byte in BYTES[first : first + 4]), "little")
        for first in range(0, 16, 4)
    )
