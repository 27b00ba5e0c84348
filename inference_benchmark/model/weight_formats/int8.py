"""int8: whole numbers of -127 to 127, one scale per row of the matrix, rounded to nearest.

The scale is the row's largest magnitude over 127. Half of the bytes of bf16.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from inference_benchmark.kernels.int8_linear import (
    int8_linear,
    int8_swiglu,
    pack_int8,
    unpack_int8,
)
from inference_benchmark.model.weight_formats.rows import by_rows

LARGEST = 127
_LEAST_SCALE = 1e-12


def quantize(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """matrix [out, in] -> packed words [out, blocks * 16], scales [out, 1] in fp32."""
    return by_rows(_quantize, matrix)


def quantize_experts(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The same, not packed: values [out, in], int8, and scales."""
    return by_rows(quantize_rows, matrix)


def quantize_rows(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """As quantize_experts, all rows at once."""
    values = matrix.float()
    scales = (values.abs().amax(dim=1, keepdim=True) / LARGEST).clamp(min=_LEAST_SCALE)
    return torch.round(values / scales).to(torch.int8), scales


def _quantize(matrix: Tensor) -> tuple[Tensor, Tensor]:
    values, scales = quantize_rows(matrix)
    return pack_int8(values), scales


def dequantize(weights: tuple[Tensor, ...], in_features: int, dtype: torch.dtype) -> Tensor:
    """The matrix [out, in_features]; each weight is rounded to dtype once."""
    words, scales = weights
    return (unpack_int8(words)[:, :in_features] * scales).to(dtype)


def int8_plain(x: Tensor, words: Tensor, scales: Tensor) -> Tensor:
    return F.linear(x, dequantize((words, scales), x.shape[-1], x.dtype))


plain, fast, fast_swiglu = int8_plain, int8_linear, int8_swiglu
