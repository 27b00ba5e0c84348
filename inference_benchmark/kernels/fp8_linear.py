"""A linear layer over floats of 8 bits with one scale per row of the matrix, read once by one row.

Half of the bytes of bf16, so half of the time where memory is the bound, provided that widening the
weights costs less than reading them: each is converted once, in registers, and the scale is applied
to the finished sum. Otherwise as gemv: a program takes a few rows whole, and requests its first
weights before it waits for its predecessor's result.
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
from inference_benchmark.kernels.fp8_few_rows import (
    MAX_ROWS,
    launch_few_rows_bytes,
    launch_scale_rows,
)
from inference_benchmark.kernels.result_shapes import fake_linear, fake_swiglu
from inference_benchmark.kernels.row_swiglu import matrix_rows, store_rows, with_swiglu

VECTOR = 8  # weights that a thread loads at a time, and as many 2-byte values of x: 16 bytes


@dataclass(frozen=True)
class Plan:
    """How one matrix [out_features, in_features] is cut."""

    rows: int  # of the matrix, per program
    columns: int  # per load; a power of two that need not divide in_features
    num_warps: int


def choose_plan(out_features: int, in_features: int) -> Plan:
    """Chosen on an H200 among rows 2 to 16, columns 256 to 2048 and 1 to 8 warps, on the matrices of
    Llama 3.1 8B."""
    if in_features > 8192:
        return Plan(rows=2, columns=1024, num_warps=4)
    return Plan(rows=4, columns=2048, num_warps=8 if out_features > 8192 else 4)


def fp8_linear(x: torch.Tensor, values: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """x @ (scales * values).T.

    Args:
        x: [..., in_features], contiguous.
        values: [out_features, in_features], float8_e4m3fn, contiguous.
        scales: [out_features, 1], fp32.

    Returns:
        [..., out_features] of x's dtype. For one row products and sums are in fp32, rounded once; for
        more the weights are rounded to x's dtype first.
    """
    return _operator(x, values, scales)


def fp8_swiglu(x: torch.Tensor, values: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up, the halves of what fp8_linear makes of one row: [..., width], rounded once.

    values, scales: of [2 * width, in_features].
    """
    return _swiglu(x, values, scales)


def fp8_linear_reference(
    x: torch.Tensor, values: torch.Tensor, scales: torch.Tensor
) -> torch.Tensor:
    """The same in plain PyTorch."""
    return F.linear(x, (values.to(scales.dtype) * scales).to(x.dtype))


@jit
def _fp8_gemv_kernel(
    x_ptr,
    values_ptr,
    scales_ptr,
    out_ptr,
    out_features,
    IN_FEATURES: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    VECTOR: tl.constexpr,
    SWIGLU: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
):
    first_row = tl.program_id(0) * ROWS
    rows = first_row + tl.arange(0, ROWS)
    inside_rows = (rows < out_features)[None, :, None]
    places = matrix_rows(rows, out_features, SWIGLU)
    vectors = tl.arange(0, COLUMNS // VECTOR)
    columns = vectors[:, None] * VECTOR + tl.arange(0, VECTOR)[None, :]
    # [vectors, rows, VECTOR]: Triton then gives neighbouring threads neighbouring vectors of a row.
    weights = values_ptr + places.to(tl.int64)[None, :, None] * IN_FEATURES + columns[:, None, :]
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_launch_dependents()
    inside = inside_rows & (columns < IN_FEATURES)[:, None, :]
    tile = tl.load(weights, mask=inside, other=0.0, eviction_policy="evict_first")
    scales = tl.load(scales_ptr + places, mask=rows < out_features, other=0.0)
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()
    total = tl.zeros((COLUMNS // VECTOR, ROWS), dtype=tl.float32)
    for start in tl.static_range(0, IN_FEATURES, COLUMNS):
        current = tile
        if start + COLUMNS < IN_FEATURES:
            inside = inside_rows & (start + COLUMNS + columns < IN_FEATURES)[:, None, :]
            tile = tl.load(
                weights + (start + COLUMNS),
                mask=inside,
                other=0.0,
                eviction_policy="evict_first",
            )
        x = tl.load(x_ptr + start + columns, mask=start + columns < IN_FEATURES, other=0.0)
        total += tl.sum(current.to(tl.float32) * x.to(tl.float32)[:, None, :], axis=2)
    result = tl.sum(total, axis=0) * scales
    store_rows(out_ptr, result, first_row, out_features, ROWS, SWIGLU)


def launch_fp8_gemv(
    x: torch.Tensor,
    values: torch.Tensor,
    scales: torch.Tensor,
    plan: Plan | None = None,
    swiglu: bool = False,
) -> torch.Tensor:
    """The Triton kernel, on the current device and stream; swiglu: silu(gate) * up of the halves."""
    out_features, in_features = values.shape
    if x.numel() != in_features or x.shape[-1] != in_features:
        raise ValueError(f"fp8_gemv: x {tuple(x.shape)} is not one row of {in_features} values")
    if not (x.is_contiguous() and values.is_contiguous() and scales.is_contiguous()):
        raise ValueError("fp8_gemv: x, values and scales must be contiguous")
    plan = plan or choose_plan(out_features, in_features)
    out = (fake_swiglu if swiglu else fake_linear)(x, values)
    programmatic = programmatic_launch(x.device)
    _fp8_gemv_kernel[((out_features + plan.rows - 1) // plan.rows,)](
        x,
        values,
        scales,
        out,
        out_features,
        IN_FEATURES=in_features,
        ROWS=plan.rows,
        COLUMNS=plan.columns,
        VECTOR=VECTOR,
        SWIGLU=swiglu,
        PROGRAMMATIC=programmatic,
        num_warps=plan.num_warps,
        launch_pdl=programmatic,
    )
    return out


def _launch(x: torch.Tensor, values: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    x = x.contiguous()
    num_rows = x.numel() // x.shape[-1]
    if num_rows == 1:
        return launch_fp8_gemv(x, values, scales)
    if num_rows <= MAX_ROWS:
        return launch_few_rows_bytes(x, values, scales)
    return F.linear(x, launch_scale_rows(values, scales, x.dtype))


def _launch_swiglu(x: torch.Tensor, values: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    return launch_fp8_gemv(x.contiguous(), values, scales, swiglu=True)


_operator = register_operator("fp8_linear", fp8_linear_reference, _launch, fake_linear)
_swiglu = register_operator(
    "fp8_swiglu", with_swiglu(fp8_linear_reference), _launch_swiglu, fake_swiglu
)
