"""One row times 8-bit integers with one scale per row of the matrix, read once.

The conversion of integers to floats is done by a unit of a multiprocessor that takes 16 of them per
clock: as fast as memory delivers 8-bit weights, so that the two would have to overlap without a gap.
As in packed_gemv nothing is converted: masked words are subnormal numbers, and what the stored
integers are above the true ones, 128, is subtracted once, times the sum of x. Twice the bytes of 4
bits leave time to load x anew for every few rows, so that programs are short and many.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from inference_benchmark.kernels._registration import jit, programmatic_launch, tl
from inference_benchmark.kernels.flash_decode import cdiv
from inference_benchmark.kernels.packed_words import WORDS

BLOCK = 64  # columns: 16 words of 32 bits


@dataclass(frozen=True)
class Plan:
    """How one matrix [out_features, in_features] is cut."""

    rows: int  # of the matrix, per program
    blocks: int  # of columns, per load; a power of two that need not divide the row's
    num_warps: int


def choose_plan(out_features: int, in_features: int) -> Plan:
    """Chosen on an H200 among rows 4 and 8, blocks 8 to 32 and 1 to 4 warps, on the matrices of
    Llama 3.1 8B."""
    if 4096 < out_features <= 8192:
        return Plan(rows=4, blocks=32, num_warps=4)
    return Plan(rows=4, blocks=16, num_warps=2)


@jit
def _product(words, x, BIT: tl.constexpr):
    """Stored values at BIT of words [blocks, rows, 16] times x [blocks, 16] times 2^-49."""
    mask: tl.constexpr = 255 << BIT
    factor: tl.constexpr = 2.0 ** (100 - BIT)
    return (words & mask).to(tl.float32, bitcast=True) * (x * factor)[:, None, :]


@jit
def _int8_gemv_kernel(
    x_ptr,
    words_ptr,
    scales_ptr,
    out_ptr,
    out_features,
    IN_FEATURES: tl.constexpr,
    ROW_BLOCKS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCKS: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
):
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside_rows = rows < out_features
    blocks = tl.arange(0, BLOCKS)
    lanes = tl.arange(0, 16)
    row_starts = rows.to(tl.int64)[None, :] * ROW_BLOCKS
    # [blocks, rows, 16]: Triton then gives neighbouring threads neighbouring words of a row.
    words_at = words_ptr + (row_starts + blocks[:, None])[:, :, None] * 16 + lanes[None, None, :]
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_launch_dependents()
    inside = inside_rows[None, :] & (blocks < ROW_BLOCKS)[:, None]
    tile = tl.load(words_at, mask=inside[:, :, None], other=0, eviction_policy="evict_first")
    scales = tl.load(scales_ptr + rows, mask=inside_rows, other=0.0)
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()
    total = tl.zeros((BLOCKS, ROWS, 16), dtype=tl.float32)
    x_sum = tl.zeros((BLOCKS, 16), dtype=tl.float32)
    for start in tl.static_range(0, ROW_BLOCKS, BLOCKS):
        words = tile.to(tl.uint32, bitcast=True)
        if start + BLOCKS < ROW_BLOCKS:
            inside = inside_rows[None, :] & (start + BLOCKS + blocks < ROW_BLOCKS)[:, None]
            tile = tl.load(
                words_at + (start + BLOCKS) * 16,
                mask=inside[:, :, None],
                other=0,
                eviction_policy="evict_first",
            )
        for plane in tl.static_range(4):
            columns = (start + blocks)[:, None] * 64 + plane * 16 + lanes[None, :]
            x = tl.load(x_ptr + columns, mask=columns < IN_FEATURES, other=0.0).to(tl.float32)
            x_sum += x
            if plane < 3:
                total += _product(words, x, 8 * plane)
            else:
                total += _product(words >> 8, x, 16)
    total -= (x_sum * 128.0 * 2.0**-49)[:, None, :]
    result = tl.sum(tl.sum(total, axis=2), axis=0) * 2.0**49 * scales
    tl.store(out_ptr + rows, result.to(out_ptr.dtype.element_ty), mask=inside_rows)


def launch_int8_gemv(
    x: torch.Tensor, words: torch.Tensor, scales: torch.Tensor, plan: Plan | None = None
) -> torch.Tensor:
    """x [..., in_features] of one row times packed words, as int8_linear describes them, on the
    current device and stream. Products and sums are in fp32, rounded once."""
    out_features, in_features = words.shape[0], x.shape[-1]
    row_blocks = words.shape[1] // WORDS
    if x.numel() != in_features or cdiv(in_features, BLOCK) != row_blocks:
        raise ValueError(
            f"int8_gemv: x {tuple(x.shape)} is not one row for {row_blocks} blocks of {BLOCK}"
        )
    if not (x.is_contiguous() and words.is_contiguous() and scales.is_contiguous()):
        raise ValueError("int8_gemv: x, words and scales must be contiguous")
    plan = plan or choose_plan(out_features, in_features)
    out = torch.empty((*x.shape[:-1], out_features), dtype=x.dtype, device=x.device)
    programmatic = programmatic_launch(x.device)
    _int8_gemv_kernel[(cdiv(out_features, plan.rows),)](
        x,
        words,
        scales,
        out,
        out_features,
        IN_FEATURES=in_features,
        ROW_BLOCKS=row_blocks,
        ROWS=plan.rows,
        BLOCKS=plan.blocks,
        PROGRAMMATIC=programmatic,
        num_warps=plan.num_warps,
        launch_pdl=programmatic,
    )
    return out
