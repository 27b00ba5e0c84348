"""A linear layer of a few rows: reading a matrix once for several sequences.

A decode step of up to some sixty sequences is still bound by reading the weights, and the library's
kernels read a layer's smaller matrices at two thirds of the bandwidth: they end before their
pipelines are full, and what they cut along the inputs a second kernel adds up. Here the programs of
one block of outputs, each with a part of the inputs, leave their sums in L2, where the last of them
adds them up; the first weights are requested while the kernel before this one still runs, since they
depend on nothing.

On GPUs like Hopper matrices of few rows go through few_rows_ring.py.

With SwiGLU behind it a block has half its rows of the gate, half of up, eight by eight: the rows of
the matrix units' results that one thread holds in pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from inference_benchmark.kernels._registration import (
    jit,
    multiprocessor_count,
    prefetch,
    programmatic_launch,
    register_operator,
    tl,
)
from inference_benchmark.kernels.arrivals import arrival_counters, is_last
from inference_benchmark.kernels.few_rows_ring import RingPlan, choose_ring, fits_ring, launch_ring
from inference_benchmark.kernels.fp8_few_rows import x_tile
from inference_benchmark.kernels.integers import cdiv
from inference_benchmark.kernels.result_shapes import fake_linear, fake_swiglu
from inference_benchmark.kernels.row_swiglu import swiglu_of_halves

# Up to which it was measured: at 32 rows an H200 reads the matrices of Llama 3.1 8B 5 to 14 % faster
# than the library does, but for the one of queries, keys and values, where both are equal (and which
# few_rows_ring.py multiplies now, as all matrices of few rows on such a GPU).
MAX_ROWS = 32
_PROGRAMS_PER_MULTIPROCESSOR = 2
_LEAST_SPLITS = 4


@dataclass(frozen=True)
class Plan:
    """How one matrix [out_features, in_features] is cut."""

    outputs: int  # rows of the matrix per program; a power of two, 16 or more
    columns: int  # of the matrix per step
    splits: int  # programs that share a block of outputs, each with a part of the columns
    num_warps: int = 4
    num_stages: int = 4
    ahead: int = 2  # steps that are requested before the kernel waits for its predecessor


def choose_plan(out_features: int, in_features: int, multiprocessors: int) -> Plan:
    """Chosen on an H200 for 32 rows: wide steps of few outputs, all programs resident at once."""
    outputs, columns = 64, 128
    blocks = -(-out_features // outputs)
    splits = max(1, _PROGRAMS_PER_MULTIPROCESSOR * multiprocessors // blocks)
    splits = splits if splits >= _LEAST_SPLITS else 1  # fewer gain less than their sum costs
    return Plan(outputs, columns, min(splits, max(1, in_features // (4 * columns))))


def few_rows_linear(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """x @ weight.T for 1 to MAX_ROWS rows.

    Args:
        x: [..., in_features].
        weight: [out_features, in_features], contiguous, of x's dtype.

    Returns:
        [..., out_features], sums in fp32, rounded once. Calls for as many blocks of outputs must not
        run concurrently on two streams: they share arrival counters.
    """
    return _operator(x, weight)


def few_rows_swiglu(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up, where gate and up are the halves of x @ weight.T: [..., width].

    weight: [2 * width, in_features]; the rest as for few_rows_linear, rounded once at the end.
    """
    return _swiglu_operator(x, weight)


