"""A matrix of numbers of 8 or 4 bits, packed into words of 32 bits, and what belongs to it.

A row is cut into blocks of 16 words: 64 columns of 8 bits or 128 of 4. Columns go in pairs: pair j of
32 neighbouring columns, 32 p to 32 p + 31, lies at place p of word j of the block, so that what the
same operation takes out of 16 words side by side are 32 columns in their order. Where its two numbers
stand depends on what is done with them:

    format      even column    odd column
    int8, int4  bit b p        bit 16 + b p   of b bits: one mask takes both out, each in a half word
    nf4         bit 8 p        bit 8 p + 4    one byte, which a table of pairs is looked up by
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from inference_benchmark.kernels.integers import next_power_of_2

WORDS = 16  # of 32 bits, in a block of a row
PAIR_COLUMNS = 2 * WORDS  # columns that stand at the same place of a block's words
BITS = {"int8": 8, "int4": 4, "int4_zeros": 4, "nf4": 4}

# Of a kernel for one row: the types of x, and words that a warp loads at once, 16 bytes for each thread.
ROW_DTYPES = (torch.bfloat16, torch.float16)
WORDS_PER_WARP = 128
MOST_WARPS = 16


@dataclass(frozen=True)
class RowPlan:
    """How a kernel for one row cuts a matrix [out_features, in_features]."""

    rows: int  # of the matrix, at a time
    tiles: int  # of so many rows, per program
    num_warps: int
    most_registers: int | None = None  # of a thread: fewer leave room for more programs at a time
    by_hand: bool = False  # without the instructions that the interpreter does not know

    def fills_warps(self, padded_row_blocks: int) -> bool:
        """Whether a row's words are enough for all threads, four of which share a block: then a thread has
        rows, and neighbouring lanes words of the same one."""
        return not self.by_hand and padded_row_blocks * WORDS >= self.num_warps * WORDS_PER_WARP


class PackedMatrix(NamedTuple):
    """A matrix [out_features, in_features] in a format of BITS.

    words: [out_features, blocks * 16], int32.
    scales: of int8 [out_features, 1], fp32; of int4 [out_features, blocks], bf16; of nf4
        [out_features, 2 * blocks], e4m3.
    zeros: of int4_zeros [out_features, blocks], uint8.
    scale_scales, scale_mean, levels: of nf4, as nf4_linear describes them.
    """

    weight_format: str
    words: Tensor
    scales: Tensor
    zeros: Tensor | None = None
    scale_scales: Tensor | None = None
    scale_mean: Tensor | None = None
    levels: Tensor | None = None

    @property
    def out_features(self) -> int:
        return self.words.shape[0]

    @property
    def row_blocks(self) -> int:
        return self.words.shape[1] // WORDS

    @property
    def padded_row_blocks(self) -> int:
        """A power of two that covers them, as kernels count that read whole rows."""
        return max(next_power_of_2(self.row_blocks), 2)

    @property
    def row_warps(self) -> int:
        """Of how many warps each thread has as much of a row as it loads at once: a power of two."""
        return max(1, self.padded_row_blocks * WORDS // WORDS_PER_WARP)

    @property
    def places(self) -> int:
        """Pairs in a word."""
        return places(self.weight_format)

    @property
    def pointers(self) -> tuple[Tensor, ...]:
        """What kernels take: scales stand for what the format has not, and are not read as that."""
        return tuple(self.scales if tensor is None else tensor for tensor in self[1:])

    def check_fits(self, x: Tensor) -> None:
        """
        Raises:
            ValueError: x [..., in_features] has another number of blocks, or has gaps; words do not
                begin where a thread can load 16 bytes.
        """
        columns = PAIR_COLUMNS * self.places
        if -(-x.shape[-1] // columns) != self.row_blocks:
            raise ValueError(
                f"{self.weight_format}: x {tuple(x.shape)} does not fit rows of {self.row_blocks} "
                f"blocks of {columns} columns"
            )
        if not (x.is_contiguous() and self.words.is_contiguous()):
            raise ValueError(f"{self.weight_format}: x and words must be contiguous")
        if (
            self.words.data_ptr() % 16
        ):  # lanes would have other words than row_sums takes them to have
            raise ValueError(f"{self.weight_format}: words must begin at a multiple of 16 bytes")


def places(weight_format: str) -> int:
    """Pairs in a word."""
    return 16 // BITS[weight_format]


def _shifts(weight_format: str) -> tuple[int, int]:
    """Bits from one place to the next, and from the even column of a pair to the odd one."""
    return (8, 4) if weight_format == "nf4" else (BITS[weight_format], 16)


def pack(values: Tensor, weight_format: str) -> Tensor:
    """Stored numbers [rows, whole blocks of columns] -> words [rows, blocks * 16], int32."""
    of_place, of_odd = _shifts(weight_format)
    pairs = values.to(torch.int32).view(values.shape[0], -1, places(weight_format), WORDS, 2)
    words = torch.zeros_like(pairs[:, :, 0, :, 0])
    for place in range(pairs.shape[2]):
        words |= pairs[:, :, place, :, 0] << (of_place * place)
        words |= pairs[:, :, place, :, 1] << (of_place * place + of_odd)
    return words.flatten(1)


def unpack(words: Tensor, weight_format: str) -> Tensor:
    """words [rows, blocks * 16] -> stored numbers [rows, whole blocks of columns], uint8."""
    # Byte by byte, of which a word has its first in the lowest bits.
    values = words.view(torch.uint8)
    if BITS[weight_format] == 4:
        values = torch.stack((values & 15, values >> 4), dim=-1)
    if weight_format == "nf4":  # [.., word, place, odd]
        pairs = values.view(words.shape[0], -1, WORDS, 4, 2).transpose(2, 3)
    else:  # [.., word, odd, place]
        by_word = values.view(words.shape[0], -1, WORDS, 2, places(weight_format))
        pairs = by_word.permute(0, 1, 4, 2, 3)
    return pairs.flatten(1)
