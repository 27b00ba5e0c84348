"""A linear layer over 8-bit integers with one scale per row of the matrix, read once by one row.

The conversion of integers to floats is done by a unit of a multiprocessor that takes 16 of them per
clock: as fast as memory delivers 8-bit weights, so that the two would have to overlap without a gap.
As in int4_linear nothing is converted: the bits of fp32 below 2^24 are an integer times 2^-149, x is
multiplied with the power of two that undoes it, and what the stored integers are above the true
ones, 128, is subtracted once, times the sum of x.

A word holds weights 16 columns apart, so that threads that load neighbouring words load
neighbouring values of x.
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
from inference_benchmark.kernels.packed_words import WORDS, launch_unpack

BLOCK = 64  # columns: 16 words of 32 bits
ZERO = 128  # what the value 0 is stored as


@dataclass(frozen=True)
class Plan:
    """How one matrix [out_features, in_features] is cut."""

    rows: int  # of the matrix, per program
    blocks: int  # of columns, per load; a power of two that need not divide the row's
    num_warps: int


def choose_plan(out_features: int, in_features: int) -> Plan:
    return Plan(rows=4, blocks=16, num_warps=2)


def int8_linear(x: torch.Tensor, words: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """x @ matrix.T, matrix[r, c] = scales[r] * (stored value - 128).

    Args:
        x: [..., in_features], contiguous.
        words: [out_features, blocks * 16], int32: bits 8i to 8i + 7 of word j of a block are the
            stored value of the block's column 16 i + j. Columns beyond in_features are ignored.
        scales: [out_features, 1], fp32.

    Returns:
        [..., out_features] of x's dtype. For one row products and sums are in fp32, rounded once; for
        more the weights are rounded to x's dtype first.
    """
    return _operator(x, words, scales)


def pack_int8(values: torch.Tensor) -> torch.Tensor:
    """Integers -128 to 127 [rows, columns] -> words [rows, blocks * 16]."""
    rows, columns = values.shape
    padded = F.pad(values.to(torch.int32) + ZERO, (0, -columns % BLOCK), value=ZERO)
    planes = padded.view(rows, -1, BLOCK // WORDS, WORDS)
    words = torch.zeros_like(planes[:, :, 0])
    for plane in range(BLOCK // WORDS):
        words |= planes[:, :, plane] << (8 * plane)
    return words.flatten(1)


def unpack_int8(words: torch.Tensor) -> torch.Tensor:
    """words [rows, blocks * 16] -> integers [rows, blocks * 64], int32."""
    shifts = torch.arange(0, 32, 8, dtype=torch.int32, device=words.device)
    blocks = words.view(words.shape[0], -1, 1, WORDS)
    return (((blocks >> shifts[:, None]) & 255) - ZERO).view(words.shape[0], -1)


def int8_linear_reference(
    x: torch.Tensor, words: torch.Tensor, scales: torch.Tensor
) -> torch.Tensor:
    """The same in plain PyTorch."""
    matrix = unpack_int8(words)[:, : x.shape[-1]] * scales
    return F.linear(x, matrix.to(x.dtype))


@jit
def _product(words, x, BIT: tl.constexpr):
    """Stored values at BIT of words [blocks, rows, 16] times x [blocks, 16] times 2^-49."""
    mask: tl.constexpr = 255 << BIT
    factor: tl.constexpr = 2.0 ** (100 - BIT)
    return (words & mask).to(tl.float32, bitcast=True) * (x * factor)[:, None, :]


@jit
def _int8_gemv_kernel(
    x_ptr,
    words_ptr,
    scales_ptr,
    out_ptr,
    out_features,
    IN_FEATURES: tl.constexpr,
    ROW_BLOCKS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCKS: tl.constexpr,
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
    scales = tl.load(scales_ptr + rows, mask=inside_rows, other=0.0)
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()
    total = tl.zeros((BLOCKS, ROWS, 16), dtype=tl.float32)
    x_sum = tl.zeros((BLOCKS, 16), dtype=tl.float32)
    for start in tl.static_range(0, ROW_BLOCKS, BLOCKS):
        words = tile.to(tl.uint32, bitcast=True)
        if start + BLOCKS < ROW_BLOCKS:
            inside = inside_rows[None, :] & (start + BLOCKS + blocks < ROW_BLOCKS)[:, None]
            tile = tl.load(
                words_at + (start + BLOCKS) * 16,
                mask=inside[:, :, None],
                other=0,
                eviction_policy="evict_first",
            )
        for plane in tl.static_range(4):
            columns = (start + blocks)[:, None] * 64 + plane * 16 + lanes[None, :]
            x = tl.load(x_ptr + columns, mask=columns < IN_FEATURES, other=0.0).to(tl.float32)
            x_sum += x
            if plane < 3:
                total += _product(words, x, 8 * plane)
            else:
                total += _product(words >> 8, x, 16)
    total -= (x_sum * 128.0 * 2.0**-49)[:, None, :]
    result = tl.sum(tl.sum(total, axis=2), axis=0) * 2.0**49 * scales
    tl.store(out_ptr + rows, result.to(out_ptr.dtype.element_ty), mask=inside_rows)


def launch_int8_gemv(
    x: torch.Tensor, words: torch.Tensor, scales: torch.Tensor, plan: Plan | None = None
) -> torch.Tensor:
    """The Triton kernel, on the current device and stream."""
    out_features, in_features = words.shape[0], x.shape[-1]
    row_blocks = words.shape[1] // WORDS
    if x.numel() != in_features or -(-in_features // BLOCK) != row_blocks:
        raise ValueError(
            f"int8_gemv: x {tuple(x.shape)} is not one row for {row_blocks} blocks of {BLOCK}"
        )
    if not (x.is_contiguous() and words.is_contiguous() and scales.is_contiguous()):
        raise ValueError("int8_gemv: x, words and scales must be contiguous")
    plan = plan or choose_plan(out_features, in_features)
    out = _fake(x, words, scales)
    programmatic = programmatic_launch(x.device)
    _int8_gemv_kernel[((out_features + plan.rows - 1) // plan.rows,)](
        x,
        words,
        scales,
        out,
        out_features,
        IN_FEATURES=in_features,
        ROW_BLOCKS=row_blocks,
        ROWS=plan.rows,
        BLOCKS=plan.blocks,
        PROGRAMMATIC=programmatic,
        num_warps=plan.num_warps,
        launch_pdl=programmatic,
    )
    return out


def _launch(x: torch.Tensor, words: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    x = x.contiguous()
    num_rows = x.numel() // x.shape[-1]
    if num_rows == 1:
        return launch_int8_gemv(x, words, scales)
    if num_rows <= MAX_ROWS:
        return launch_few_rows("int8", x, words, scales)
    return F.linear(x, launch_unpack("int8", words, scales, x.shape[-1], x.dtype))


def _fake(x: torch.Tensor, words: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    return torch.empty((*x.shape[:-1], words.shape[0]), dtype=x.dtype, device=x.device)


_operator = register_operator("int8_linear", int8_linear_reference, _launch, _fake)
