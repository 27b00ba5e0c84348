"""Packed weights, unpacked: what kernels do with a tile of words, and the kernel that writes a whole
matrix, for prompts.

Converting every weight would take longer than reading it: a multiprocessor has about four
instructions for a weight of 4 bits, and converts 16 integers a clock. So nothing is converted. The
exponents of bf16 and fp32 below 2^-125 form a line: a number whose exponent field is 0 or 1 is its
bits, read as an integer, times a constant (2^-133 for bf16). A masked half word of up to 8 bits is
therefore its integer already, but for a power of two.

The levels of nf4 are no integers: they are looked up, by a shuffle among the lanes of a warp, each
of which holds one, or two at a time, by the byte of a pair, in shared memory (level_table).

A prompt multiplies each weight so often that unpacking it costs next to nothing, if the matrix is
read once and written once: this kernel, then PyTorch's product.
"""

from __future__ import annotations

import torch

from inference_benchmark.kernels._registration import jit, tl
from inference_benchmark.kernels.integers import cdiv
from inference_benchmark.kernels.packed_matrix import PackedMatrix

SCALE_BLOCK = 256  # nf4: groups, in the order of memory, that share a scale of scales
_ROWS, _BLOCKS, _COLUMNS = 8, 16, 1024  # of a program that writes a matrix


