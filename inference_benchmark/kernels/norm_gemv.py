"""The RMS norm that stands before a linear layer of one row, and SwiGLU behind it, in its kernel.

A decode step at batch 1 adds an update to the residual stream, normalises the sum, reads a matrix,
and in a feed-forward network multiplies gate by up: vectors of kilobytes, whose kernels take
microseconds because of their launches. Here each program of the matrix kernel adds and squares the
vectors itself while it multiplies: they lie in L1, and the root mean square, one number, is applied
to the sums of products at the end. A program that computes SwiGLU takes the same rows of both
matrices. The first weights are requested before the kernel waits for its predecessor's result.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from inference_benchmark.kernels._registration import (
    jit,
    programmatic_launch,
    register_operator,
    tl,
)
from inference_benchmark.kernels.gemv import Plan, load_pairs
from inference_benchmark.kernels.matrix_units import has_matrix_units, multiply_rows, own_sums

# Up to which it was measured to gain. A program holds all it reads in registers: the wider the row,
# the fewer programs on a multiprocessor.
MAX_FEATURES = 4096
WAY = "scalar"  # or "units": on the matrix units, not timed yet
_SMALL = 8192  # rows of a matrix, up to which four share what a program reads of the vectors


def choose_plan(out_features: int, in_features: int, swiglu: bool) -> Plan:
    """Chosen on an H200 on the matrices of Llama 3.1 8B and 3.2 1B: the norm costs 1.4 us of 13 at
    4096 columns, SwiGLU and norm 1.2 of 53; more or fewer rows or warps cost 3 to 30 % more."""
    if WAY == "units":
        return Plan(1, 4, 1024, 4, matrix_units=True)
    rows = 4 if out_features <= _SMALL or swiglu else 2
    if in_features >= 4096:
        return Plan(1, rows // 2, 2048, 8)
    return Plan(1, rows // 2, 512 if rows == 4 and not swiglu else 1024, 4)


def norm_gemv(
    update: torch.Tensor,
    residual: torch.Tensor,
    norm_weight: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """rms_norm(residual + update) @ weight.T for a single row, and the sum residual + update.

    Args:
        update, residual: [..., in_features] with one row in all, contiguous.
        norm_weight: [in_features].
        weight: [out_features, in_features], contiguous. All of one dtype.
        eps: is added to the mean of squares.

    Returns:
        [..., out_features], computed in fp32 and rounded once, and the sum [..., in_features],
        rounded before it is normalised.
    """
    return _norm_gemv(update, residual, norm_weight, weight, eps)


def norm_swiglu(
    update: torch.Tensor,
    residual: torch.Tensor,
    norm_weight: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same with silu(gate) * up behind it, where gate and up are the halves of the product.

    weight: [2 * width, in_features]. Returns [..., width] and the sum.
    """
    return _norm_swiglu(update, residual, norm_weight, weight, eps)


