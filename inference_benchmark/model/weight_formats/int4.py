"""int4: integers of 4 bits in groups of 128 of a row, one scale per group.

A group holds -8 to 7 times its scale, which is its largest magnitude over 7.5: one of the two ends
is cut by half a step at most.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from inference_benchmark.kernels.int4_linear import (
    GROUP,
    SYMMETRIC_ZERO,
    dequantize_int4,
    int4_linear,
    int4_swiglu,
    pack_int4,
)
from inference_benchmark.model.weight_formats.rows import by_rows

LARGEST = 15
LEAST_SCALE = 1e-12
SCALE_TYPE = torch.bfloat16


def quantize(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """matrix [out, in] -> packed words [out, groups * 16], scales [out, groups]."""
    return by_rows(_quantize, matrix)


def _quantize(matrix: Tensor) -> tuple[Tensor, Tensor]:
    groups = in_groups(matrix)
    scales = groups.abs().amax(dim=2) / (LARGEST / 2)
    scales = scales.clamp(min=LEAST_SCALE).to(SCALE_TYPE)  # steps are those of the scale kept
    values = torch.round(groups / scales.float()[:, :, None]) + SYMMETRIC_ZERO
    return pack_int4(values.clamp(0, LARGEST).flatten(1)), scales


def in_groups(matrix: Tensor) -> Tensor:
    """[out, groups, 128] in fp32; what is missing of the last group is zero."""
    padded = F.pad(matrix.float(), (0, -matrix.shape[1] % GROUP))
    return padded.view(matrix.shape[0], -1, GROUP)


def dequantize(weights: tuple[Tensor, ...], in_features: int, dtype: torch.dtype) -> Tensor:
    """The matrix [out, in_features]; each weight is rounded to dtype once."""
    words, scales, *zeros = weights
    matrix = dequantize_int4(words, scales.float(), zeros[0] if zeros else None)
    return matrix[:, :in_features].to(dtype)


def int4_plain(x: Tensor, words: Tensor, scales: Tensor) -> Tensor:
    return F.linear(x, dequantize((words, scales), x.shape[-1], x.dtype))


plain, fast, fast_swiglu = int4_plain, int4_linear, int4_swiglu
quantize_experts = quantize
