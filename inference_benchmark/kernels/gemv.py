"""A linear layer of one row: reading a matrix once, as fast as memory delivers it.

A decode step at batch 1 multiplies every weight matrix with one vector: 2 bytes per multiply-add,
so bandwidth is all there is. Large matrices keep cuBLAS at the bandwidth; smaller ones (attention's
projections, 30 to 50 MB, 8 to 12 us) end before its pipelines are full, and their split-K partial
sums cost a second kernel. Here each program takes a few rows of the matrix whole, so nothing is
split and nothing is summed twice, many small programs keep every multiprocessor loading, and the
first weights are requested before the kernel waits for its predecessor's result: weights depend on
nothing.
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


@dataclass(frozen=True)
class Plan:
    """How one matrix [out_features, in_features] is cut."""

    rows: int  # of the matrix, per program
    columns: int  # per load; a power of two that need not divide in_features
    num_warps: int


def choose_plan(out_features: int, in_features: int) -> Plan:
    """Few rows and long loads: thousands of short programs, 16 bytes per thread and load.

    Chosen on an H200 among rows 1 to 16, columns 512 to 2048 and 2 to 8 warps, on the matrices of
    Llama 3.1 8B and 3.2 1B; neighbouring plans differ by 1 to 3 %.
    """
    if in_features >= 4096 and in_features % 2048:
        return Plan(rows=4, columns=1024, num_warps=4)  # 12 % faster than 2048 at 5120 and 7168
    columns = 2048 if in_features >= 4096 else 1024
    return Plan(rows=2, columns=columns, num_warps=8 if in_features == 4096 else 4)


def gemv(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """x @ weight.T for a single row.

    Args:
        x: [..., in_features] with one row in all (leading dimensions of size 1), contiguous.
        weight: [out_features, in_features], contiguous, of x's dtype.

    Returns:
        [..., out_features], products and sums in fp32, rounded once.
    """
    return _operator(x, weight)


def gemv_reference(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The same in plain PyTorch."""
    return F.linear(x, weight)


@jit
def _gemv_kernel(
    x_ptr,
    weight_ptr,
    out_ptr,
    out_features,
    IN_FEATURES: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
):
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, COLUMNS)
    inside_rows = (rows < out_features)[:, None]
    weights = weight_ptr + rows.to(tl.int64)[:, None] * IN_FEATURES + columns[None, :]
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_launch_dependents()
    tile = tl.load(
        weights,
        mask=inside_rows & (columns < IN_FEATURES)[None, :],
        other=0.0,
        eviction_policy="evict_first",
    )
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for start in tl.static_range(0, IN_FEATURES, COLUMNS):
        x = tl.load(x_ptr + start + columns, mask=start + columns < IN_FEATURES, other=0.0)
        total += tile.to(tl.float32) * x.to(tl.float32)[None, :]
        if start + COLUMNS < IN_FEATURES:
            inside = (start + COLUMNS + columns < IN_FEATURES)[None, :]
            tile = tl.load(
                weights + (start + COLUMNS),
                mask=inside_rows & inside,
                other=0.0,
                eviction_policy="evict_first",
            )
    result = tl.sum(total, axis=1)
    tl.store(out_ptr + rows, result.to(out_ptr.dtype.element_ty), mask=rows < out_features)


def launch_gemv(x: torch.Tensor, weight: torch.Tensor, plan: Plan | None = None) -> torch.Tensor:
    """The Triton kernel, on the current device and stream."""
    out_features, in_features = weight.shape
    if x.numel() != in_features or x.shape[-1] != in_features:
        raise ValueError(f"gemv: x {tuple(x.shape)} is not one row of {in_features} values")
    if x.dtype != weight.dtype or not (x.is_contiguous() and weight.is_contiguous()):
        raise ValueError("gemv: x and weight must be contiguous and of one dtype")
    plan = plan or choose_plan(out_features, in_features)
    out = _fake(x, weight)
    programmatic = programmatic_launch(x.device)
    _gemv_kernel[((out_features + plan.rows - 1) // plan.rows,)](
        x,
        weight,
        out,
        out_features,
        IN_FEATURES=in_features,
        ROWS=plan.rows,
        COLUMNS=plan.columns,
        PROGRAMMATIC=programmatic,
        num_warps=plan.num_warps,
        launch_pdl=programmatic,
    )
    return out


def _fake(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return torch.empty((*x.shape[:-1], weight.shape[0]), dtype=x.dtype, device=x.device)


_operator = register_operator("gemv", gemv_reference, launch_gemv, _fake)
