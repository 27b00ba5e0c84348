"""int8: whole numbers of -127 to 127, one scale per row of the matrix, rounded to nearest.

The scale is the row's largest magnitude over 127. Half of the bytes of bf16.
"""

import torch
from torch import Tensor

from inference_benchmark.kernels.int8_gemv import pack_int8, unpack_int8

LARGEST = 127


def quantize(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """matrix [out, in] -> packed words [out, blocks * 16], scales [out, 1] in fp32."""
    values = matrix.float()
    scales = (values.abs().amax(dim=1, keepdim=True) / LARGEST).clamp(min=1e-12)
    return pack_int8(torch.round(values / scales)), scales


def dequantize(weights: tuple[Tensor, ...], in_features: int, dtype: torch.dtype) -> Tensor:
    """The matrix [out, in_features]; each weight is rounded to dtype once."""
    words, scales = weights
    return (unpack_int8(words)[:, :in_features] * scales).to(dtype)