@jit
def load_pairs(x_ptr, numbers, N: tl.constexpr):
    """x at two neighbouring columns, 2 numbers and 2 numbers + 1, of a row of N: fp32 each."""
    X: tl.constexpr = x_ptr.dtype.element_ty
    if X.primitive_bitwidth == 16 and N % 2 == 0:
        both_ptr = x_ptr.to(tl.pointer_type(tl.uint32), bitcast=True)
        both = tl.load(both_ptr + numbers, mask=numbers < N // 2, other=0)
        low = both.to(tl.uint16).to(X, bitcast=True).to(tl.float32)
        high = (both >> 16).to(tl.uint16).to(X, bitcast=True).to(tl.float32)
    else:
        low = tl.load(x_ptr + 2 * numbers, mask=2 * numbers < N, other=0.0).to(tl.float32)
        high = tl.load(x_ptr + 2 * numbers + 1, mask=2 * numbers + 1 < N, other=0.0)
        high = high.to(tl.float32)
    return low, high


@jit
def pairs(words, WIDE: tl.constexpr):
    """The halves of words [..., n], as bf16 or, of the same value, fp32: [..., n, 2]."""
    if WIDE:
        low = (words << 16).to(tl.float32, bitcast=True)
        high = (words & 0xFFFF0000).to(tl.float32, bitcast=True)
    else:
        low = words.to(tl.uint16).to(tl.bfloat16, bitcast=True)
        high = (words >> 16).to(tl.uint16).to(tl.bfloat16, bitcast=True)
    return tl.join(low, high)


@jit
def integer_pairs(words, PLACE: tl.constexpr, FORMAT: tl.constexpr, WIDE: tl.constexpr):
    """What stands at PLACE of the words, times 2^-133, or 2^-129 at odd places of 4 bits."""
    if FORMAT == "int8" and WIDE:
        weights = pairs((words >> (8 * PLACE)) & 0x00FF00FF, WIDE)
    elif FORMAT == "int8":
        # The same in one instruction: LLVM makes three of it.
        masked = tl.inline_asm_elementwise(
            "prmt.b32 $0, $1, 0, $2;",
            "=r,r,r",
            [words, tl.full((1, 1, 1), 0x4240 + 0x101 * PLACE, dtype=tl.uint32)],
            dtype=tl.uint32,
            is_pure=True,
            pack=1,
        )
        weights = pairs(masked, WIDE)
    else:
        masked = (words >> (8 * (PLACE // 2))) & (0x000F000F << (4 * (PLACE % 2)))
        weights = pairs(masked, WIDE)
    return weights


@jit
def level_pairs(words, table, PLACE: tl.constexpr, LOOKUP: tl.constexpr):
    """The levels of what stands at PLACE of the words, fp32; table is load_levels'."""
    low = look_up(table, words >> (8 * PLACE), LOOKUP)
    high = look_up(table, words >> (8 * PLACE + 4), LOOKUP)
    return tl.join(low.to(tl.float32, bitcast=True), high.to(tl.float32, bitcast=True))


@jit
def look_up(table, codes, LOOKUP: tl.constexpr):
    """What the table has at the last four bits of codes."""
    if LOOKUP == "shuffle":
        # Lanes l and l + 16 hold level l: a shuffle within half a warp looks at 4 bits of the index.
        bits = tl.inline_asm_elementwise(
            "shfl.sync.idx.b32 $0, $1, $2, 0x101f, 0xffffffff;",
            "=r,r,r",
            [table, codes],
            dtype=tl.uint32,
            is_pure=True,
            pack=1,
        )
    else:
        flat = tl.reshape((codes & 15).to(tl.int32, bitcast=True), (codes.numel,))
        bits = tl.reshape(tl.gather(table, flat, 0), codes.shape)
    return bits


@jit
def load_levels(levels_ptr, LOOKUP: tl.constexpr):
    """The 16 levels as bits of fp32: in each lane one, or (the interpreter knows no lanes) all of
    them in a tensor."""
    if LOOKUP == "shuffle":
        places = tl.inline_asm_elementwise(
            "{ .reg .u32 l; mov.u32 l, %laneid; and.b32 l, l, 15; add.u32 $0, l, $1; }",
            "=r,r",
            [tl.zeros((1, 1, 1), dtype=tl.uint32)],
            dtype=tl.uint32,
            is_pure=True,
            pack=1,
        )
    else:
        places = tl.arange(0, 16)
    return tl.load(levels_ptr + places).to(tl.uint32, bitcast=True)


@jit
def group_scales(
    scales_ptr, scale_scales_ptr, mean, groups, inside, SCALE_BLOCK: tl.constexpr
):  # of nf4
    of_block = tl.load(scale_scales_ptr + groups // SCALE_BLOCK, mask=inside, other=0.0)
    return tl.load(scales_ptr + groups, mask=inside, other=0.0).to(tl.float32) * of_block + mean


@jit
def _unpack_kernel(
    words_ptr,  # [out_features, ROW_BLOCKS * 16]
    scales_ptr,
    zeros_ptr,
    scale_scales_ptr,
    scale_mean_ptr,
    levels_ptr,
    out_ptr,  # [end_row - first_row, IN_FEATURES]
    first_row,
    end_row,
    IN_FEATURES: tl.constexpr,
    ROW_BLOCKS: tl.constexpr,
    FORMAT: tl.constexpr,
    PLACES: tl.constexpr,
    SCALE_BLOCK: tl.constexpr,
    LOOKUP: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    rows = first_row + tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside_rows = rows < end_row
    blocks = tl.program_id(1) * BLOCKS + tl.arange(0, BLOCKS)
    inside = inside_rows[:, None] & (blocks < ROW_BLOCKS)[None, :]
    numbers = rows.to(tl.int64)[:, None] * ROW_BLOCKS + blocks[None, :]
    words_at = words_ptr + numbers[:, :, None] * 16 + tl.arange(0, 16)[None, None, :]
    words = tl.load(words_at, mask=inside[:, :, None], other=0).to(tl.uint32, bitcast=True)
    if FORMAT == "nf4":
        mean = tl.load(scale_mean_ptr)
        table = load_levels(levels_ptr, LOOKUP)
    elif FORMAT == "int8":
        scales = tl.load(scales_ptr + rows, mask=inside_rows, other=0.0)[:, None, None]
        zero = 128.0
    else:
        scales = tl.load(scales_ptr + numbers, mask=inside, other=0.0).to(tl.float32)[:, :, None]
        zero = 8.0
        if FORMAT == "int4_zeros":
            zeros = tl.load(zeros_ptr + numbers, mask=inside, other=0).to(tl.float32)
            zero = zeros[:, :, None, None]
    for place in tl.static_range(PLACES):
        if FORMAT == "nf4":
            weights = level_pairs(words, table, place, LOOKUP)
            groups = 2 * numbers + place // 2
            scales = group_scales(scales_ptr, scale_scales_ptr, mean, groups, inside, SCALE_BLOCK)[
                :, :, None
            ]
        else:
            weights = integer_pairs(words, place, FORMAT, True)
            weights *= 2.0 ** (100 if FORMAT == "int8" else 100 - 4 * (place % 2))
            weights = weights * 2.0**33 - zero
        weights = tl.reshape(weights, (ROWS, BLOCKS, 32)) * scales
        columns = (blocks[:, None] * PLACES + place) * 32 + tl.arange(0, 32)[None, :]
        out_rows = (rows - first_row).to(tl.int64)[:, None, None]
        out = out_ptr + out_rows * IN_FEATURES + columns[None, :, :]
        mask = inside_rows[:, None, None] & (columns < IN_FEATURES)[None, :, :]
        tl.store(out, weights.to(out_ptr.dtype.element_ty), mask=mask)


def launch_unpack(
    packed: PackedMatrix,
    in_features: int,
    dtype: torch.dtype,
    lookup: str = "shuffle",
    rows: range | None = None,
) -> torch.Tensor:
    """The matrix [out_features, in_features] that packed words stand for, or these rows of it."""
    first_row, end_row = (0, packed.out_features) if rows is None else (rows.start, rows.stop)
    num_rows = end_row - first_row
    out = torch.empty((num_rows, in_features), dtype=dtype, device=packed.words.device)
    _unpack_kernel[(cdiv(num_rows, _ROWS), cdiv(packed.row_blocks, _BLOCKS))](
        *packed.pointers,
        out,
        first_row,
        end_row,
        IN_FEATURES=in_features,
        ROW_BLOCKS=packed.row_blocks,
        FORMAT=packed.weight_format,
        PLACES=packed.places,
        SCALE_BLOCK=SCALE_BLOCK,
        LOOKUP=lookup,
        ROWS=_ROWS,
        BLOCKS=_BLOCKS,
        num_warps=4,
        enable_fp_fusion=False,  # a scale of nf4 is rounded twice, as PyTorch does it
    )
    return out
