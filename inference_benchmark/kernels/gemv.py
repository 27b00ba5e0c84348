"""A linear layer of one row: reading a matrix once, as fast as memory delivers it.

A decode step at batch 1 multiplies every weight matrix with one vector: 2 bytes per multiply-add,
so bandwidth is all there is. Large matrices keep cuBLAS at the bandwidth; smaller ones (attention's
projections, 30 to 50 MB, 8 to 12 us) end before its pipelines are full, and their split-K partial
sums cost a second kernel. Here each program takes a few rows of the matrix whole, so nothing is
split and nothing is summed twice, many small programs keep every multiprocessor loading, and the
first weights are requested before the kernel waits for its predecessor's result: weights depend on
nothing.

Rows go in pairs: the second ones of a program's pairs stand behind all its first ones, or with SwiGLU
the first of a pair is of the gate and the second the same row of up.

Beside bandwidth there is power: a large model at batch 1 runs near a GPU's limit, where instructions
cost clock. So what all programs would do alike, the norm before a product, is add_norm.py's.
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
from inference_benchmark.kernels.result_shapes import fake_linear, fake_swiglu
from inference_benchmark.kernels.row_swiglu import swiglu_of_halves, swiglu_of_pairs
from inference_benchmark.kernels.row_tiles import load_pair, sum_pairs


@dataclass(frozen=True)
class Plan:
    """How one matrix [out_features, in_features] is cut."""

    pairs: int  # of rows of the matrix, per program
    columns: int  # per load; a power of two that need not divide in_features
    num_warps: int

    def limits(self, in_features: int) -> dict[str, int]:
        """Of two loads a row: 40 registers a thread. Left to itself the compiler takes 32 where it
        can, and then requests the last weights behind the first products."""
        return {"maxnreg": 40} if in_features <= 2 * self.columns else {}


def choose_plan(out_features: int, in_features: int) -> Plan:
    """Few rows and long loads: thousands of short programs, 16 bytes per thread and load.

    Chosen on an H200 among rows 1 to 16, columns 512 to 2048 and 2 to 8 warps, on the matrices of
    Llama 3.1 8B and 3.2 1B; neighbouring plans are nearly as fast.
    """
    if in_features >= 4096 and in_features % 2048:
        # Faster than 2048 columns at 5120 and 7168, where the last step would be half empty. In layers
        # of Llama 4 Scout (5120) one pair is faster than two, in its head slower.
        is_small = in_features < 6144 and out_features <= 65536
        return Plan(pairs=1 if is_small else 2, columns=1024, num_warps=4)
    columns = 2048 if in_features >= 4096 else 1024
    return Plan(pairs=1, columns=columns, num_warps=8 if in_features == 4096 else 4)


def gemv(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """x @ weight.T for a single row.

    Args:
        x: [..., in_features] with one row in all (leading dimensions of size 1), contiguous.
        weight: [out_features, in_features], contiguous, of x's dtype.

    Returns:
        [..., out_features], products and sums in fp32, rounded once.
    """
    return _gemv(x, weight)


def gemv_swiglu(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up, where gate and up are the halves of x @ weight.T: [..., width].

    weight: [2 * width, in_features]; the rest as for gemv, rounded once at the end.
    """
    return _gemv_swiglu(x, weight)


def gemv_reference(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The same in plain PyTorch."""
    return F.linear(x, weight)


def gemv_swiglu_reference(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The same in plain PyTorch."""
    return swiglu_of_halves(F.linear(x, weight))


@jit
def _gemv_kernel(
    x_ptr,
    weight_ptr,
    out_ptr,
    out_features,
    IN_FEATURES: tl.constexpr,
    PAIRS: tl.constexpr,
    COLUMNS: tl.constexpr,
    SWIGLU: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
):
    rows = tl.program_id(0) * (PAIRS if SWIGLU else 2 * PAIRS) + tl.arange(0, PAIRS)
    other_rows = rows + (out_features if SWIGLU else PAIRS)
    last = (2 * out_features if SWIGLU else out_features) - 1
    columns = tl.arange(0, COLUMNS)
    # Beyond the last row it is read again, which needs no mask.
    first = weight_ptr + tl.minimum(rows, last).to(tl.int64)[:, None] * IN_FEATURES
    second = weight_ptr + tl.minimum(other_rows, last).to(tl.int64)[:, None] * IN_FEATURES
    rows_at = first + columns[None, :], second + columns[None, :]
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_launch_dependents()
    tiles = load_pair(rows_at, None, 0, columns, IN_FEATURES, COLUMNS)
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()
    sums = sum_pairs(tiles, rows_at, None, columns, x_ptr, None, IN_FEATURES, PAIRS, COLUMNS)
    # Of both at once: threads meet twice instead of five times.
    result, other = tl.split(tl.sum(tl.join(sums[0], sums[1]), axis=1))
    if SWIGLU:
        result = swiglu_of_pairs(result, other)
    else:
        inside = other_rows < out_features
        tl.store(out_ptr + other_rows, other.to(out_ptr.dtype.element_ty), mask=inside)
    tl.store(out_ptr + rows, result.to(out_ptr.dtype.element_ty), mask=rows < out_features)


def _launch(x: torch.Tensor, weight: torch.Tensor, swiglu: bool, plan: Plan | None) -> torch.Tensor:
    in_features = weight.shape[1]
    out_features = weight.shape[0] // (2 if swiglu else 1)
    if x.numel() != in_features or x.shape[-1] != in_features:
        raise ValueError(f"gemv: x {tuple(x.shape)} is not one row of {in_features} values")
    if x.dtype != weight.dtype or not (x.is_contiguous() and weight.is_contiguous()):
        raise ValueError("gemv: x and weight must be contiguous and of one dtype")
    plan = plan or choose_plan(out_features, in_features)
    rows = plan.pairs * (1 if swiglu else 2)
    out = (fake_swiglu if swiglu else fake_linear)(x, weight)
    programmatic = programmatic_launch(x.device)
    _gemv_kernel[((out_features + rows - 1) // rows,)](
        x,
        weight,
        out,
        out_features,
        IN_FEATURES=in_features,
        PAIRS=plan.pairs,
        COLUMNS=plan.columns,
        SWIGLU=swiglu,
        PROGRAMMATIC=programmatic,
        num_warps=plan.num_warps,
        launch_pdl=programmatic,
        **plan.limits(in_features),
    )
    return out


def launch_gemv(x: torch.Tensor, weight: torch.Tensor, plan: Plan | None = None) -> torch.Tensor:
    """The Triton kernel, on the current device and stream."""
    return _launch(x, weight, False, plan)


def launch_gemv_swiglu(
    x: torch.Tensor, weight: torch.Tensor, plan: Plan | None = None
) -> torch.Tensor:
    """The Triton kernel, on the current device and stream."""
    return _launch(x, weight, True, plan)


_gemv = register_operator("gemv", gemv_reference, launch_gemv, fake_linear)
_gemv_swiglu = register_operator(
    "gemv_swiglu", gemv_swiglu_reference, launch_gemv_swiglu, fake_swiglu
)
