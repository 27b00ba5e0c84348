"""Matrices are quantised a few rows at a time: what is computed on the way is several times larger
than what is kept."""

from collections.abc import Callable

from torch import Tensor

_WEIGHTS_AT_A_TIME = 1 << 25


def by_rows(quantize: Callable[..., tuple[Tensor, ...]], *matrices: Tensor) -> tuple[Tensor, ...]:
    """The tuple of tensors that `quantize` would make of all rows of the matrices at once; no tensor
    of it exists twice."""
    rows, columns = matrices[0].shape[:2]
    count = max(1, _WEIGHTS_AT_A_TIME // columns)
    if rows <= count:
        return quantize(*matrices)
    whole: tuple[Tensor, ...] = ()
    for first in range(0, rows, count):
        block = slice(first, first + count)
        parts = quantize(*(matrix[block] for matrix in matrices))
        whole = whole or tuple(part.new_empty(rows, *part.shape[1:]) for part in parts)
        for tensor, part in zip(whole, parts, strict=True):
            tensor[block].copy_(part)
    return whole
