"""A linear layer over floats of 8 bits for more rows than one: a few are multiplied by the matrix
units as the weights come, for a prompt the matrix is written out in the type of x first.

A program takes a few rows of the matrix whole, so that nothing is summed twice; what it widens is
rounded to the type of x, which holds it exactly, and the scales are applied to the sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from inference_benchmark.kernels._registration import jit, tl
from inference_benchmark.kernels.integers import cdiv, next_power_of_2

# Rows of x up to which this is faster on an H200 than a matrix that is widened first and PyTorch's
# product.
MAX_ROWS = 32
_MIN_TILE = 16  # rows of x in a matrix product
_COLUMNS = 1024  # of a program that widens a matrix


@dataclass(frozen=True)
class Plan:
    """How one matrix is cut."""

    rows: int  # of the matrix, per program
    columns: int  # per load
    num_warps: int
    num_stages: int = 4


def choose_plan(out_features: int) -> Plan:
    """Chosen on an H200 for 8 and 32 rows of x: where a matrix has rows enough for all
    multiprocessors, many of them share a tile of x."""
    if out_features > 8192:
        return Plan(rows=128, columns=256, num_warps=8, num_stages=3)
    return Plan(rows=32, columns=256, num_warps=4)


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


def x_tile(num_rows: int) -> int:
    """Rows of x in a program: a power of two that the matrix units take."""
    return max(_MIN_TILE, next_power_of_2(num_rows))


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
        COLUMNS=plan.columns,
        num_warps=plan.num_warps,
        num_stages=plan.num_stages,
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
