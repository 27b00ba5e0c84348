"""A linear layer over 4-bit NormalFloat in groups of 64 (QLoRA, arXiv:2305.14314), read once by one
row.

A weight is one of 16 quantiles of the normal distribution times its group's scale. Which one is
looked up: a table of 16 values fits into one line of the nearest cache, and a warp's 32 look-ups
fall into 16 different words of it. That is one load per weight, beside which little else may stand:
the group's scale, itself 8 bits of a float around the mean of all scales, is applied to the sum of
a group's products.

A word holds weights 16 columns apart, as in int4_linear, the lower half of it those of one group and
the upper half those of the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from inference_benchmark.kernels._registration import (
    jit,
    programmatic_launch,
    register_operator,
    tl,
)
from inference_benchmark.kernels.few_rows import MAX_ROWS, launch_few_rows
from inference_benchmark.kernels.packed_words import SCALE_BLOCK, WORDS, launch_unpack

GROUP = 64
BLOCK = 128  # columns: two groups, 16 words of 32 bits

# Appendix E of the paper: the 16 levels, in order.
LEVELS = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)


@dataclass(frozen=True)
class Plan:
    """How one matrix [out_features, in_features] is cut."""

    rows: int  # of the matrix, per program
    blocks: int  # of columns, per load; a power of two that need not divide the row's
    num_warps: int
    lookup: str = "load"


def choose_plan(out_features: int, in_features: int) -> Plan:
    return Plan(rows=4, blocks=16, num_warps=2)


def nf4_linear(
    x: torch.Tensor,
    words: torch.Tensor,
    scales: torch.Tensor,
    scale_scales: torch.Tensor,
    scale_mean: torch.Tensor,
    levels: torch.Tensor,
) -> torch.Tensor:
    """x @ matrix.T, matrix[r, c] = level of the stored value * its group's scale.

    Args:
        x: [..., in_features], contiguous.
        words: [out_features, groups * 8], int32: bits 4i to 4i + 3 of word j of a block of 16
            words are the stored value of the block's column 16 i + j. Columns beyond in_features
            are ignored.
        scales: [out_features, groups], float8_e4m3fn. A group's scale is this times its block's
            entry of scale_scales, plus scale_mean.
        scale_scales: [blocks], fp32, one for each 256 groups in the order of memory.
        scale_mean: [1], fp32.
        levels: [16], fp32.

    Returns:
        [..., out_features] of x's dtype. For one row products and sums are in fp32, rounded once; for
        more the weights are rounded to x's dtype first.
    """
    return _operator(x, words, scales, scale_scales, scale_mean, levels)


def unpack_nf4(words: torch.Tensor) -> torch.Tensor:
    """words [rows, groups * 8] -> stored values [rows, groups * 64], int32."""
    shifts = torch.arange(0, 32, 4, dtype=torch.int32, device=words.device)
    blocks = words.view(words.shape[0], -1, 1, WORDS)
    return ((blocks >> shifts[:, None]) & 15).view(words.shape[0], -1)


def group_scales(
    scales: torch.Tensor, scale_scales: torch.Tensor, scale_mean: torch.Tensor
) -> torch.Tensor:
    """Every group's scale [rows, groups], fp32 (or wider, as scale_scales)."""
    of_block = scale_scales.repeat_interleave(SCALE_BLOCK)[: scales.numel()].view(scales.shape)
    return scales.to(scale_scales.dtype) * of_block + scale_mean


def dequantize_nf4(
    words: torch.Tensor,
    scales: torch.Tensor,
    scale_scales: torch.Tensor,
    scale_mean: torch.Tensor,
    levels: torch.Tensor,
) -> torch.Tensor:
    """The matrix [rows, groups * 64], fp32."""
    values = levels[unpack_nf4(words)].view(*scales.shape, GROUP)
    return (values * group_scales(scales, scale_scales, scale_mean)[:, :, None]).flatten(1)


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


@jit
def _look_up(levels_ptr, table, codes, LOOKUP: tl.constexpr):
    if LOOKUP != "shuffle":
        codes &= 15
    if LOOKUP == "load":
        return tl.load(levels_ptr + codes)
    flat = tl.reshape(codes, (codes.numel,)).to(tl.int32, bitcast=True)
    return tl.reshape(tl.gather(table, flat, 0), codes.shape)


