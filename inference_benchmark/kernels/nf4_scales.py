"""The scales of nf4's groups, loaded and widened by the threads that multiply the groups' sums.

A group's scale is 8 bits times a scale of 32 bits that 256 groups share, plus the mean: of a short row
the latter is one number for several rows, loaded once for all blocks.
"""

from __future__ import annotations

from inference_benchmark.kernels._registration import jit, tl
from inference_benchmark.kernels.packed_matrix import PackedMatrix, RowPlan
from inference_benchmark.kernels.packed_words import SCALE_BLOCK
from inference_benchmark.kernels.row_words import load_where_used


def rows_of_a_scale(packed: PackedMatrix, plan: RowPlan, whole: bool, swiglu: bool) -> int:
    """How many rows share a scale of scales, if rows of a tile do so evenly, or 0."""
    scale_blocks = SCALE_BLOCK // 2  # of two groups
    if not whole or scale_blocks % packed.row_blocks:
        return 0
    shared, rows = scale_blocks // packed.row_blocks, plan.rows // 2 if swiglu else plan.rows
    even = shared % rows == 0 or rows % shared == 0
    return shared if even and (not swiglu or packed.out_features // 2 % shared == 0) else 0


@jit
def scale_of(byte, scale_scales, mean):
    """Of the last 8 bits in e4m3."""
    return byte.to(tl.uint8).to(tl.float8e4nv, bitcast=True).to(tl.float32) * scale_scales + mean


@jit
def load_scale_scales(
    scale_scales_ptr, start, half, rows, numbers, inside,
    ROWS: tl.constexpr, SCALE_ROWS: tl.constexpr, SCALE_BLOCK: tl.constexpr, SWIGLU: tl.constexpr,
    MASKED: tl.constexpr, BY_HAND: tl.constexpr,
):  # fmt: skip
    """Of blocks (numbers, in rows 0 to ROWS - 1 of a tile that starts at the matrix's row start) what
    their groups' scales are multiplied by: of the shape of all three."""
    if SCALE_ROWS > 0:
        values = _of_rows(scale_scales_ptr, start, rows, ROWS, SCALE_ROWS, SWIGLU)
        if SWIGLU:
            up = _of_rows(scale_scales_ptr, start + half, rows, ROWS, SCALE_ROWS, SWIGLU)
            values = tl.where(rows % 2 == 0, values, up)
    else:
        pointers = scale_scales_ptr + numbers.to(tl.uint32) // (SCALE_BLOCK // 2)
        values = load_where_used(pointers, inside, "b32", "r", MASKED, BY_HAND)
    return values


@jit
def _of_rows(
    scale_scales_ptr, start, rows,
    ROWS: tl.constexpr, SCALE_ROWS: tl.constexpr, SWIGLU: tl.constexpr,
):  # fmt: skip
    first = scale_scales_ptr + start // SCALE_ROWS
    values = tl.zeros(rows.shape, dtype=tl.float32) + tl.load(first)
    SHARING: tl.constexpr = 2 * SCALE_ROWS if SWIGLU else SCALE_ROWS
    for part in tl.static_range(1, ROWS // SHARING):
        values = tl.where(rows >= part * SHARING, tl.load(first + part), values)
    return values
