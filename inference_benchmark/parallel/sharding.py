"""What one rank keeps of a weight: rows or columns, and the copying of them. No torch.

Matrices that read the residual stream are divided by rows (heads, feed-forward columns, tokens of
the vocabulary), those that write into it by columns, so that a layer needs a sum over the ranks in
two places only. A fused matrix is several ones below each other, each divided by itself. What is
divided how, each part of the model says beside its weights; everything else (embedding table,
norms, routers, the projections down to a latent vector) is on every rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def divide(count: int, size: int, noun: str) -> int:
    """One of `size` equal shares.

    Raises:
        ValueError: there are none; the message names what can't be divided.
    """
    if count % size:
        raise ValueError(f"{count} {noun} can't be divided by {size}")
    return count // size


@dataclass(frozen=True)
class Shard:
    """This rank among all that share a model."""

    rank: int = 0
    size: int = 1

    def rows(self, length: int) -> RowRange:
        """This rank's equal share of so many rows (or columns)."""
        share = length // self.size
        return RowRange(length, self.rank * share, share)


@dataclass(frozen=True)
class RowRange:
    """`count` of `length` rows or columns, from `start` on."""

    length: int
    start: int
    count: int


@dataclass(frozen=True)
class WeightShard:
    """What a rank keeps of a weight: of dimension `dim`, which is made of these ranges' lengths."""

    dim: int
    ranges: tuple[RowRange, ...]

    def full_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The full weight's shape from that of the share."""
        full = list(shape)
        full[self.dim] = sum(rows.length for rows in self.ranges)
        return tuple(full)

    def copy_shard(self, full: Tensor, share: Tensor) -> None:
        """Copy what is kept of the full weight into `share`."""
        source, target = 0, 0
        for rows in self.ranges:
            kept = full.narrow(self.dim, source + rows.start, rows.count)
            share.narrow(self.dim, target, rows.count).copy_(kept)
            source, target = source + rows.length, target + rows.count

    def split(self) -> list[WeightShard]:
        """One shard for each of the matrices that a fused one consists of."""
        return [WeightShard(self.dim, (rows,)) for rows in self.ranges]


WeightShards = dict[str, WeightShard]  # by module; a weight without an entry is on every rank
