"""A linear layer over 4-bit integers in groups of 128 of a row, with a scale per group.

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

GROUP = 128
SYMMETRIC_ZERO = 8  # what the value 0 is stored as where groups have no zero points


def int4_linear(
    x: torch.Tensor, words: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor | None = None
) -> torch.Tensor:
    """x @ matrix.T, matrix[r, c] = scale of its group * (stored value - zero).

    Args:
        x: [..., in_features], contiguous.
        words: [out_features, groups * 16], int32, as packed_matrix describes them. Columns beyond
            in_features are ignored.
        scales: [out_features, groups], bf16.
        zeros: [out_features, groups], uint8; None: 8 everywhere.

    Returns:
        [..., out_features] of x's dtype. Sums are exact or in fp32, rounded once; for one row x is in
        16-bit fixed point, for prompts the weights are rounded to x's dtype first.
    """
    return _operator(x, words, scales, zeros)


def int4_swiglu(
    x: torch.Tensor, words: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor | None = None
) -> torch.Tensor:
    """silu(gate) * up, the halves of what int4_linear makes of one row: [..., width], rounded once.

    words, scales, zeros: of [2 * width, in_features].
    """
    return _swiglu(x, words, scales, zeros)


def pack_int4(values: torch.Tensor) -> torch.Tensor:
    """Numbers 0 to 15 [rows, groups * 128] -> words [rows, groups * 16], int32."""
    return pack(values, "int4")


def unpack_int4(words: torch.Tensor) -> torch.Tensor:
    """words [rows, groups * 16] -> stored values [rows, groups * 128], uint8."""
    return unpack(words, "int4")


def dequantize_int4(
    words: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor | None = None
) -> torch.Tensor:
    """The matrix [rows, groups * 128] of the scales' dtype."""
    values = unpack_int4(words).view(*scales.shape, GROUP).to(scales.dtype)
    zero = SYMMETRIC_ZERO if zeros is None else zeros[:, :, None].to(scales.dtype)
    return ((values - zero) * scales[:, :, None]).flatten(1)


def int4_linear_reference(
    x: torch.Tensor, words: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor | None = None
) -> torch.Tensor:
    """The same in plain PyTorch."""
    matrix = dequantize_int4(words, scales.float(), zeros)
    return F.linear(x, matrix[:, : x.shape[-1]].to(x.dtype))


def _packed(
    words: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor | None = None
) -> PackedMatrix:
    return PackedMatrix("int4" if zeros is None else "int4_zeros", words, scales, zeros)


def _launch(x: torch.Tensor, *tensors: torch.Tensor | None) -> torch.Tensor:
    return launch_packed(x, _packed(*tensors), launch_integer_gemv)


def _launch_swiglu(x: torch.Tensor, *tensors: torch.Tensor | None) -> torch.Tensor:
    return launch_packed_swiglu(x, _packed(*tensors), launch_integer_gemv)


_operator = register_operator("int4_linear", int4_linear_reference, _launch, fake_linear)
_swiglu = register_operator(
    "int4_swiglu", with_swiglu(int4_linear_reference), _launch_swiglu, fake_swiglu
)
