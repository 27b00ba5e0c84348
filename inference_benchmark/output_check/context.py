"""What an engine's cache holds before a run: random values up to the context's depth, or poison.

The values follow from a seed and the shape of a layer's cache, so they are drawn anew, layer by
layer, wherever they are needed: for the reference, which attends to the very same context, and to
see whether a slot was changed that nothing should have written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from inference_benchmark.model.cache import LayerCache, fill_cache
from inference_benchmark.output_check.reference import Reference

# Finite: a mask multiplies what it hides by zero, and zero times infinity is not zero.
POISON = 2.0


@dataclass(frozen=True)
class Context:
    """Of an engine; depth: how many slots are filled. Without any, all slots hold poison."""

    engine: Any
    depth: int
    seed: int

    def restore(self) -> None:
        """Bring the engine's cache to what it is before a run."""
        if self.depth:
            self.engine.fill(self.seed)
        else:
            self.engine.reset(POISON)

    def layer(self, index: int) -> LayerCache:
        """The cache of a layer as it was, of all sequences and slots."""
        cache = tuple(torch.empty_like(tensor) for tensor in self.engine.caches[index])
        if self.depth:
            fill_cache(cache, index, self.seed)
            return cache
        return tuple(tensor.fill_(POISON) for tensor in cache)

    def reference_cache(
        self, reference: Reference, index: int, rows: Sequence[int], length: int
    ) -> LayerCache:
        """A reference's cache of a layer, tensors [rows, heads, depth + length, dim], of which the
        slots up to the depth are filled as those of the engine's sequences `rows` are."""
        cache = reference.empty_cache(index, len(rows), self.depth + length)
        if not self.depth:
            return cache
        filled = [tensor[list(rows), :, : self.depth] for tensor in self.layer(index)]
        for tensor, values in zip(cache, filled, strict=True):
            tensor[:, :, : self.depth].copy_(values)
        return cache

    def changed(self, written: slice) -> int:
        """Slots outside of `written` that hold something else than before."""
        count = 0
        for index, cache in enumerate(self.engine.caches):
            for tensor, before in zip(cache, self.layer(index), strict=True):
                changed = (tensor != before).any(dim=3).any(dim=1)
                changed[:, written] = False
                count += int(changed.sum())
        return count