def few_rows_linear_reference(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The same in plain PyTorch."""
    return F.linear(x, weight)


def few_rows_swiglu_reference(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The same in plain PyTorch."""
    return swiglu_of_halves(F.linear(x, weight))


@jit
def _matrix_rows(block, out_features, OUTPUTS: tl.constexpr, SWIGLU: tl.constexpr):
    """Rows of the matrix that a block multiplies: [OUTPUTS], of out_features results. Beyond the last
    one it is read again, which costs nothing and needs no mask."""
    numbers = tl.arange(0, OUTPUTS)
    if SWIGLU:
        outputs = block * (OUTPUTS // 2) + numbers // 16 * 8 + numbers % 8
        return tl.minimum(outputs, out_features - 1) + numbers // 8 % 2 * out_features
    return tl.minimum(block * OUTPUTS + numbers, out_features - 1)


@jit
def _store_results(
    out_ptr, total, block, out_features, x_rows, x_inside,
    OUTPUTS: tl.constexpr, X_ROWS: tl.constexpr, SWIGLU: tl.constexpr,
):  # fmt: skip
    """total: sums [OUTPUTS, X_ROWS] of the rows of _matrix_rows."""
    if SWIGLU:
        RESULTS: tl.constexpr = OUTPUTS // 2
        halves = tl.reshape(total, (OUTPUTS // 16, 2, 8, X_ROWS))
        gate, up = tl.split(tl.permute(halves, (0, 2, 3, 1)))
        values = tl.reshape(gate * tl.sigmoid(gate) * up, (RESULTS, X_ROWS))
    else:
        RESULTS: tl.constexpr = OUTPUTS
        values = total
    outputs = block * RESULTS + tl.arange(0, RESULTS)[:, None]
    out = out_ptr + x_rows.to(tl.int64)[None, :] * out_features + outputs
    inside = (outputs < out_features) & x_inside
    tl.store(out, values.to(out_ptr.dtype.element_ty), mask=inside)


@jit
def _request_weights(
    weights, begin, IN_FEATURES: tl.constexpr, COLUMNS: tl.constexpr, AHEAD: tl.constexpr
):
    """The first AHEAD steps of a program's rows, into L2."""
    lines = tl.arange(0, COLUMNS // 64) * 64
    for step in tl.static_range(AHEAD):
        at = tl.minimum(begin + step * COLUMNS + lines, IN_FEATURES - 1)
        prefetch(weights + at[None, :])


@jit
def _sum_of_parts(first, SPLITS: tl.constexpr, SIZE: tl.constexpr):
    # .cg: other multiprocessors wrote these; read them where they meet, in L2.
    total = tl.load(first, cache_modifier=".cg")
    for other in tl.static_range(1, SPLITS):
        total += tl.load(first + other * SIZE, cache_modifier=".cg")
    return total


@jit
def _few_rows_linear_kernel(
    x_ptr,  # [num_rows, IN_FEATURES]
    weight_ptr,  # [out_features, IN_FEATURES], with SWIGLU twice as many rows
    out_ptr,  # [num_rows, out_features]
    partial_ptr,  # [blocks, SPLITS, OUTPUTS, X_ROWS]
    arrivals_ptr,  # [blocks]
    num_rows,
    out_features,
    IN_FEATURES: tl.constexpr,
    X_ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    COLUMNS: tl.constexpr,
    SPLITS: tl.constexpr,
    PART: tl.constexpr,  # columns per split
    AHEAD: tl.constexpr,
    STAGES: tl.constexpr,
    SWIGLU: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
):
    block = tl.program_id(0)
    split = tl.program_id(1)
    rows = _matrix_rows(block, out_features, OUTPUTS, SWIGLU).to(tl.int64)[:, None]
    x_rows = tl.arange(0, X_ROWS)
    columns = tl.arange(0, COLUMNS)
    begin = split * PART
    end = tl.minimum(begin + PART, IN_FEATURES)
    weights = weight_ptr + rows * IN_FEATURES
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_launch_dependents()
        _request_weights(weights, begin, IN_FEATURES, COLUMNS, AHEAD)
        tl.extra.cuda.gdc_wait()
    total = tl.zeros((OUTPUTS, X_ROWS), dtype=tl.float32)
    x_inside = (x_rows < num_rows)[None, :]
    x_at = x_ptr + x_rows[None, :] * IN_FEATURES
    for start in tl.range(begin, end, COLUMNS, num_stages=STAGES):
        inside = start + columns < end
        w = tl.load(weights + (start + columns)[None, :], mask=inside[None, :], other=0.0)
        x = tl.load(x_at + (start + columns)[:, None], mask=inside[:, None] & x_inside, other=0.0)
        total = tl.dot(w, x, total, input_precision="ieee")
    if SPLITS == 1:
        _store_results(
            out_ptr, total, block, out_features, x_rows, x_inside, OUTPUTS, X_ROWS, SWIGLU
        )
    else:
        SIZE: tl.constexpr = OUTPUTS * X_ROWS
        tile = tl.arange(0, OUTPUTS)[:, None] * X_ROWS + x_rows[None, :]
        first = partial_ptr + block.to(tl.int64) * (SPLITS * SIZE) + tile
        tl.store(first + split * SIZE, total)
        if is_last(arrivals_ptr + block, SPLITS):
            total = _sum_of_parts(first, SPLITS, SIZE)
            _store_results(
                out_ptr, total, block, out_features, x_rows, x_inside, OUTPUTS, X_ROWS, SWIGLU
            )


def launch_few_rows_linear(
    x: torch.Tensor, weight: torch.Tensor, plan: Plan | RingPlan | None = None
) -> torch.Tensor:
    """The kernel, on the current device and stream. plan None: the one chosen for it."""
    return _launch(x, weight, plan, False)


def launch_few_rows_swiglu(
    x: torch.Tensor, weight: torch.Tensor, plan: Plan | RingPlan | None = None
) -> torch.Tensor:
    """The same, with SwiGLU behind the product."""
    return _launch(x, weight, plan, True)


def _launch(
    x: torch.Tensor, weight: torch.Tensor, plan: Plan | RingPlan | None, swiglu: bool
) -> torch.Tensor:
    in_features = weight.shape[1]
    num_rows = x.numel() // in_features
    if x.shape[-1] != in_features or num_rows > MAX_ROWS:
        raise ValueError(
            f"few_rows_linear: x {tuple(x.shape)} is not up to {MAX_ROWS} rows of {in_features}"
        )
    if x.dtype != weight.dtype or not weight.is_contiguous():
        raise ValueError("few_rows_linear: x and weight must be of one dtype, weight contiguous")
    x = x.contiguous()
    out = (fake_swiglu if swiglu else fake_linear)(x, weight)
    if plan is None:
        cut = *weight.shape, multiprocessor_count(x.device)
        plan = (choose_ring(*cut) if fits_ring(x, weight) else None) or choose_plan(*cut)
    launch = launch_ring if isinstance(plan, RingPlan) else _launch_tiles
    launch(x, weight, out, plan, swiglu)
    return out


def _launch_tiles(
    x: torch.Tensor,
    weight: torch.Tensor,
    out: torch.Tensor,
    plan: Plan,
    swiglu: bool,
) -> None:
    matrix_rows, in_features = weight.shape
    num_rows = x.numel() // in_features
    blocks = cdiv(matrix_rows, plan.outputs)
    part = cdiv(cdiv(in_features, plan.columns), plan.splits) * plan.columns
    splits = cdiv(in_features, part)
    rows = x_tile(num_rows)
    partial = arrivals = None
    if splits > 1:
        shape = (blocks, splits, plan.outputs, rows)
        partial = torch.empty(shape, dtype=torch.float32, device=x.device)
        arrivals = arrival_counters("few_rows_linear", x.device, blocks)
    programmatic = programmatic_launch(x.device)
    _few_rows_linear_kernel[(blocks, splits)](
        x,
        weight,
        out,
        partial,
        arrivals,
        num_rows,
        out.shape[-1],
        IN_FEATURES=in_features,
        X_ROWS=rows,
        OUTPUTS=plan.outputs,
        COLUMNS=plan.columns,
        SPLITS=splits,
        PART=part,
        AHEAD=plan.ahead,
        STAGES=plan.num_stages,
        SWIGLU=swiglu,
        PROGRAMMATIC=programmatic,
        num_warps=plan.num_warps,
        num_stages=plan.num_stages,
        launch_pdl=programmatic,
    )


_operator = register_operator(
    "few_rows_linear", few_rows_linear_reference, launch_few_rows_linear, fake_linear
)
_swiglu_operator = register_operator(
    "few_rows_swiglu", few_rows_swiglu_reference, launch_few_rows_swiglu, fake_swiglu
)
