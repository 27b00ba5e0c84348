"""One row times weights of 4 bits, read once.

Weights of 4 bits leave a multiprocessor about four instructions each, of which its integer unit takes
one and a half: shifting, masking and converting every weight would take longer than reading it. So
integers are not converted at all. The bits of fp32 below 2^24, read as a number, are that integer
times 2^-149 (a subnormal number below 2^23; the first binade of normal ones continues the line). A
masked word is therefore a weight times a power of two, without a shift and without an offset, for
six of the eight weights of a word; one shift brings the others into place. What
the power of two and the stored zero point add is taken from x, once for all rows: x times
2^(100 - bit) gives every product the factor 2^-49, and the sum starts at the zero point times the
sum of x.

The levels of nf4 are no integers: they are looked up, by a shuffle among the lanes of a warp, each
of which holds one. That is one instruction per weight too, but half as many a clock.

A program keeps its part of x in registers and goes from rows to rows; the next ones are requested
before the present ones are multiplied.

A word holds weights 16 columns apart, so that threads which load neighbouring words need
neighbouring values of x.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from inference_benchmark.kernels._registration import jit, programmatic_launch, tl
from inference_benchmark.kernels.flash_decode import cdiv
from inference_benchmark.kernels.packed_words import SCALE_BLOCK, WORDS

_BLOCK = 128  # columns: 16 words of 32 bits
_X_PER_THREAD = 32  # registers of a thread that hold x, for 4 words of each row
_MOST_WARPS = 16


@dataclass(frozen=True)
class Plan:
    """How one matrix [out_features, in_features] is cut."""

    rows: int  # of the matrix, at a time
    tiles: int  # of so many rows, per program
    num_warps: int
    lookup: str = "shuffle"  # of nf4's levels; "gather" is for the interpreter


def choose_plan(weight_format: str, out_features: int, in_features: int) -> Plan:
    """Chosen on an H200 among rows 2 to 8, tiles 1 to 12 and two numbers of warps, on the matrices
    of Llama 3.1 8B."""
    warps = 1 << (cdiv(in_features, 32 * _X_PER_THREAD) - 1).bit_length()
    if warps > _MOST_WARPS:  # more of x per thread, so fewer rows
        return Plan(rows=2, tiles=8, num_warps=_MOST_WARPS)
    if weight_format == "nf4":
        return Plan(rows=4, tiles=2 if out_features <= 8192 and warps < 16 else 4, num_warps=warps)
    if warps == _MOST_WARPS:
        return Plan(rows=4, tiles=8, num_warps=warps)
    return Plan(rows=8, tiles=2, num_warps=warps)


@jit
def _x_plane(x_ptr, blocks, lanes, PLANE: tl.constexpr, N: tl.constexpr):
    """x of the columns at PLANE of the words, [blocks, 16], fp32."""
    columns = blocks[:, None] * 128 + PLANE * 16 + lanes[None, :]
    # Four at a time, as the words come: what a thread loads is then what it multiplies.
    columns = tl.max_contiguous(columns, (1, 4))
    return tl.load(x_ptr + columns, mask=columns < N, other=0.0).to(tl.float32)


@jit
def _masked(words, x, BIT: tl.constexpr):
    """Stored integers at BIT of the words, as subnormal numbers, times x."""
    mask: tl.constexpr = 15 << BIT
    return (words & mask).to(tl.float32, bitcast=True) * x[:, None, :]


@jit
def _power(BIT: tl.constexpr):
    return 2.0 ** (100 - BIT)


@jit
def _level(words, table, SHIFT: tl.constexpr, LOOKUP: tl.constexpr):
    codes = words >> SHIFT
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
        levels = bits.to(tl.float32, bitcast=True)
    else:
        flat = tl.reshape((codes & 15).to(tl.int32, bitcast=True), (codes.numel,))
        levels = tl.reshape(tl.gather(table, flat, 0), codes.shape)
    return levels


@jit
def _levels_of_lanes(levels_ptr, LOOKUP: tl.constexpr):
    """What _level looks at: in each lane one level, or all of them in a tensor."""
    if LOOKUP == "shuffle":
        lane = tl.inline_asm_elementwise(
            "{ .reg .u32 l; mov.u32 l, %laneid; and.b32 l, l, 15; add.u32 $0, l, $1; }",
            "=r,r",
            [tl.zeros((1, 1, 1), dtype=tl.uint32)],
            dtype=tl.uint32,
            is_pure=True,
            pack=1,
        )
        table = tl.load(levels_ptr + lane).to(tl.uint32, bitcast=True)
    else:
        table = tl.load(levels_ptr + tl.arange(0, 16))
    return table


@jit
def _packed_gemv_kernel(
    x_ptr,  # [IN_FEATURES]
    words_ptr,  # [out_features, ROW_BLOCKS * 16]
    scales_ptr,
    zeros_ptr,
    scale_scales_ptr,
    scale_mean_ptr,
    levels_ptr,
    out_ptr,  # [out_features]
    out_features,
    IN_FEATURES: tl.constexpr,
    ROW_BLOCKS: tl.constexpr,
    FORMAT: tl.constexpr,
    SCALE_BLOCK: tl.constexpr,
    BLOCKS: tl.constexpr,  # a power of two that covers ROW_BLOCKS
    ROWS: tl.constexpr,
    TILES: tl.constexpr,
    LOOKUP: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
):
    blocks = tl.arange(0, BLOCKS)
    lanes = tl.arange(0, 16)
    inside_blocks = (blocks < ROW_BLOCKS)[:, None]
    first_row = tl.program_id(0) * (ROWS * TILES)
    row_numbers = tl.arange(0, ROWS)
    # [blocks, rows, 16]: Triton then gives neighbouring threads neighbouring words of a row.
    rows = first_row + row_numbers
    numbers = rows.to(tl.int64)[None, :] * ROW_BLOCKS + blocks[:, None]
    words_at = words_ptr + numbers[:, :, None] * 16 + lanes[None, None, :]
    inside = (rows < out_features)[None, :] & inside_blocks
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_launch_dependents()
    tile = tl.load(words_at, mask=inside[:, :, None], other=0, eviction_policy="evict_first")
    scales = _load_scales(
        scales_ptr, zeros_ptr, scale_scales_ptr, numbers, inside, FORMAT, SCALE_BLOCK
    )
    mean = 0.0
    table = 0
    if FORMAT == "nf4":
        mean = tl.load(scale_mean_ptr)
        table = _levels_of_lanes(levels_ptr, LOOKUP)
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()
    x0 = _x_plane(x_ptr, blocks, lanes, 0, IN_FEATURES)
    x1 = _x_plane(x_ptr, blocks, lanes, 1, IN_FEATURES)
    x2 = _x_plane(x_ptr, blocks, lanes, 2, IN_FEATURES)
    x3 = _x_plane(x_ptr, blocks, lanes, 3, IN_FEATURES)
    x4 = _x_plane(x_ptr, blocks, lanes, 4, IN_FEATURES)
    x5 = _x_plane(x_ptr, blocks, lanes, 5, IN_FEATURES)
    x6 = _x_plane(x_ptr, blocks, lanes, 6, IN_FEATURES)
    x7 = _x_plane(x_ptr, blocks, lanes, 7, IN_FEATURES)
    if FORMAT != "nf4":
        x_sum = (x0 + x1 + x2 + x3 + x4 + x5 + x6 + x7) * 2.0**-49
        x0, x1, x2, x3 = x0 * _power(0), x1 * _power(4), x2 * _power(8), x3 * _power(12)
        x4, x5, x6, x7 = x4 * _power(16), x5 * _power(20), x6 * _power(16), x7 * _power(20)
    for number in tl.range(0, TILES):
        words = tile.to(tl.uint32, bitcast=True)
        now = scales
        rows = first_row + number * ROWS + row_numbers
        following = rows + ROWS
        inside = (following < out_features)[None, :] & inside_blocks & (number + 1 < TILES)
        numbers = following.to(tl.int64)[None, :] * ROW_BLOCKS + blocks[:, None]
        words_at = words_ptr + numbers[:, :, None] * 16 + lanes[None, None, :]
        tile = tl.load(words_at, mask=inside[:, :, None], other=0, eviction_policy="evict_first")
        scales = _load_scales(
            scales_ptr, zeros_ptr, scale_scales_ptr, numbers, inside, FORMAT, SCALE_BLOCK
        )
        if FORMAT == "nf4":
            low = _level(words, table, 0, LOOKUP) * x0[:, None, :]
            low += _level(words, table, 4, LOOKUP) * x1[:, None, :]
            low += _level(words, table, 8, LOOKUP) * x2[:, None, :]
            low += _level(words, table, 12, LOOKUP) * x3[:, None, :]
            high = _level(words, table, 16, LOOKUP) * x4[:, None, :]
            high += _level(words, table, 20, LOOKUP) * x5[:, None, :]
            high += _level(words, table, 24, LOOKUP) * x6[:, None, :]
            high += _level(words, table, 28, LOOKUP) * x7[:, None, :]
            first = (now[0].to(tl.float32) * now[2] + mean)[:, :, None]
            second = (now[1].to(tl.float32) * now[2] + mean)[:, :, None]
            result = tl.sum(tl.sum(low * first + high * second, axis=2), axis=0)
        else:
            if FORMAT == "int4_zeros":
                offset = now[1].to(tl.float32)[:, :, None] * x_sum[:, None, :]
            else:
                offset = (x_sum * 8.0)[:, None, :]
            part = _masked(words, x0, 0) - offset
            part += _masked(words, x1, 4)
            part += _masked(words, x2, 8)
            part += _masked(words, x3, 12)
            part += _masked(words, x4, 16)
            part += _masked(words, x5, 20)
            part += _masked(words >> 8, x6, 16)
            part += _masked(words >> 8, x7, 20)
            of_groups = tl.sum(part, axis=2) * now[0].to(tl.float32)
            result = tl.sum(of_groups, axis=0) * 2.0**49
        tl.store(out_ptr + rows, result.to(out_ptr.dtype.element_ty), mask=rows < out_features)


@jit
def _load_scales(
    scales_ptr,
    zeros_ptr,
    scale_scales_ptr,
    numbers,
    inside,
    FORMAT: tl.constexpr,
    SCALE_BLOCK: tl.constexpr,
):
    """What belongs to a tile beside its words: three tensors, which every format fills otherwise."""
    if FORMAT == "nf4":
        first = tl.load(scales_ptr + 2 * numbers, mask=inside, other=0.0)
        second = tl.load(scales_ptr + 2 * numbers + 1, mask=inside, other=0.0)
        third = tl.load(scale_scales_ptr + 2 * numbers // SCALE_BLOCK, mask=inside, other=0.0)
    elif FORMAT == "int4_zeros":
        first = tl.load(scales_ptr + numbers, mask=inside, other=0.0)
        second = tl.load(zeros_ptr + numbers, mask=inside, other=0)
        third = first
    else:
        first = tl.load(scales_ptr + numbers, mask=inside, other=0.0)
        second, third = first, first
    return first, second, third


def launch_packed_gemv(
    weight_format: str,
    x: torch.Tensor,
    words: torch.Tensor,
    scales: torch.Tensor,
    zeros: torch.Tensor | None = None,
    nf4: tuple[torch.Tensor, ...] = (),
    plan: Plan | None = None,
) -> torch.Tensor:
    """x [..., in_features] of one row times packed words, as int4_linear and nf4_linear describe
    them, on the current device and stream; nf4: scale_scales, scale_mean, levels.

    Products and sums are in fp32, rounded once.
    """
    in_features, out_features = x.shape[-1], words.shape[0]
    row_blocks = words.shape[1] // WORDS
    if x.numel() != in_features or cdiv(in_features, _BLOCK) != row_blocks:
        raise ValueError(
            f"{weight_format} gemv: x {tuple(x.shape)} is not one row for {row_blocks} blocks of "
            f"{_BLOCK} columns"
        )
    plan = plan or choose_plan(weight_format, out_features, in_features)
    if zeros is not None:
        weight_format = f"{weight_format}_zeros"
    scale_scales, scale_mean, levels = nf4 or (scales, scales, scales)
    out = torch.empty((*x.shape[:-1], out_features), dtype=x.dtype, device=x.device)
    programmatic = programmatic_launch(x.device)
    _packed_gemv_kernel[(cdiv(out_features, plan.rows * plan.tiles),)](
        x,
        words,
        scales,
        scales if zeros is None else zeros,
        scale_scales,
        scale_mean,
        levels,
        out,
        out_features,
        IN_FEATURES=in_features,
        ROW_BLOCKS=row_blocks,
        FORMAT=weight_format,
        SCALE_BLOCK=SCALE_BLOCK,
        BLOCKS=max(1 << (row_blocks - 1).bit_length(), 2),
        ROWS=plan.rows,
        TILES=plan.tiles,
        LOOKUP=plan.lookup,
        PROGRAMMATIC=programmatic,
        num_warps=plan.num_warps,
        launch_pdl=programmatic,
    )
    return out
