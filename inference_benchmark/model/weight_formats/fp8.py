"""fp8: floats of 8 bits (e4m3), one scale per row of the matrix: its largest magnitude over 448.

Weights alone are in 8 bits: products are those of the base type.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from inference_benchmark.kernels.fp8_linear import fp8_linear, fp8_swiglu
from inference_benchmark.model.weight_formats.rows import by_rows

MOST = 448.0
_LEAST_SCALE = 1e-12


def quantize(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """matrix [out, in] -> values [out, in] in e4m3, scales [out, 1] in fp32."""
    return by_rows(quantize_rows, matrix)


def quantize_rows(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """As quantize, all rows at once."""
    values = matrix.float()
    scales = (values.abs().amax(dim=-1, keepdim=True) / MOST).clamp(min=_LEAST_SCALE)
    return (values / scales).to(torch.float8_e4m3fn), scales


def dequantize(weights: tuple[Tensor, ...], in_features: int, dtype: torch.dtype) -> Tensor:
    """The matrix [out, in]; each weight is rounded to dtype once."""
    values, scales = weights
    return (values.float() * scales).to(dtype)


def fp8_plain(x: Tensor, values: Tensor, scales: Tensor) -> Tensor:
    return F.linear(x, dequantize((values, scales), x.shape[-1], x.dtype))


plain, fast, fast_swiglu = fp8_plain, fp8_linear, fp8_swiglu
quantize_experts = quantize
