"""The 16 levels of nf4, and the same as whole numbers of 15 bits, in tables of bytes.

One instruction takes four bytes out of eight that two registers hold, by three bits of a number each;
where the number's fourth bit is set it repeats the sign of the byte instead. So two of them, the
second with that bit turned over, look up four numbers of 4 bits: one has the byte, the other 0 or,
of a negative byte, -1, which the byte's table makes up for. Their results are added. A level is 256
times an upper byte, of 7 bits, plus a lower one with a sign: off by less than a 60th of bf16's steps
at the smallest.
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
# What the level 1 is as a whole number: one that brings all levels within 2.1e-5 of whole numbers, and
# their errors to an average of 7e-7.
UNIT = 16070
ZERO = 16384  # what stands for the level 0: a multiple of 256
WHOLE_LEVELS = tuple(ZERO + round(level * UNIT) for level in LEVELS)
UPPER = tuple((level + 128) >> 8 for level in WHOLE_LEVELS)
LOWER = tuple(level - 256 * upper for level, upper in zip(WHOLE_LEVELS, UPPER, strict=True))
MEAN_LOWER = sum(LOWER) / 16


def byte_tables() -> tuple[int, ...]:
    """For the upper bytes, then for the lower ones: four words of four bytes each."""
    words = [
        half[first : first + 4] for half in (UPPER, _lower_table()) for first in range(0, 16, 4)
    ]
    return tuple(int.from_bytes(bytes(byte & 255 for byte in word), "little") for word in words)


def _lower_table() -> tuple[int, ...]:
    """LOWER, where a number eight below or above has a negative byte one larger."""
    return tuple(lower + (LOWER[code ^ 8] < 0) for code, lower in enumerate(LOWER))
