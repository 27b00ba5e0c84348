"""nf4: 4-bit NormalFloat with double quantisation, as published with QLoRA (arXiv:2305.14314).

A group of 64 weights is divided by its largest magnitude, and each becomes the nearest of 16
quantiles of the normal distribution. The groups' scales are themselves kept in 8 bits: less their
mean, as floats (e4m3) with a scale of 32 bits for each 256 of them, 0.127 bits a weight in all.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from inference_benchmark.kernels.nf4_levels import LEVELS, NUMBERS, STORED_LEVELS
from inference_benchmark.kernels.nf4_linear import (
    BLOCK,
    GROUP,
    dequantize_nf4,
    group_scales,
    nf4_linear,
    nf4_swiglu,
    pack_nf4,
)
from inference_benchmark.kernels.packed_words import SCALE_BLOCK
from inference_benchmark.model.weight_formats.rows import by_rows

_MOST_E4M3 = 448.0
_LEAST_SCALE = 1e-12


def quantize(matrix: Tensor) -> tuple[Tensor, ...]:
    """matrix [out, in] -> packed words [out, groups * 8], scales [out, groups] in e4m3,
    scale_scales [blocks of 256 groups], scale_mean [1], levels [16]."""
    (largest,) = by_rows(lambda rows: (_in_groups(rows).abs().amax(dim=2),), matrix)
    scales = _quantize_scales(largest)
    levels = torch.tensor(STORED_LEVELS, device=matrix.device)
    # The values are held against the scale that is kept, not the one that was meant.
    kept = group_scales(*scales).clamp(min=_LEAST_SCALE)
    (words,) = by_rows(lambda rows, kept: (_words(rows, kept),), matrix, kept)
    return words, *scales, levels


def _in_groups(matrix: Tensor) -> Tensor:
    """[out, groups, 64] in fp32; what is missing of the last two groups is zero."""
    padded = F.pad(matrix.float(), (0, -matrix.shape[1] % BLOCK))
    return padded.view(matrix.shape[0], -1, GROUP)


def _words(matrix: Tensor, scales: Tensor) -> Tensor:
    """Of each weight the number of the level that is nearest, packed."""
    levels, numbers = (torch.tensor(row, device=matrix.device) for row in (LEVELS, NUMBERS))
    shares = _in_groups(matrix) / scales[:, :, None]
    places = torch.bucketize(shares, (levels[1:] + levels[:-1]) / 2)
    return pack_nf4(numbers[places].flatten(1))


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


def nf4_plain(x: Tensor, *weights: Tensor) -> Tensor:
    return F.linear(x, dequantize(weights, x.shape[-1], x.dtype))


plain, fast, fast_swiglu = nf4_plain, nf4_linear, nf4_swiglu
quantize_experts = quantize
