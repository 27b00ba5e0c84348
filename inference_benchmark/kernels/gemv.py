"""A linear layer of one row: reading a matrix once, as fast as memory delivers it.

A decode step at batch 1 multiplies every weight matrix with one vector: 2 bytes per multiply-add,
so bandwidth is all there is. Large matrices keep cuBLAS at the bandwidth; smaller ones (attention's
projections, 30 to 50 MB, 8 to 12 us) end before its pipelines are full, and their split-K partial
sums cost a second kernel. Here each program takes a few rows of the matrix whole, so nothing is
split and nothing is summed twice, many small programs keep every multiprocessor loading, and the
first weights are requested before the kernel waits for its predecessor's result: weights depend on
nothing.

Rows go in pairs: the second of a pair stands behind the first ones of the program's rows, or with
SwiGLU behind the gate is its up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch.nn import functional as F

from inference_benchmark.kernels._registration import (
    jit,
    prefetch,
    programmatic_launch,
    register_operator,
    tl,
)
from inference_benchmark.kernels.matrix_units import (
    first_of_eight,
    has_matrix_units,
    multiply_rows,
    own_sums,
)

# Columns that four threads of a warp load at a time, and such quads of a warp.
QUAD_COLUMNS, WARP_QUADS = (32, 8) if tl is None else (tl.constexpr(32), tl.constexpr(8))


@dataclass(frozen=True)
class Plan:
    """How one matrix [out_features, in_features] is cut: a program takes `pairs` pairs of rows, in
    steps of chunks * columns, all powers of two.

    columns: of a row that stand together in a thread's or a warp's load.
    matrix_units: multiply there, if the type allows it. With columns = 32, where a warp loads of
        eight rows, the vector goes in once; otherwise all of a warp is of one row.
    ahead: steps that are on their way before they are needed, 1 or 2.
    prefetched: further ones that are sent to L2 before the kernel waits for its predecessor.
    """

    chunks: int
    pairs: int
    columns: int
    num_warps: int
    matrix_units: bool = False
    ahead: int = 1
    prefetched: int = 0


def _scalar(in_features: int, pairs: int = 1, matrix_units: bool = False) -> Plan:
    """Few rows and long loads: thousands of short programs, 16 bytes per thread and load.

    Chosen on an H200 among rows 1 to 16, columns 512 to 2048 and 2 to 8 warps, on the matrices of
    Llama 3.1 8B and 3.2 1B; neighbouring plans differ by 1 to 3 %.
    """
    if in_features >= 4096 and in_features % 2048:
        return Plan(1, 2, 1024, 4, matrix_units)  # 12 % faster than 2048 at 5120 and 7168
    columns = 2048 if in_features >= 4096 else 1024
    return Plan(1, pairs, columns, 8 if in_features == 4096 else 4, matrix_units)


def _lines_in_l2(out_features: int, in_features: int) -> Plan:
    fits = out_features * in_features <= MAX_PREFETCHED
    return Plan(4, 4, 256, 4, True, prefetched=-(-in_features // 1024) - 1 if fits else 0)


# Weights of a matrix that may wait in L2, which holds 50 MB on an H200, beside what else is there.
MAX_PREFETCHED = 18_000_000
# By out_features and in_features. Of these only "scalar" was timed in whole models.
WAYS: dict[str, Callable[[int, int], Plan]] = {
    "scalar": lambda out_features, in_features: _scalar(in_features),
    "scalar, 4 rows": lambda out_features, in_features: _scalar(in_features, 2),
    "units ahead": lambda out_features, in_features: replace(
        _scalar(in_features, 1, True), ahead=2
    ),
    "units, 4 warps": lambda out_features, in_features: Plan(1, 1, 1024, 4, True, ahead=2),
    "lines": lambda out_features, in_features: Plan(4, 4, 256, 4, True),
    "lines ahead": lambda out_features, in_features: Plan(4, 4, 256, 4, True, ahead=2),
    "lines in L2": _lines_in_l2,
    "quads ahead": lambda out_features, in_features: Plan(16, 8, 32, 8, True, ahead=2),
}
WAY = "scalar"


def choose_plan(out_features: int, in_features: int) -> Plan:
    return WAYS[WAY](out_features, in_features)


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
    gate, up = F.linear(x, weight).chunk(2, dim=-1)
    return F.silu(gate) * up


@jit
def load_pairs(first, second, start, within, IN_FEATURES: tl.constexpr, STEP: tl.constexpr):
    """A step's tile of both rows of the pairs, from column start on."""
    if IN_FEATURES % STEP == 0:
        tile = tl.load(first + start, eviction_policy="evict_first")
        other = tl.load(second + start, eviction_policy="evict_first")
    else:
        inside = start + within < IN_FEATURES
        tile = tl.load(first + start, mask=inside, other=0.0, eviction_policy="evict_first")
        other = tl.load(second + start, mask=inside, other=0.0, eviction_policy="evict_first")
    return tile, other


