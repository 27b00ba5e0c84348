"""A linear layer over 4-bit NormalFloat in groups of 64 of a row (QLoRA, arXiv:2305.14314).

A weight is one of 16 quantiles of the normal distribution times its group's scale, itself 8 bits of
a float around the mean of all scales. One row of x is nf4_gemv's, a few are few_rows'; a prompt gets
the matrix unpacked.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from inference_benchmark.kernels._registration import register_operator
from inference_benchmark.kernels.nf4_gemv import launch_nf4_gemv
from inference_benchmark.kernels.packed_linear import launch_packed, launch_packed_swiglu
from inference_benchmark.kernels.packed_matrix import PackedMatrix, pack, unpack
from inference_benchmark.kernels.packed_words import SCALE_BLOCK
from inference_benchmark.kernels.result_shapes import fake_linear, fake_swiglu
from inference_benchmark.kernels.row_swiglu import with_swiglu

GROUP = 64
BLOCK = 128  # columns: two groups, 16 words of 32 bits


def nf4_linear(x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
    """x @ matrix.T, matrix[r, c] = level of the stored value * its group's scale.

    Args:
        x: [..., in_features], contiguous.
        weights: words, scales, scale_scales, scale_mean, levels:
        words: [out_features, groups * 8], int32, as packed_matrix describes them. Columns beyond
            in_features are ignored.
        scales: [out_features, groups], float8_e4m3fn. A group's scale is this times its block's
            entry of scale_scales, plus scale_mean.
        scale_scales: [blocks], fp32, one for each 256 groups in the order of memory.
        scale_mean: [1], fp32.
        levels: [16], fp32, in the order of the stored values (nf4_levels).

    Returns:
        [..., out_features] of x's dtype, rounded once. For one row x is of whole numbers of 16 bits, the
        levels of such as bytes make (nf4_levels), nearer to them than bf16 is to a weight; for a few rows
        the levels are rounded to x's dtype first, for prompts the weights are.
    """
    return _operator(x, *weights)


def nf4_swiglu(x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up, the halves of what nf4_linear makes of one row: [..., width], rounded once.

    weights: of [2 * width, in_features].
    """
    return _swiglu(x, *weights)


def pack_nf4(values: torch.Tensor) -> torch.Tensor:
    """Numbers of levels [rows, groups * 64] -> words [rows, groups * 8], int32."""
    return pack(values, "nf4")


def unpack_nf4(words: torch.Tensor) -> torch.Tensor:
    """words [rows, groups * 8] -> stored values [rows, groups * 64], int32."""
    return unpack(words, "nf4").to(torch.int32)


def group_scales(
    scales: torch.Tensor, scale_scales: torch.Tensor, scale_mean: torch.Tensor
) -> torch.Tensor:
    """Every group's scale [rows, groups], fp32 (or wider, as scale_scales)."""
    of_block = scale_scales.repeat_interleave(SCALE_BLOCK)[: scales.numel()].view(scales.shape)
    return scales.to(scale_scales.dtype) * of_block + scale_mean


def dequantize_nf4(words: torch.Tensor, *further: torch.Tensor) -> torch.Tensor:
    """The matrix [rows, groups * 64], fp32; further as nf4_linear's."""
    *scales, levels = further
    return scaled_levels(words, group_scales(*scales), levels)


def scaled_levels(
    words: torch.Tensor, of_groups: torch.Tensor, levels: torch.Tensor
) -> torch.Tensor:
    """The same of the groups' scales themselves, [rows, groups]."""
    values = levels[unpack_nf4(words)].view(*of_groups.shape, GROUP)
    return (values * of_groups[:, :, None]).flatten(1)


def nf4_linear_reference(
    x: torch.Tensor,
    words: torch.Tensor,
    scales: torch.Tensor,
    scale_scales: torch.Tensor,
    scale_mean: torch.Tensor,
    levels: torch.Tensor,
) -> torch.Tensor:
    """The same in plain PyTorch."""
    matrix = dequantize_nf4(words, scales, scale_scales, scale_mean, levels)
    return F.linear(x, matrix[:, : x.shape[-1]].to(x.dtype))


def _packed(words: torch.Tensor, scales: torch.Tensor, *further: torch.Tensor) -> PackedMatrix:
    return PackedMatrix("nf4", words, scales, None, *further)


def _launch(x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
    return launch_packed(x, _packed(*weights), launch_nf4_gemv)


def _launch_swiglu(x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
    return launch_packed_swiglu(x, _packed(*weights), launch_nf4_gemv)


_operator = register_operator("nf4_linear", nf4_linear_reference, _launch, fake_linear)
_swiglu = register_operator(
    "nf4_swiglu", with_swiglu(nf4_linear_reference), _launch_swiglu, fake_swiglu
)
