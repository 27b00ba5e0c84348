"""How a Hugging Face checkpoint lays tensors out, and where in our weights each of them goes.

We fuse what reads the same input (q, k and v; gate and up; all experts), so one of our weights is
put together from several of the checkpoint's tensors: each has its own slice of it. Three layouts
differ as well. Models whose RoPE rotates pairs that lie side by side get the rows that make queries
and keys sorted into halves: scores are sums over these rows and don't depend on their order. The
experts of Llama 4 are stored [expert, in, out]. Those of DeepSeek V3 are stored one by one in files,
and stacked in the state dict of a loaded model.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from inference_benchmark.parallel.sharding import WeightShard


@dataclass(frozen=True)
class Layout:
    """
    interleaved_rope: the two values of a rotated pair lie side by side.
    stacked_experts: one tensor holds the same matrix of all experts.
    experts_input_first: and holds it as [expert, in, out].
    """

    interleaved_rope: bool = False
    stacked_experts: bool = False
    experts_input_first: bool = False


def unchanged(value: Tensor) -> Tensor:
    return value


def transpose(value: Tensor) -> Tensor:
    return value.transpose(-2, -1)


def rope_rows(head_dim: int, rope_dim: int) -> Callable[[Tensor], Tensor]:
    """Sorts the last rope_dim rows of each head, pairs side by side, into two halves."""

    def arrange(weight: Tensor) -> Tensor:
        """weight [heads * head_dim, ...]"""
        by_head = weight.unflatten(0, (-1, head_dim))
        kept, pairs = by_head.split((head_dim - rope_dim, rope_dim), dim=1)
        pairs = pairs.unflatten(1, (rope_dim // 2, 2)).transpose(1, 2).flatten(1, 2)
        return torch.cat((kept, pairs), dim=1).view_as(weight)

    return arrange


def rope_pairs(head_dim: int, rope_dim: int) -> Callable[[Tensor], Tensor]:
    """The inverse of rope_rows: each head's last rope_dim rows, two halves, become pairs."""

    def arrange(weight: Tensor) -> Tensor:
        """weight [heads * head_dim, ...]"""
        by_head = weight.unflatten(0, (-1, head_dim))
        kept, halves = by_head.split((head_dim - rope_dim, rope_dim), dim=1)
        halves = halves.unflatten(1, (2, rope_dim // 2)).transpose(1, 2).flatten(1, 2)
        return torch.cat((kept, halves), dim=1).view_as(weight)

    return arrange


@dataclass(frozen=True)
class Target:
    """Where a tensor of a checkpoint goes: arrange(tensor), or this rank's shard of that, is copied
    into view. transposed: arrange swaps the last two dimensions."""

    view: Tensor
    arrange: Callable[[Tensor], Tensor] = unchanged
    transposed: bool = False
    shard: WeightShard | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape in the checkpoint."""
        shape = tuple(self.view.shape)
        if self.shard is not None:
            shape = self.shard.full_shape(shape)
        return (*shape[:-2], shape[-1], shape[-2]) if self.transposed else shape

    @property
    def tensor(self) -> Tensor:
        """The tensor as the checkpoint has it: our own memory, a view of it.

        Raises:
            ValueError: ours is laid out otherwise, or a part of it only.
        """
        if self.arrange is not unchanged or self.shard is not None:
            raise ValueError("this tensor is laid out otherwise than in a checkpoint")
        return self.view

    def fill(self, value: Tensor) -> None:
        arranged = self.arrange(value)
        if self.shard is None:
            self.view.copy_(arranged)
        else:
            self.shard.copy_shard(arranged, self.view)
