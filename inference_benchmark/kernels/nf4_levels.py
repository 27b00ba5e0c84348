"""The 16 levels of nf4, and the same as whole numbers of 14 bits, in tables of bytes.

One instruction takes four bytes out of eight that two registers hold, by three bits of a number each;
where the number's fourth bit is set it repeats the sign of the byte instead, 0 for bytes below 128. So
two of them, the second with that bit turned over, look up four numbers of 4 bits, and their results
are added. A level is two such bytes of 7 bits: off by less than a 30th of bf16's steps at the smallest.
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
# What the level 1 is as a whole number: one that brings all levels within 4.3e-5 of whole numbers, and
# their errors to an average of 2e-7.
UNIT = 8016
ZERO = 8192  # what stands for the level 0: a multiple of 128
WHOLE_LEVELS = tuple(ZERO + round(level * UNIT) for level in LEVELS)
MEAN_LOWER = sum(level & 127 for level in WHOLE_LEVELS) / 16  # of the lower halves


def byte_tables() -> tuple[int, ...]:
    """Of WHOLE_LEVELS the upper seven bits, then the lower ones: four words of four bytes each."""
    halves = [level >> 7 for level in WHOLE_LEVELS], [level & 127 for level in WHOLE_LEVELS]
    words = [half[first : first + 4] for half in halves for first in range(0, 16, 4)]
    return tuple(int.from_bytes(bytes(word), "little") for word in words)
