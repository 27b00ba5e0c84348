"""int4: 4-bit integers in groups of 128 of a row, a scale per group in the base type.

Symmetric groups hold -8 to 7 times the scale, which is the largest magnitude over 7.5: one of the
two ends is cut by half a step at most. Asymmetric groups hold 0 to 15 less a zero point, times the
scale, which is the width of the group's range, zero included, over 15.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from inference_benchmark.kernels.int4_gemv import (
    GROUP,
    SYMMETRIC_ZERO,
    dequantize_int4,
    pack_int4,
)

_LARGEST = 15
_LEAST_SCALE = 1e-12


def quantize(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """matrix [out, in] -> packed words [out, groups * 16], scales [out, groups]."""
    groups = _grouped(matrix)
    scales = (groups.abs().amax(dim=2) / (_LARGEST / 2)).clamp(min=_LEAST_SCALE)
    scales = scales.to(matrix.dtype)  # the values are rounded to steps of the scale that is kept
    values = torch.round(groups / scales.float()[:, :, None]) + SYMMETRIC_ZERO
    return pack_int4(values.clamp(0, _LARGEST).flatten(1)), scales


def dequantize(weights: tuple[Tensor, ...], in_features: int, dtype: torch.dtype) -> Tensor:
    """The matrix [out, in_features]; each weight is rounded to dtype once."""
    words, scales, *zeros = weights
    matrix = dequantize_int4(words, scales.float(), zeros[0] if zeros else None)
    return matrix[:, :in_features].to(dtype)


def quantize_asymmetric(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As quantize, and zero points [out, groups], uint8."""
    groups = _grouped(matrix)
    least, most = groups.amin(dim=2).clamp(max=0.0), groups.amax(dim=2).clamp(min=0.0)
    scales = ((most - least) / _LARGEST).clamp(min=_LEAST_SCALE).to(matrix.dtype)
    zeros = torch.round(-least / scales.float()).clamp(0, _LARGEST)
    values = torch.round(groups / scales.float()[:, :, None]) + zeros[:, :, None]
    return pack_int4(values.clamp(0, _LARGEST).flatten(1)), scales, zeros.to(torch.uint8)


def _grouped(matrix: Tensor) -> Tensor:
    """[out, groups, 128] in fp32; what is missing of the last group is zero."""
    padded = F.pad(matrix.float(), (0, -matrix.shape[1] % GROUP))
    return padded.view(matrix.shape[0], -1, GROUP)
