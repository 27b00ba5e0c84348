"""nf4: 4-bit NormalFloat with double quantisation, as published with QLoRA (arXiv:2305.14314).

A group of 64 weights is divided by its largest magnitude, and each becomes the nearest of 16
quantiles of the normal distribution. The groups' scales are themselves kept in 8 bits: less their
mean, as floats (e4m3) with a scale of 32 bits for each 256 of them, 0.127 bits a weight in all.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from inference_benchmark.kernels.int4_gemv import pack_int4
from inference_benchmark.kernels.nf4_gemv import (
    BLOCK,
    GROUP,
    LEVELS,
    SCALE_BLOCK,
    dequantize_nf4,
    group_scales,
)

_MOST_E4M3 = 448.0
_LEAST_SCALE = 1e-12


def quantize(matrix: Tensor) -> tuple[Tensor, ...]:
    """matrix [out, in] -> packed words [out, groups * 8], scales [out, groups] in e4m3,
    scale_scales [blocks of 256 groups], scale_mean [1], levels [16]."""
    padded = F.pad(matrix.float(), (0, -matrix.shape[1] % BLOCK))
    groups = padded.view(matrix.shape[0], -1, GROUP)
    largest = groups.abs().amax(dim=2)
    quantized = _quantize_scales(largest)
    levels = torch.tensor(LEVELS, device=matrix.device)
    # The values are held against the scale that is kept, not the one that was meant.
    scales = group_scales(*quantized).clamp(min=_LEAST_SCALE)
    codes = torch.bucketize(groups / scales[:, :, None], (levels[1:] + levels[:-1]) / 2)
    return pack_int4(codes.flatten(1)), *quantized, levels


def _quantize_scales(scales: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """scales [out, groups] -> the same in e4m3, fp32 scales of 256 of them, and their mean."""
    mean = scales.mean().view(1)
    offsets = (scales - mean).flatten()
    blocks = F.pad(offsets, (0, -offsets.numel() % SCALE_BLOCK)).view(-1, SCALE_BLOCK)
    scale_scales = (blocks.abs().amax(dim=1) / _MOST_E4M3).clamp(min=_LEAST_SCALE)
    stored = (blocks / scale_scales[:, None]).to(torch.float8_e4m3fn)
    return stored.flatten()[: offsets.numel()].view(scales.shape), scale_scales, mean


def dequantize(weights: tuple[Tensor, ...], in_features: int, dtype: torch.dtype) -> Tensor:
    """The matrix [out, in_features]; each weight is rounded to dtype once."""
    return dequantize_nf4(*weights)[:, :in_features].to(dtype)
