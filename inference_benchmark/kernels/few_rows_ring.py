"""A few rows times a matrix on GPUs like Hopper: the weights run through a ring in shared memory.

What the kernel of few_rows_linear.py loses beside the bandwidth, it loses where it begins and where it
ends, which is most of a small matrix's time. Here all programs are resident at once and have equal
shares of all steps, wherever a share begins or ends inside a block of outputs; the ring runs on from
block to block. And the weights of all its stages are on their way before the kernel waits for its
predecessor, only x comes after: in Triton's own pipelines the two come together, which is why this one
is written by hand, in Gluon.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

from inference_benchmark.kernels._registration import capability, programmatic_launch
from inference_benchmark.kernels.arrivals import arrival_counters
from inference_benchmark.kernels.fp8_few_rows import x_tile
from inference_benchmark.kernels.integers import cdiv
from inference_benchmark.kernels.ring_steps import (
    async_copy,
    copy_weights,
    copy_x,
    fill_ring,
    finish_block,
    gl,
    gluon_jit,
    launch_dependents,
    multiply_stage,
    wait_for_predecessor,
)

CAPABILITY = 9  # of GPUs whose matrix units read both operands from shared memory
_ALIGNMENT = 16  # bytes of an asynchronous copy
_LEAST_USED = 0.7  # of the multiprocessors, before shares end within a block


@dataclass(frozen=True)
class RingPlan:
    """How one matrix [matrix_rows, in_features] is cut."""

    outputs: int  # rows of the matrix per block: 64, or 128
    columns: int  # of the matrix per step
    programs: int  # that have equal shares of all blocks' steps
    num_stages: int
    num_warps: int = 4


def fits_ring(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether these can be copied 16 bytes at a time by a GPU that has what the kernel needs."""
    if gl is None or capability(x.device) != CAPABILITY or x.element_size() != 2:
        return False
    numbers = x.data_ptr() | weight.data_ptr() | weight.shape[1] * weight.element_size()
    return numbers % _ALIGNMENT == 0


