"""A linear layer of a few rows over packed weights: read once, unpacked in registers, multiplied by
the matrix units.

A decode step of several sequences, or of a few tokens, is as bound by memory as one of a single
row, but multiplying each weight with each row outside the matrix units would take longer than
reading it. A program takes a few rows of the matrix whole, so that nothing is summed twice; what it
unpacks is rounded to the type of x, as the plain dequantised matrix is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from inference_benchmark.kernels._registration import jit, tl
from inference_benchmark.kernels.flash_decode import cdiv
from inference_benchmark.kernels.packed_words import BITS, SCALE_BLOCK, WORDS, plane_weights

# Of x, up to which this is faster on an H200 than a matrix that is unpacked first and PyTorch's
# product; with nf4, whose levels have to be looked up, it never is.
MAX_ROWS = 32
MIN_TILE = 16  # rows of x in a matrix product


@dataclass(frozen=True)
class Plan:
    """How one matrix is cut."""

    rows: int  # of the matrix, per program
    blocks: int  # of 16 words of each row, per load
    num_warps: int
    num_stages: int = 4


def choose_plan(out_features: int, has_zeros: bool = False) -> Plan:
    """Chosen on an H200 for 8 and 32 rows of x: where a matrix has rows enough for all
    multiprocessors, many of them share a tile of x; with zero points there is no room for it."""
    if out_features > 8192 and not has_zeros:
        return Plan(rows=128, blocks=4, num_warps=8, num_stages=3)
    return Plan(rows=32, blocks=4, num_warps=4)


@jit
def _few_rows_kernel(
    x_ptr,  # [num_rows, IN_FEATURES]
    words_ptr,  # [out_features, ROW_BLOCKS * 16]
    scales_ptr,
    zeros_ptr,
    scale_scales_ptr,
    scale_mean_ptr,
    levels_ptr,
    out_ptr,  # [num_rows, out_features]
    num_rows,
    out_features,
    IN_FEATURES: tl.constexpr,
    ROW_BLOCKS: tl.constexpr,
    FORMAT: tl.constexpr,
    PLANES: tl.constexpr,
    SCALE_BLOCK: tl.constexpr,
    X_ROWS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside_rows = rows < out_features
    x_rows = tl.arange(0, X_ROWS)
    inside_x = (x_rows < num_rows)[:, None]
    words_of_tile = tl.arange(0, BLOCKS * 16)
    blocks, lanes = words_of_tile // 16, words_of_tile % 16
    row_starts = rows.to(tl.int64)[None, :] * ROW_BLOCKS
    words_at = words_ptr + row_starts * 16 + words_of_tile[:, None]
    x_at = x_ptr + x_rows[:, None] * IN_FEATURES
    total = tl.zeros((X_ROWS, ROWS), dtype=tl.float32)
    mean = 0.0
    table = tl.zeros((16,), dtype=tl.float32)
    if FORMAT == "nf4":
        mean = tl.load(scale_mean_ptr)
        table = tl.load(levels_ptr + tl.arange(0, 16))
    for start in tl.range(0, ROW_BLOCKS, BLOCKS):
        inside = (start + blocks < ROW_BLOCKS)[:, None] & inside_rows[None, :]
        words = tl.load(words_at + start * 16, mask=inside, other=0).to(tl.uint32, bitcast=True)
        numbers = row_starts + (start + blocks)[:, None]
        for plane in tl.static_range(PLANES):
            weights = plane_weights(
                words, numbers, inside, scales_ptr, zeros_ptr, scale_scales_ptr, mean, table,
                plane, FORMAT, SCALE_BLOCK,
            )  # fmt: skip
            columns = (start + blocks) * (16 * PLANES) + plane * 16 + lanes
            inside_columns = inside_x & (columns < IN_FEATURES)[None, :]
            x = tl.load(x_at + columns[None, :], mask=inside_columns, other=0.0)
            total = tl.dot(x, weights.to(x_ptr.dtype.element_ty), total, input_precision="ieee")
    if FORMAT == "int8":
        total *= tl.load(scales_ptr + rows, mask=inside_rows, other=0.0)[None, :]
    out = out_ptr + x_rows.to(tl.int64)[:, None] * out_features + rows[None, :]
    tl.store(out, total.to(out_ptr.dtype.element_ty), mask=inside_x & inside_rows[None, :])


@jit
def _few_rows_bytes_kernel(
    x_ptr,  # [num_rows, IN_FEATURES]
    values_ptr,  # [out_features, IN_FEATURES]
    scales_ptr,  # [out_features]
    out_ptr,  # [num_rows, out_features]
    num_rows,
    out_features,
    IN_FEATURES: tl.constexpr,
    X_ROWS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside_rows = (rows < out_features)[None, :]
    x_rows = tl.arange(0, X_ROWS)
    inside_x = (x_rows < num_rows)[:, None]
    columns = tl.arange(0, COLUMNS)
    values_at = values_ptr + rows.to(tl.int64)[None, :] * IN_FEATURES + columns[:, None]
    x_at = x_ptr + x_rows[:, None] * IN_FEATURES + columns[None, :]
    total = tl.zeros((X_ROWS, ROWS), dtype=tl.float32)
    for start in tl.range(0, IN_FEATURES, COLUMNS):
        inside = start + columns < IN_FEATURES
        values = tl.load(values_at + start, mask=inside[:, None] & inside_rows, other=0.0)
        x = tl.load(x_at + start, mask=inside_x & inside[None, :], other=0.0)
        weights = values.to(tl.float32).to(x_ptr.dtype.element_ty)
        total = tl.dot(x, weights, total, input_precision="ieee")
    total *= tl.load(scales_ptr + rows, mask=rows < out_features, other=0.0)[None, :]
    out = out_ptr + x_rows.to(tl.int64)[:, None] * out_features + rows[None, :]
    tl.store(out, total.to(out_ptr.dtype.element_ty), mask=inside_x & inside_rows)


def x_tile(num_rows: int) -> int:
    """Rows of x in a program: a power of two that the matrix units take."""
    return max(MIN_TILE, 1 << (num_rows - 1).bit_length())


def launch_few_rows(
    weight_format: str,
    x: torch.Tensor,
    words: torch.Tensor,
    scales: torch.Tensor,
    zeros: torch.Tensor | None = None,
    nf4: tuple[torch.Tensor, ...] = (),
    plan: Plan | None = None,
) -> torch.Tensor:
    """x [..., in_features] of a few rows times packed words, as int8_linear, int4_linear and nf4_linear
    describe them; nf4: scale_scales, scale_mean, levels."""
    in_features, out_features = x.shape[-1], words.shape[0]
    num_rows = x.numel() // in_features
    plan = plan or choose_plan(out_features, has_zeros=zeros is not None)
    weight_format = weight_format if zeros is None else f"{weight_format}_zeros"
    out = torch.empty((*x.shape[:-1], out_features), dtype=x.dtype, device=x.device)
    scale_scales, scale_mean, levels = nf4 or (scales, scales, scales)
    _few_rows_kernel[(cdiv(out_features, plan.rows),)](
        x,
        words,
        scales,
        scales if zeros is None else zeros,
        scale_scales,
        scale_mean,
        levels,
        out,
        num_rows,
        out_features,
        IN_FEATURES=in_features,
        ROW_BLOCKS=words.shape[1] // WORDS,
        FORMAT=weight_format,
        PLANES=32 // BITS[weight_format],
        SCALE_BLOCK=SCALE_BLOCK,
        X_ROWS=x_tile(num_rows),
        ROWS=plan.rows,
        BLOCKS=plan.blocks,
        num_warps=plan.num_warps,
        num_stages=plan.num_stages,
    )
    return out


def launch_few_rows_bytes(
    x: torch.Tensor, values: torch.Tensor, scales: torch.Tensor, plan: Plan | None = None
) -> torch.Tensor:
    """x [..., in_features] of a few rows times values [out_features, in_features] of 8 bits."""
    out_features, in_features = values.shape
    num_rows = x.numel() // in_features
    plan = plan or choose_plan(out_features)
    out = torch.empty((*x.shape[:-1], out_features), dtype=x.dtype, device=x.device)
    _few_rows_bytes_kernel[(cdiv(out_features, plan.rows),)](
        x,
        values,
        scales,
        out,
        num_rows,
        out_features,
        IN_FEATURES=in_features,
        X_ROWS=x_tile(num_rows),
        ROWS=plan.rows,
        COLUMNS=plan.blocks * 64,
        num_warps=plan.num_warps,
        num_stages=plan.num_stages,
    )
    return out
