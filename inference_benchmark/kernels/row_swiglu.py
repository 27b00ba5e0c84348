"""SwiGLU behind a product: of its halves, or within the kernels of one row.

Those over weights of a format take gate's and up's rows in turn, so that a program has both of a
pair: the halves of the product are never written, and the next product, which is launched early,
waits for one kernel less.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from inference_benchmark.kernels._registration import jit, tl


def swiglu_of_halves(gate_up: Tensor) -> Tensor:
    """silu(gate) * up of [..., gate and up] -> [..., width]"""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


def with_swiglu(linear: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """(x, tensors of a matrix) -> swiglu_of_halves of what linear makes of the same."""

    @functools.wraps(linear)
    def swiglu(x, *weights):
        return swiglu_of_halves(linear(x, *weights))

    return swiglu


@jit
def swiglu_of_pairs(gate, up):
    return gate * tl.sigmoid(gate) * up


@jit
def matrix_rows(rows, out_features, SWIGLU: tl.constexpr):
    """Where the rows of a program stand in a matrix of out_features rows."""
    return rows // 2 + rows % 2 * (out_features // 2) if SWIGLU else rows


@jit
def store_rows(out_ptr, result, first_row, out_features, ROWS: tl.constexpr, SWIGLU: tl.constexpr):
    """result [ROWS] in fp32, of the rows from first_row on, or of their pairs."""
    if SWIGLU:
        # Every thread has all sums. What is gathered is spread over threads, so that no two of them
        # compute the same.
        pairs = tl.arange(0, ROWS // 2)
        gate, up = tl.gather(result, 2 * pairs, 0), tl.gather(result, 2 * pairs + 1, 0)
        values = swiglu_of_pairs(gate, up)
        places = first_row // 2 + pairs
        inside = places < out_features // 2
    else:
        values = result
        places = first_row + tl.arange(0, ROWS)
        inside = places < out_features
    tl.store(out_ptr + places, values.to(out_ptr.dtype.element_ty), mask=inside)