def choose_ring(matrix_rows: int, in_features: int, multiprocessors: int) -> RingPlan | None:
    """Where a matrix has no more blocks than there are multiprocessors: a program on each, if possible
    of a whole block or half of one. So much shared memory keeps two of them from one multiprocessor:
    the kernel before leaves some free earlier than others, and 96 programs of the matrix of queries,
    keys and values were found on 51 of 132.

    A layer of Llama 3.1 8B at batch 32 and 1,031 tokens took 152.5 us on an H200, 158.2 with
    few_rows_linear's kernel in all places, and 1.4, 0.4 and 0.2 us more than 152.5 where only the matrix of
    queries, keys and values, of the output or of down had that kernel, with as much shared memory; of
    16, 8 and 2 rows 138.9, 129.9 and 120.2 us instead of 141.5, 133.4 and 125.3. Other cuts, and why
    gate and up have none here: results/trials/few_rows.py.
    """
    outputs, columns, num_stages = 64, 128, 8
    blocks, steps = cdiv(matrix_rows, outputs), cdiv(in_features, columns)
    if blocks > multiprocessors:
        return None
    programs = blocks * max(1, min(multiprocessors // blocks, steps // num_stages))
    if blocks < multiprocessors < 2 * blocks and programs < _LEAST_USED * multiprocessors:
        programs = multiprocessors
    return RingPlan(outputs, columns, programs, num_stages)


@functools.cache
def most_parts(blocks: int, steps: int, programs: int) -> int:
    """Programs at most that share one of the blocks of so many steps each."""
    shares = [program * blocks * steps // programs for program in range(programs + 1)]
    parts = [0] * blocks
    for begin, end in zip(shares, shares[1:], strict=False):
        for block in range(begin // steps, (end - 1) // steps + 1):
            parts[block] += 1
    return max(parts)


@gluon_jit
def _few_rows_ring_kernel(
    x_ptr,  # [num_rows, IN_FEATURES]
    weight_ptr,  # [out_features, IN_FEATURES], with SWIGLU twice as many rows
    out_ptr,  # [num_rows, out_features]
    partial_ptr,  # [blocks, PARTS, OUTPUTS, X_ROWS]
    arrivals_ptr,  # [blocks]
    num_rows,
    out_features,
    blocks,
    IN_FEATURES: gl.constexpr,
    X_ROWS: gl.constexpr,
    OUTPUTS: gl.constexpr,
    COLUMNS: gl.constexpr,
    PARTS: gl.constexpr,
    STAGES: gl.constexpr,
    SWIGLU: gl.constexpr,
    PROGRAMMATIC: gl.constexpr,
    num_warps: gl.constexpr,
):
    STEPS: gl.constexpr = (IN_FEATURES + COLUMNS - 1) // COLUMNS
    TYPE: gl.constexpr = weight_ptr.dtype.element_ty
    COPIED: gl.constexpr = gl.BlockedLayout(
        [1, 8], [256 // COLUMNS, COLUMNS // 8], [num_warps, 1], [1, 0]
    )
    SUMS: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [num_warps, 1], [16, X_ROWS, 16])
    W_SHARED: gl.constexpr = gl.NVMMASharedLayout.get_default_for([OUTPUTS, COLUMNS], TYPE)
    X_SHARED: gl.constexpr = gl.NVMMASharedLayout.get_default_for([X_ROWS, COLUMNS], TYPE)
    all_steps = blocks * STEPS
    begin = gl.program_id(0) * all_steps // gl.num_programs(0)
    end = (gl.program_id(0) + 1) * all_steps // gl.num_programs(0)
    ring = gl.allocate_shared_memory(TYPE, [STAGES, OUTPUTS, COLUMNS], W_SHARED)
    x_ring = gl.allocate_shared_memory(TYPE, [STAGES, X_ROWS, COLUMNS], X_SHARED)

    if PROGRAMMATIC:
        launch_dependents()
    fill_ring(
        weight_ptr, ring, begin, end, out_features,
        IN_FEATURES, OUTPUTS, COLUMNS, STAGES, SWIGLU, COPIED,
    )  # fmt: skip
    if PROGRAMMATIC:
        wait_for_predecessor()
    for stage in gl.static_range(STAGES):
        copy_x(
            x_ptr, x_ring.index(stage), begin + stage, end, num_rows,
            IN_FEATURES, X_ROWS, COLUMNS, COPIED,
        )  # fmt: skip
        async_copy.commit_group()
    total = gl.zeros((OUTPUTS, X_ROWS), gl.float32, SUMS)
    for step in range(begin, end):
        place = (step - begin) % STAGES
        w, x = ring.index(place), x_ring.index(place)
        total = multiply_stage(w, x, total, STAGES)
        copy_weights(
            weight_ptr, w, step + STAGES, end, out_features,
            IN_FEATURES, OUTPUTS, COLUMNS, SWIGLU, COPIED,
        )  # fmt: skip
        copy_x(x_ptr, x, step + STAGES, end, num_rows, IN_FEATURES, X_ROWS, COLUMNS, COPIED)
        async_copy.commit_group()
        if (step % STEPS == STEPS - 1) | (step == end - 1):
            finish_block(
                out_ptr, partial_ptr, arrivals_ptr, total, step // STEPS, all_steps, out_features,
                num_rows, STEPS, PARTS, SWIGLU, SUMS, num_warps,
            )  # fmt: skip
            total = gl.zeros((OUTPUTS, X_ROWS), gl.float32, SUMS)


def launch_ring(
    x: torch.Tensor,
    weight: torch.Tensor,
    out: torch.Tensor,
    plan: RingPlan,
    swiglu: bool,
) -> None:
    """x [..., in_features] of a few rows times weight [matrix_rows, in_features] -> out."""
    matrix_rows, in_features = weight.shape
    num_rows = x.numel() // in_features
    blocks, steps = cdiv(matrix_rows, plan.outputs), cdiv(in_features, plan.columns)
    programs = min(plan.programs, blocks * steps)
    parts, rows = most_parts(blocks, steps, programs), x_tile(num_rows)
    partial = arrivals = None
    if parts > 1:
        shape = (blocks, parts, plan.outputs, rows)
        partial = torch.empty(shape, dtype=torch.float32, device=x.device)
        arrivals = arrival_counters("few_rows_linear", x.device, blocks)
    programmatic = programmatic_launch(x.device)
    _few_rows_ring_kernel[(programs,)](
        x,
        weight,
        out,
        partial,
        arrivals,
        num_rows,
        out.shape[-1],
        blocks,
        IN_FEATURES=in_features,
        X_ROWS=rows,
        OUTPUTS=plan.outputs,
        COLUMNS=plan.columns,
        PARTS=parts,
        STAGES=plan.num_stages,
        SWIGLU=swiglu,
        PROGRAMMATIC=programmatic,
        num_warps=plan.num_warps,
        launch_pdl=programmatic,
    )