def norm_gemv_reference(
    update: torch.Tensor,
    residual: torch.Tensor,
    norm_weight: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same in plain PyTorch."""
    total = residual + update
    return F.linear(F.rms_norm(total, total.shape[-1:], norm_weight, eps), weight), total


def norm_swiglu_reference(
    update: torch.Tensor,
    residual: torch.Tensor,
    norm_weight: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same in plain PyTorch."""
    product, total = norm_gemv_reference(update, residual, norm_weight, weight, eps)
    gate, up = product.chunk(2, dim=-1)
    return F.silu(gate) * up, total


@jit
def _norm_gemv_kernel(
    update_ptr,
    residual_ptr,
    norm_weight_ptr,
    weight_ptr,
    out_ptr,
    sum_ptr,
    out_features,
    eps,
    IN_FEATURES: tl.constexpr,
    PAIRS: tl.constexpr,
    COLUMNS: tl.constexpr,
    SWIGLU: tl.constexpr,
    UNITS: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
):
    program = tl.program_id(0)
    rows = program * (PAIRS if SWIGLU else 2 * PAIRS) + tl.arange(0, PAIRS)
    other_rows = rows + (out_features if SWIGLU else PAIRS)
    last = (2 * out_features if SWIGLU else out_features) - 1
    columns = tl.arange(0, COLUMNS)
    within = columns[None, None, :]
    # Beyond the last row it is read again, which needs no mask.
    first = weight_ptr + tl.minimum(rows, last).to(tl.int64)[:, None, None] * IN_FEATURES + within
    second = tl.minimum(other_rows, last).to(tl.int64)[:, None, None] * IN_FEATURES
    second = weight_ptr + second + within
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_launch_dependents()
    tile, other_tile = load_pairs(first, second, 0, within, IN_FEATURES, COLUMNS)
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()
    squares = tl.zeros((COLUMNS,), dtype=tl.float32)
    sums = tl.zeros((PAIRS, 1, COLUMNS), dtype=tl.float32)
    other_sums = tl.zeros((PAIRS, 1, COLUMNS), dtype=tl.float32)
    for start in tl.static_range(0, IN_FEATURES, COLUMNS):
        inside = start + columns < IN_FEATURES
        residual = tl.load(residual_ptr + start + columns, mask=inside, other=0.0)
        update = tl.load(update_ptr + start + columns, mask=inside, other=0.0)
        scale = tl.load(norm_weight_ptr + start + columns, mask=inside, other=0.0)
        total = (residual.to(tl.float32) + update.to(tl.float32)).to(sum_ptr.dtype.element_ty)
        tl.store(sum_ptr + start + columns, total, mask=inside & (program == 0))
        wide = total.to(tl.float32)
        squares += wide * wide
        scaled = wide * scale.to(tl.float32)
        if UNITS:
            x = tl.broadcast_to(scaled.to(total.dtype)[None, None, :], (PAIRS, 1, COLUMNS))
            sums, other_sums = multiply_rows(x, tile, other_tile, sums, other_sums)
        else:
            sums += tile.to(tl.float32) * scaled[None, None, :]
            other_sums += other_tile.to(tl.float32) * scaled[None, None, :]
        if start + COLUMNS < IN_FEATURES:
            tile, other_tile = load_pairs(
                first, second, start + COLUMNS, within, IN_FEATURES, COLUMNS
            )
    if UNITS:
        sums = own_sums(sums, PAIRS, 1, COLUMNS)
        other_sums = own_sums(other_sums, PAIRS, 1, COLUMNS)
    factor = tl.rsqrt(tl.sum(squares, axis=0) / IN_FEATURES + eps)
    result = tl.sum(tl.sum(sums, axis=2), axis=1) * factor
    other = tl.sum(tl.sum(other_sums, axis=2), axis=1) * factor
    if SWIGLU:
        result = result * tl.sigmoid(result) * other
    else:
        inside = other_rows < out_features
        tl.store(out_ptr + other_rows, other.to(out_ptr.dtype.element_ty), mask=inside)
    tl.store(out_ptr + rows, result.to(out_ptr.dtype.element_ty), mask=rows < out_features)


def _launch(
    update: torch.Tensor,
    residual: torch.Tensor,
    norm_weight: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
    swiglu: bool,
    plan: Plan | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    in_features = weight.shape[1]
    out_features = weight.shape[0] // (2 if swiglu else 1)
    vectors = update, residual, norm_weight
    if any(vector.numel() != in_features for vector in vectors):
        raise ValueError(
            f"norm_gemv: {[tuple(vector.shape) for vector in vectors]} are not single rows of "
            f"{in_features} values"
        )
    if any(
        vector.dtype != weight.dtype or not vector.is_contiguous() for vector in (*vectors, weight)
    ):
        raise ValueError("norm_gemv: all tensors must be contiguous and of one dtype")
    plan = plan or choose_plan(out_features, in_features, swiglu)
    out = update.new_empty((*update.shape[:-1], out_features))
    total = torch.empty_like(update)
    rows = plan.pairs * (1 if swiglu else 2)
    programmatic = programmatic_launch(update.device)
    _norm_gemv_kernel[((out_features + rows - 1) // rows,)](
        update,
        residual,
        norm_weight,
        weight,
        out,
        total,
        out_features,
        eps,
        IN_FEATURES=in_features,
        PAIRS=plan.pairs,
        COLUMNS=plan.columns,
        SWIGLU=swiglu,
        UNITS=plan.matrix_units and has_matrix_units(update),
        PROGRAMMATIC=programmatic,
        num_warps=plan.num_warps,
        launch_pdl=programmatic,
    )
    return out, total


def launch_norm_gemv(
    update: torch.Tensor,
    residual: torch.Tensor,
    norm_weight: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
    plan: Plan | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The Triton kernel, on the current device and stream."""
    return _launch(update, residual, norm_weight, weight, eps, False, plan)


def launch_norm_swiglu(
    update: torch.Tensor,
    residual: torch.Tensor,
    norm_weight: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
    plan: Plan | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The Triton kernel, on the current device and stream."""
    return _launch(update, residual, norm_weight, weight, eps, True, plan)


def _fake_norm_gemv(
    update: torch.Tensor,
    residual: torch.Tensor,
    norm_weight: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    return update.new_empty((*update.shape[:-1], weight.shape[0])), torch.empty_like(update)


def _fake_norm_swiglu(
    update: torch.Tensor,
    residual: torch.Tensor,
    norm_weight: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    return update.new_empty((*update.shape[:-1], weight.shape[0] // 2)), torch.empty_like(update)


_norm_gemv = register_operator("norm_gemv", norm_gemv_reference, launch_norm_gemv, _fake_norm_gemv)
_norm_swiglu = register_operator(
    "norm_swiglu", norm_swiglu_reference, launch_norm_swiglu, _fake_norm_swiglu
)