@jit
def _gemv_kernel(
    x_ptr,
    weight_ptr,
    out_ptr,
    out_features,
    IN_FEATURES: tl.constexpr,
    CHUNKS: tl.constexpr,
    PAIRS: tl.constexpr,
    COLUMNS: tl.constexpr,
    NUM_WARPS: tl.constexpr,
    SWIGLU: tl.constexpr,
    UNITS: tl.constexpr,
    AHEAD: tl.constexpr,
    PREFETCHED: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
):
    STEP: tl.constexpr = CHUNKS * COLUMNS
    # With one row per warp and load x is given by all quads, otherwise by one.
    SHARED_X: tl.constexpr = UNITS and COLUMNS == QUAD_COLUMNS
    places = tl.arange(0, PAIRS)
    rows = tl.program_id(0) * (PAIRS if SWIGLU else 2 * PAIRS) + places
    other_rows = rows + (out_features if SWIGLU else PAIRS)
    last = (2 * out_features if SWIGLU else out_features) - 1
    # A warp's chunks stand side by side, so that together they are whole lines of memory.
    chunks = tl.arange(0, CHUNKS)
    if CHUNKS > NUM_WARPS:
        chunks = chunks % NUM_WARPS * (CHUNKS // NUM_WARPS) + chunks // NUM_WARPS
    within = (chunks * COLUMNS)[None, :, None] + tl.arange(0, COLUMNS)[None, None, :]
    # Beyond the last row it is read again, which needs no mask.
    first = weight_ptr + tl.minimum(rows, last).to(tl.int64)[:, None, None] * IN_FEATURES + within
    second = tl.minimum(other_rows, last).to(tl.int64)[:, None, None] * IN_FEATURES
    second = weight_ptr + second + within
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_launch_dependents()
    tile, other_tile = load_pairs(first, second, 0, within, IN_FEATURES, STEP)
    next_tile, next_other = tile, other_tile
    if AHEAD == 2 and STEP < IN_FEATURES:
        next_tile, next_other = load_pairs(first, second, STEP, within, IN_FEATURES, STEP)
    if PROGRAMMATIC:
        lines = tl.arange(0, (COLUMNS + 63) // 64) * 64
        at = tl.minimum(rows, last).to(tl.int64)[:, None, None] * IN_FEATURES
        other_at = tl.minimum(other_rows, last).to(tl.int64)[:, None, None] * IN_FEATURES
        for step in tl.static_range(AHEAD, AHEAD + PREFETCHED):
            columns = step * STEP + (chunks * COLUMNS)[None, :, None] + lines[None, None, :]
            columns = tl.minimum(columns, IN_FEATURES - 1)
            prefetch(weight_ptr + at + columns)
            prefetch(weight_ptr + other_at + columns)
        tl.extra.cuda.gdc_wait()
    sums = tl.zeros((PAIRS, CHUNKS, COLUMNS), dtype=tl.float32)
    other_sums = tl.zeros((PAIRS, CHUNKS, COLUMNS), dtype=tl.float32)
    for start in tl.static_range(0, IN_FEATURES, STEP):
        x_at = x_ptr + start + within
        inside = start + within < IN_FEATURES
        if SHARED_X:
            inside = inside & (places % WARP_QUADS == 0)[:, None, None]
        if UNITS and PAIRS >= NUM_WARPS:  # Each warp loads for its rows: nothing is exchanged.
            x_at = x_at + 0 * places[:, None, None]
        if IN_FEATURES % STEP == 0 and not SHARED_X:
            x = tl.load(x_at)
        else:
            x = tl.load(x_at, mask=inside, other=0.0)
        x = tl.broadcast_to(x, (PAIRS, CHUNKS, COLUMNS))
        if AHEAD == 1 and start + STEP < IN_FEATURES:
            next_tile, next_other = load_pairs(
                first, second, start + STEP, within, IN_FEATURES, STEP
            )
        if AHEAD == 2 and start + 2 * STEP < IN_FEATURES:
            later, other_later = load_pairs(
                first, second, start + 2 * STEP, within, IN_FEATURES, STEP
            )
        else:
            later, other_later = next_tile, next_other
        if UNITS:
            sums, other_sums = multiply_rows(x, tile, other_tile, sums, other_sums)
        else:
            wide = x.to(tl.float32)
            sums += tile.to(tl.float32) * wide
            other_sums += other_tile.to(tl.float32) * wide
        tile, other_tile = next_tile, next_other
        next_tile, next_other = later, other_later
    if SHARED_X:
        sums = first_of_eight(sums, PAIRS, CHUNKS, COLUMNS)
        other_sums = first_of_eight(other_sums, PAIRS, CHUNKS, COLUMNS)
    elif UNITS:
        sums = own_sums(sums, PAIRS, CHUNKS, COLUMNS)
        other_sums = own_sums(other_sums, PAIRS, CHUNKS, COLUMNS)
    result = tl.sum(tl.sum(sums, axis=2), axis=1)
    other = tl.sum(tl.sum(other_sums, axis=2), axis=1)
    if SWIGLU:
        result = result * tl.sigmoid(result) * other
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
    out = x.new_empty((*x.shape[:-1], out_features))
    programmatic = programmatic_launch(x.device)
    _gemv_kernel[((out_features + rows - 1) // rows,)](
        x,
        weight,
        out,
        out_features,
        IN_FEATURES=in_features,
        CHUNKS=plan.chunks,
        PAIRS=plan.pairs,
        COLUMNS=plan.columns,
        NUM_WARPS=plan.num_warps,
        SWIGLU=swiglu,
        UNITS=plan.matrix_units and has_matrix_units(x),
        AHEAD=plan.ahead,
        PREFETCHED=plan.prefetched,
        PROGRAMMATIC=programmatic,
        num_warps=plan.num_warps,
        launch_pdl=programmatic,
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


def _fake(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def _fake_swiglu(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0] // 2))


_gemv = register_operator("gemv", gemv_reference, launch_gemv, _fake)
_gemv_swiglu = register_operator(
    "gemv_swiglu", gemv_swiglu_reference, launch_gemv_swiglu, _fake_swiglu
)
