"""The shapes of linear layers' results, as compilers ask for them before there is anything to compute."""

from __future__ import annotations

from torch import Tensor


def fake_linear(x: Tensor, matrix: Tensor, *further: Tensor | None) -> Tensor:
    """x [..., in]; matrix: the first tensor of the weights, with a row for each output."""
    return x.new_empty((*x.shape[:-1], matrix.shape[0]))


def fake_swiglu(x: Tensor, matrix: Tensor, *further: Tensor | None) -> Tensor:
    """The same with gate's and up's rows in the matrix."""
    return x.new_empty((*x.shape[:-1], matrix.shape[0] // 2))