@jit
def _nf4_gemv_kernel(
    x_ptr,
    words_ptr,
    scales_ptr,
    scale_scales_ptr,
    scale_mean_ptr,
    levels_ptr,
    out_ptr,
    out_features,
    IN_FEATURES: tl.constexpr,
    ROW_BLOCKS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCKS: tl.constexpr,
    SCALE_BLOCK: tl.constexpr,
    LOOKUP: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
):
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside_rows = rows < out_features
    blocks = tl.arange(0, BLOCKS)
    lanes = tl.arange(0, 16)
    row_starts = rows.to(tl.int64)[None, :] * ROW_BLOCKS
    # [blocks, rows, 16]: Triton then gives neighbouring threads neighbouring words of a row.
    words_at = words_ptr + (row_starts + blocks[:, None])[:, :, None] * 16 + lanes[None, None, :]
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_launch_dependents()
    inside = inside_rows[None, :] & (blocks < ROW_BLOCKS)[:, None]
    tile = tl.load(words_at, mask=inside[:, :, None], other=0, eviction_policy="evict_first")
    mean = tl.load(scale_mean_ptr)
    table = tl.load(levels_ptr + tl.arange(0, 32) % 16)
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()
    total = tl.zeros((BLOCKS, ROWS, 16), dtype=tl.float32)
    for start in tl.static_range(0, ROW_BLOCKS, BLOCKS):
        words = tile.to(tl.uint32, bitcast=True)
        numbers = 2 * (row_starts + (start + blocks)[:, None])
        inside = inside_rows[None, :] & (start + blocks < ROW_BLOCKS)[:, None]
        of_block = tl.load(scale_scales_ptr + numbers // SCALE_BLOCK, mask=inside, other=0.0)
        first = tl.load(scales_ptr + numbers, mask=inside, other=0.0).to(tl.float32)
        second = tl.load(scales_ptr + numbers + 1, mask=inside, other=0.0).to(tl.float32)
        if start + BLOCKS < ROW_BLOCKS:
            inside = inside_rows[None, :] & (start + BLOCKS + blocks < ROW_BLOCKS)[:, None]
            tile = tl.load(
                words_at + (start + BLOCKS) * 16,
                mask=inside[:, :, None],
                other=0,
                eviction_policy="evict_first",
            )
        for half in tl.static_range(2):
            partial = tl.zeros((BLOCKS, ROWS, 16), dtype=tl.float32)
            for plane in tl.static_range(4):
                columns = (start + blocks)[:, None] * 128 + half * 64 + plane * 16 + lanes[None, :]
                x = tl.load(x_ptr + columns, mask=columns < IN_FEATURES, other=0.0).to(tl.float32)
                codes = words >> (16 * half + 4 * plane)
                partial += _look_up(levels_ptr, table, codes, LOOKUP) * x[:, None, :]
            scales = (second if half else first) * of_block + mean
            total += scales[:, :, None] * partial
    result = tl.sum(tl.sum(total, axis=2), axis=0)
    tl.store(out_ptr + rows, result.to(out_ptr.dtype.element_ty), mask=inside_rows)


def launch_nf4_gemv(
    x: torch.Tensor,
    words: torch.Tensor,
    scales: torch.Tensor,
    scale_scales: torch.Tensor,
    scale_mean: torch.Tensor,
    levels: torch.Tensor,
    plan: Plan | None = None,
) -> torch.Tensor:
    """The Triton kernel, on the current device and stream."""
    out_features, row_groups = scales.shape
    in_features = x.shape[-1]
    if x.numel() != in_features or 2 * -(-in_features // BLOCK) != row_groups:
        raise ValueError(
            f"nf4_gemv: x {tuple(x.shape)} is not one row for {row_groups} groups of {GROUP}"
        )
    if not (x.is_contiguous() and words.is_contiguous() and scales.is_contiguous()):
        raise ValueError("nf4_gemv: x, words and scales must be contiguous")
    plan = plan or choose_plan(out_features, in_features)
    out = _fake(x, words, scales, scale_scales, scale_mean, levels)
    programmatic = programmatic_launch(x.device)
    _nf4_gemv_kernel[((out_features + plan.rows - 1) // plan.rows,)](
        x,
        words,
        scales,
        scale_scales,
        scale_mean,
        levels,
        out,
        out_features,
        IN_FEATURES=in_features,
        ROW_BLOCKS=row_groups // 2,
        ROWS=plan.rows,
        BLOCKS=plan.blocks,
        SCALE_BLOCK=SCALE_BLOCK,
        LOOKUP=plan.lookup,
        PROGRAMMATIC=programmatic,
        num_warps=plan.num_warps,
        launch_pdl=programmatic,
    )
    return out


def _launch(
    x: torch.Tensor,
    words: torch.Tensor,
    scales: torch.Tensor,
    scale_scales: torch.Tensor,
    scale_mean: torch.Tensor,
    levels: torch.Tensor,
) -> torch.Tensor:
    x = x.contiguous()
    num_rows = x.numel() // x.shape[-1]
    further = (scale_scales, scale_mean, levels)
    if num_rows == 1:
        return launch_nf4_gemv(x, words, scales, *further)
    if num_rows <= MAX_ROWS:
        return launch_few_rows("nf4", x, words, scales, nf4=further)
    return F.linear(x, launch_unpack("nf4", words, scales, x.shape[-1], x.dtype, nf4=further))


def _fake(
    x: torch.Tensor,
    words: torch.Tensor,
    scales: torch.Tensor,
    scale_scales: torch.Tensor,
    scale_mean: torch.Tensor,
    levels: torch.Tensor,
) -> torch.Tensor:
    return torch.empty((*x.shape[:-1], words.shape[0]), dtype=x.dtype, device=x.device)


_operator = register_operator("nf4_linear", nf4_linear_reference, _launch, _fake)
