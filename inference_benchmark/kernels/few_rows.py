"""A linear layer of a few rows, or of one, over packed weights: read once, unpacked in registers,
multiplied by the matrix units.

A decode step of several sequences, or of a few tokens, is as bound by memory as one of a single
row, but multiplying each weight with each row outside the matrix units would take longer than
reading it. Inside them eight rows cost what one does. The weights are the large operand, which
needs no transposing: 16 of its rows by 8 rows of x are one instruction.

Masked words go in as they are (packed_words), integers times a small power of two: x carries its
inverse. What all stored integers are above the true ones, the zero point, is subtracted from a
group's sum, times the sum of x over the group: the product of x with ones.

A program takes a few rows of the matrix whole, so that no sum leaves it; its warps divide the
columns and add up at the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from inference_benchmark.kernels._registration import jit, programmatic_launch, tl
from inference_benchmark.kernels.integers import cdiv, next_power_of_2
from inference_benchmark.kernels.level_table import fill_level_table, table_pairs
from inference_benchmark.kernels.packed_matrix import PackedMatrix
from inference_benchmark.kernels.packed_words import (
    SCALE_BLOCK,
    group_scales,
    integer_pairs,
    level_pairs,
    load_levels,
    pairs,
)

# Of x, up to which this is faster on an H200 than a matrix that is unpacked first and PyTorch's
# product.
MAX_ROWS = 32
_MIN_TILE = 8  # rows of x in a matrix product


@dataclass(frozen=True)
class Plan:
    """How one matrix is cut."""

    rows: int  # of the matrix, per program
    blocks: int  # of 16 words of each row, per step
    num_warps: int
    num_stages: int
    lookup: str = "table"  # of nf4's levels; "gather" is for the interpreter


def choose_plan(packed: PackedMatrix, num_rows: int) -> Plan:
    """Chosen on an H200 for 1, 8, 16 and 32 rows of x, on the matrices of Llama 3.1 8B."""
    is_tall, is_nf4 = packed.out_features > 8192, packed.weight_format == "nf4"
    if num_rows > 16:
        return Plan(rows=32, blocks=4, num_warps=4, num_stages=3)
    if num_rows > 8:
        return Plan(rows=32, blocks=8, num_warps=4, num_stages=3)
    if is_nf4:
        return Plan(rows=32, blocks=8, num_warps=4, num_stages=3)
    if is_tall:
        return Plan(rows=64, blocks=8, num_warps=4, num_stages=3)
    if packed.weight_format == "int8":
        return Plan(rows=32, blocks=8, num_warps=4, num_stages=4)
    return Plan(rows=32, blocks=16, num_warps=4, num_stages=3)


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
    PLACES: tl.constexpr,
    SCALE_BLOCK: tl.constexpr,
    X_ROWS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCKS: tl.constexpr,
    LOOKUP: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
):
    BLOCK_COLUMNS: tl.constexpr = 32 * PLACES
    WIDE: tl.constexpr = x_ptr.dtype.element_ty != tl.bfloat16
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside_rows = rows < out_features
    x_rows = tl.arange(0, X_ROWS)
    inside_x = (x_rows < num_rows)[None, None, :]
    blocks = tl.arange(0, BLOCKS)
    numbers = rows.to(tl.int64)[None, :] * ROW_BLOCKS + blocks[:, None]  # [BLOCKS, ROWS]
    words_at = words_ptr + numbers[:, :, None] * 16 + tl.arange(0, 16)[None, None, :]
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_launch_dependents()
    if FORMAT == "nf4":
        mean = tl.load(scale_mean_ptr)
        if LOOKUP == "table":
            table = 0
            fill_level_table(levels_ptr, out_features)
        else:
            table = load_levels(levels_ptr, LOOKUP)
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()

    pair_columns = tl.arange(0, 32)[None, :, None]
    first_columns = (blocks * BLOCK_COLUMNS)[:, None, None] + pair_columns
    x_at = x_ptr + x_rows.to(tl.int64)[None, None, :] * IN_FEATURES + first_columns
    total = tl.zeros((BLOCKS, ROWS, X_ROWS), dtype=tl.float32)
    for block in tl.range(0, ROW_BLOCKS, BLOCKS):
        inside_blocks = blocks + block < ROW_BLOCKS
        inside = inside_blocks[:, None] & inside_rows[None, :]
        words = tl.load(words_at + block * 16, mask=inside[:, :, None], other=0)
        words = words.to(tl.uint32, bitcast=True)
        group = tl.zeros((BLOCKS, ROWS, X_ROWS), dtype=tl.float32)
        x_sum = tl.zeros((BLOCKS, ROWS, X_ROWS), dtype=tl.float32)
        for place in tl.static_range(PLACES):
            column = block * BLOCK_COLUMNS + place * 32
            inside_columns = inside_blocks[:, None, None]
            if IN_FEATURES % BLOCK_COLUMNS != 0:
                inside_columns = inside_columns & (first_columns + column < IN_FEATURES)
            x = tl.load(x_at + column, mask=inside_columns & inside_x, other=0.0)
            if WIDE:
                x = x.to(tl.float32)
            if FORMAT == "nf4":
                weights = _levels(words, table, place, LOOKUP, WIDE)
                weights = tl.reshape(weights, (BLOCKS, ROWS, 32))
                group = tl.dot(weights, x, group, input_precision="ieee")
                if place % 2 == 1:
                    groups = 2 * (numbers + block) + place // 2
                    scales = group_scales(
                        scales_ptr, scale_scales_ptr, mean, groups, inside, SCALE_BLOCK
                    )
                    total += group * scales[:, :, None]
                    group = tl.zeros((BLOCKS, ROWS, X_ROWS), dtype=tl.float32)
            else:
                x *= 2.0 ** (100 if FORMAT == "int8" else 100 - 4 * (place % 2))
                weights = tl.reshape(integer_pairs(words, place, FORMAT, WIDE), (BLOCKS, ROWS, 32))
                group = tl.dot(weights, x, group, input_precision="ieee")
                ones = tl.reshape(_ones(words, place, FORMAT, WIDE), (BLOCKS, ROWS, 32))
                x_sum = tl.dot(ones, x, x_sum, input_precision="ieee")
        if FORMAT == "int8":
            total += group * 2.0**33 - x_sum * (128 * 2.0**-100)
        elif FORMAT != "nf4":
            scales = tl.load(scales_ptr + numbers + block, mask=inside, other=0.0)
            zeros = 8.0
            if FORMAT == "int4_zeros":
                zeros = tl.load(zeros_ptr + numbers + block, mask=inside, other=0)
                zeros = zeros.to(tl.float32)[:, :, None]
            group = group * 2.0**33 - x_sum * (zeros * 2.0**-100)
            total += group * scales.to(tl.float32)[:, :, None]
    result = tl.sum(total, axis=0)
    if FORMAT == "int8":
        result *= tl.load(scales_ptr + rows, mask=inside_rows, other=0.0)[:, None]
    out = out_ptr + x_rows.to(tl.int64)[None, :] * out_features + rows[:, None]
    inside_out = (x_rows < num_rows)[None, :] & inside_rows[:, None]
    tl.store(out, result.to(out_ptr.dtype.element_ty), mask=inside_out)


@jit
def _ones(words, PLACE: tl.constexpr, FORMAT: tl.constexpr, WIDE: tl.constexpr):
    """1, over what the factor of x lacks of 2^100, for each weight. Made of words, if of none of
    their bits, they are laid out as the weights are, and x is."""
    ones: tl.constexpr = 0x3F803F80 if FORMAT == "int8" or PLACE % 2 == 0 else 0x41804180
    return pairs(((words & 0x000F000F) & 0x00F000F0) | ones, WIDE)


@jit
def _levels(words, table, PLACE: tl.constexpr, LOOKUP: tl.constexpr, WIDE: tl.constexpr):
    if LOOKUP == "table":
        levels = pairs(table_pairs(words, PLACE), WIDE)
    else:
        levels = level_pairs(words, table, PLACE, LOOKUP)
        if not WIDE:
            levels = levels.to(tl.bfloat16)
    return levels


def launch_few_rows(
    x: torch.Tensor, packed: PackedMatrix, plan: Plan | None = None
) -> torch.Tensor:
    """x [..., in_features] of a few rows times packed words, on the current device and stream.

    Sums are in fp32; where x is in bf16, the levels of nf4 are rounded to it first.
    """
    packed.check_fits(x)
    in_features, out_features = x.shape[-1], packed.out_features
    num_rows = x.numel() // in_features
    plan = plan or choose_plan(packed, num_rows)
    lookup = plan.lookup
    if lookup == "table" and x.dtype != torch.bfloat16:  # of which its levels are
        lookup = "shuffle"
    out = torch.empty((*x.shape[:-1], out_features), dtype=x.dtype, device=x.device)
    programmatic = programmatic_launch(x.device)
    _few_rows_kernel[(cdiv(out_features, plan.rows),)](
        x,
        *packed.pointers,
        out,
        num_rows,
        out_features,
        IN_FEATURES=in_features,
        ROW_BLOCKS=packed.row_blocks,
        FORMAT=packed.weight_format,
        PLACES=packed.places,
        SCALE_BLOCK=SCALE_BLOCK,
        X_ROWS=max(_MIN_TILE, next_power_of_2(num_rows)),
        ROWS=plan.rows,
        BLOCKS=plan.blocks,
        LOOKUP=lookup,
        PROGRAMMATIC=programmatic,
        num_warps=plan.num_warps,
        num_stages=plan.num_stages,
        launch_pdl=programmatic,
    )
    return out
