"""Matrices are quantised a few rows at a time: what is computed on the way is several times larger
than what is kept."""

from collections.abc import Callable

import torch
from torch import Tensor

_WEIGHTS_AT_A_TIME = 1 << 25


def by_rows(quantize: Callable[[Tensor], tuple[Tensor, ...]], *matrices: Tensor):
    """The tuple of tensors that `quantize` would make of all rows of the matrices at once."""
    first = matrices[0]
    count = max(1, _WEIGHTS_AT_A_TIME // first.shape[1])
    parts = [quantize(*block) for block in zip(*(m.split(count) for m in matrices), strict=True)]
    if len(parts) == 1:
        return parts[0]
    return tuple(torch.cat(tensors) for tensors in zip(*parts, strict=True))
