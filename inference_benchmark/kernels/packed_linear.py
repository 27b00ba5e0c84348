"""What the linear layers over packed weights share: which kernel has how many rows of x."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from inference_benchmark.kernels.few_rows import MAX_ROWS, launch_few_rows
from inference_benchmark.kernels.packed_matrix import ROW_DTYPES, PackedMatrix
from inference_benchmark.kernels.packed_words import launch_unpack
from inference_benchmark.kernels.row_swiglu import swiglu_of_halves


def launch_packed(x: Tensor, packed: PackedMatrix, launch_row: Callable[..., Tensor]) -> Tensor:
    """x [..., in_features] times the matrix: one row by launch_row(x, packed), a few by few_rows; a
    prompt gets the matrix unpacked."""
    x = x.contiguous()
    num_rows = x.numel() // x.shape[-1]
    if num_rows == 1 and x.dtype in ROW_DTYPES:
        return launch_row(x, packed)
    if num_rows <= MAX_ROWS:
        return launch_few_rows(x, packed)
    return F.linear(x, launch_unpack(packed, x.shape[-1], x.dtype))


def launch_packed_swiglu(
    x: Tensor, packed: PackedMatrix, launch_row: Callable[..., Tensor]
) -> Tensor:
    """silu(gate) * up, the halves of the same; of one row within launch_row."""
    if x.numel() == x.shape[-1] and x.dtype in ROW_DTYPES:
        return launch_row(x.contiguous(), packed, swiglu=True)
    return swiglu_of_halves(launch_packed(x, packed, launch_row))
