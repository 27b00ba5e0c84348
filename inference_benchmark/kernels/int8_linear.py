"""A linear layer over 8-bit integers with one scale per row of the matrix.

One row of x is integer_gemv's, a few are few_rows'; a prompt gets the matrix unpacked.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from inference_benchmark.kernels._registration import register_operator
from inference_benchmark.kernels.integer_gemv import launch_integer_gemv
from inference_benchmark.kernels.packed_linear import launch_packed, launch_packed_swiglu
from inference_benchmark.kernels.packed_matrix import PackedMatrix, pack, unpack
from inference_benchmark.kernels.result_shapes import fake_linear, fake_swiglu
from inference_benchmark.kernels.row_swiglu import with_swiglu

BLOCK = 64  # columns: 16 words of 32 bits
ZERO = 128  # what the value 0 is stored as


def int8_linear(x: torch.Tensor, words: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """x @ matrix.T, matrix[r, c] = scales[r] * (stored value - 128).

    Args:
        x: [..., in_features], contiguous.
        words: [out_features, blocks * 16], int32, as packed_matrix describes them. Columns beyond
            in_features are ignored.
        scales: [out_features, 1], fp32.

    Returns:
        [..., out_features] of x's dtype. Sums are exact or in fp32, rounded once; for one row x is in
        16-bit fixed point, for prompts the weights are rounded to x's dtype first.
    """
    return _operator(x, words, scales)


def int8_swiglu(x: torch.Tensor, words: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up, the halves of what int8_linear makes of one row: [..., width], rounded once.

    words, scales: of [2 * width, in_features].
    """
    return _swiglu(x, words, scales)


def pack_int8(values: torch.Tensor) -> torch.Tensor:
    """Integers -128 to 127 [rows, columns] -> words [rows, blocks * 16]."""
    return pack(
        F.pad(values.to(torch.int32) + ZERO, (0, -values.shape[1] % BLOCK), value=ZERO), "int8"
    )


def unpack_int8(words: torch.Tensor) -> torch.Tensor:
    """words [rows, blocks * 16] -> integers [rows, blocks * 64], fp32."""
    return unpack(words, "int8").to(torch.float32) - ZERO


def int8_linear_reference(
    x: torch.Tensor, words: torch.Tensor, scales: torch.Tensor
) -> torch.Tensor:
    """The same in plain PyTorch."""
    matrix = unpack_int8(words)[:, : x.shape[-1]] * scales
    return F.linear(x, matrix.to(x.dtype))


def _launch(x: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
    return launch_packed(x, PackedMatrix("int8", *tensors), launch_integer_gemv)


def _launch_swiglu(x: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
    return launch_packed_swiglu(x, PackedMatrix("int8", *tensors), launch_integer_gemv)


_operator = register_operator("int8_linear", int8_linear_reference, _launch, fake_linear)
_swiglu = register_operator(
    "int8_swiglu", with_swiglu(int8_linear_reference), _launch_swiglu, fake_swiglu
)
