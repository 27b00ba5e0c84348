"""Packed weights, unpacked: the helpers of kernels that need a whole tile of weights, and the kernel
that writes a whole matrix of them, for prompts.

A prompt multiplies each weight so often that unpacking it costs next to nothing, if the matrix is
read once and written once: this kernel, then PyTorch's product.
"""

from __future__ import annotations

import torch

from inference_benchmark.kernels._registration import jit, tl
from inference_benchmark.kernels.flash_decode import cdiv

WORDS = 16  # of 32 bits, in a block of a row
SCALE_BLOCK = 256  # nf4: groups, in the order of memory, that share a scale of scales
BITS = {"int8": 8, "int4": 4, "int4_zeros": 4, "nf4": 4}
_ROWS, _BLOCKS, _COLUMNS = 8, 16, 1024  # of a program that writes a matrix


@jit
def integers(words, SHIFT: tl.constexpr, MASK: tl.constexpr, ZERO: tl.constexpr):
    """Stored values less ZERO, fp32: as the last bits of a float of 2^23, which is subtracted."""
    bits = ((words >> SHIFT) & MASK) | 0x4B000000
    return bits.to(tl.float32, bitcast=True) - (8388608.0 + ZERO)


@jit
def plane_weights(
    words,
    blocks,  # of each word, its block's number in the matrix
    inside,
    scales_ptr,
    zeros_ptr,
    scale_scales_ptr,
    mean,
    table,
    PLANE: tl.constexpr,
    FORMAT: tl.constexpr,
    SCALE_BLOCK: tl.constexpr,
):
    """The weights that stand at PLANE of the words, fp32; of int8 without the scale of their row."""
    if FORMAT == "int8":
        weights = integers(words, 8 * PLANE, 255, 128.0)
    elif FORMAT == "nf4":
        codes = ((words >> (4 * PLANE)) & 15).to(tl.int32, bitcast=True)
        flat = tl.reshape(codes, (codes.numel,))
        weights = tl.reshape(tl.gather(table, flat, 0), codes.shape)
        groups = 2 * blocks + PLANE // 4
        of_block = tl.load(scale_scales_ptr + groups // SCALE_BLOCK, mask=inside, other=0.0)
        scales = tl.load(scales_ptr + groups, mask=inside, other=0.0).to(tl.float32)
        weights *= scales * of_block + mean
    else:
        scales = tl.load(scales_ptr + blocks, mask=inside, other=0.0).to(tl.float32)
        if FORMAT == "int4_zeros":
            zeros = tl.load(zeros_ptr + blocks, mask=inside, other=0).to(tl.float32)
            weights = (integers(words, 4 * PLANE, 15, 0.0) - zeros) * scales
        else:
            weights = integers(words, 4 * PLANE, 15, 8.0) * scales
    return weights


@jit
def _unpack_kernel(
    words_ptr,  # [out_features, ROW_BLOCKS * 16]
    scales_ptr,
    zeros_ptr,
    scale_scales_ptr,
    scale_mean_ptr,
    levels_ptr,
    out_ptr,  # [out_features, IN_FEATURES]
    out_features,
    IN_FEATURES: tl.constexpr,
    ROW_BLOCKS: tl.constexpr,
    FORMAT: tl.constexpr,
    PLANES: tl.constexpr,
    SCALE_BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    words_of_tile = tl.arange(0, BLOCKS * 16)
    blocks = tl.program_id(1) * BLOCKS + words_of_tile // 16
    lanes = words_of_tile % 16
    inside = (rows < out_features)[:, None] & (blocks < ROW_BLOCKS)[None, :]
    numbers = rows.to(tl.int64)[:, None] * ROW_BLOCKS + blocks[None, :]
    words = tl.load(words_ptr + numbers * 16 + lanes[None, :], mask=inside, other=0)
    words = words.to(tl.uint32, bitcast=True)
    mean = 0.0
    table = tl.zeros((16,), dtype=tl.float32)
    if FORMAT == "nf4":
        mean = tl.load(scale_mean_ptr)
        table = tl.load(levels_ptr + tl.arange(0, 16))
    row_scales = tl.full((ROWS,), 1.0, dtype=tl.float32)
    if FORMAT == "int8":
        row_scales = tl.load(scales_ptr + rows, mask=rows < out_features, other=0.0)
    for plane in tl.static_range(PLANES):
        weights = plane_weights(
            words, numbers, inside, scales_ptr, zeros_ptr, scale_scales_ptr, mean, table,
            plane, FORMAT, SCALE_BLOCK,
        )  # fmt: skip
        weights *= row_scales[:, None]
        columns = blocks * (16 * PLANES) + plane * 16 + lanes
        out = out_ptr + rows.to(tl.int64)[:, None] * IN_FEATURES + columns[None, :]
        mask = inside & (columns < IN_FEATURES)[None, :]
        tl.store(out, weights.to(out_ptr.dtype.element_ty), mask=mask)


@jit
def _scale_rows_kernel(
    values_ptr,  # [out_features, IN_FEATURES]
    scales_ptr,  # [out_features]
    out_ptr,  # [out_features, IN_FEATURES]
    IN_FEATURES: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < IN_FEATURES
    values = tl.load(values_ptr + row * IN_FEATURES + columns, mask=inside, other=0.0)
    weights = values.to(tl.float32) * tl.load(scales_ptr + row)
    out = out_ptr + row * IN_FEATURES + columns
    tl.store(out, weights.to(out_ptr.dtype.element_ty), mask=inside)


def launch_unpack(
    weight_format: str,
    words: torch.Tensor,
    scales: torch.Tensor,
    in_features: int,
    dtype: torch.dtype,
    zeros: torch.Tensor | None = None,
    nf4: tuple[torch.Tensor, ...] = (),
) -> torch.Tensor:
    """The matrix [out_features, in_features] that packed words stand for.

    nf4: scale_scales, scale_mean and levels, as nf4_linear describes them.
    """
    out_features, row_blocks = words.shape[0], words.shape[1] // WORDS
    weight_format = weight_format if zeros is None else f"{weight_format}_zeros"
    scale_scales, scale_mean, levels = nf4 or (scales, scales, scales)
    out = torch.empty((out_features, in_features), dtype=dtype, device=words.device)
    _unpack_kernel[(cdiv(out_features, _ROWS), cdiv(row_blocks, _BLOCKS))](
        words,
        scales,
        scales if zeros is None else zeros,
        scale_scales,
        scale_mean,
        levels,
        out,
        out_features,
        IN_FEATURES=in_features,
        ROW_BLOCKS=row_blocks,
        FORMAT=weight_format,
        PLANES=32 // BITS[weight_format],
        SCALE_BLOCK=SCALE_BLOCK,
        ROWS=_ROWS,
        BLOCKS=_BLOCKS,
        num_warps=4,
    )
    return out


def launch_scale_rows(
    values: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """values [out, in] of 8 bits times scales [out, 1]."""
    out_features, in_features = values.shape
    out = torch.empty((out_features, in_features), dtype=dtype, device=values.device)
    _scale_rows_kernel[(out_features, cdiv(in_features, _COLUMNS))](
        values, scales, out, IN_FEATURES=in_features, COLUMNS=_COLUMNS, num_warps=4
    )
    return out
