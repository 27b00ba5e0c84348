"""A linear layer over 4-bit integers in groups of 128 that share a scale, read once by one row.

A quarter of the bytes of bf16 leaves a multiprocessor about four instructions per weight, of which
the integer unit takes one and a half: shifting, masking and converting each weight would cost more
than reading it. So nothing is converted. The bits of fp32 below 2^24 read as a number are that
integer times 2^-149 (a subnormal number below 2^23, and the first binade of normal ones continues
the line), so a masked word is a weight times a power of two, without a shift and without an offset,
for six of the eight weights of a word; one shift brings the other two into place. The power goes
into what the weight is multiplied with: x times 2^(100 - bit) gives every product the same factor
2^-49, which the scale takes away. Sums of x times the zero point are subtracted once per group.

A word holds weights 16 columns apart, so that threads that load neighbouring words load
neighbouring values of x.
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
from inference_benchmark.kernels.few_rows import MAX_ROWS, launch_few_rows
from inference_benchmark.kernels.packed_words import WORDS, launch_unpack

GROUP = 128
PER_WORD = 8
SYMMETRIC_ZERO = 8  # what the value 0 is stored as where groups have no zero points


@dataclass(frozen=True)
class Plan:
    """How one matrix [out_features, in_features] is cut."""

    rows: int  # of the matrix, per program
    groups: int  # of columns, per load; a power of two that need not divide the row's
    num_warps: int


def choose_plan(out_features: int, in_features: int) -> Plan:
    return Plan(rows=4, groups=16, num_warps=4)


def int4_linear(
    x: torch.Tensor, words: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor | None = None
) -> torch.Tensor:
    """x @ matrix.T, matrix[r, c] = scale of its group * (stored value - zero).

    Args:
        x: [..., in_features], contiguous.
        words: [out_features, groups * 16], int32: bits 4i to 4i + 3 of word j of a group are the
            stored value of the group's column 16 i + j. Columns beyond in_features are ignored.
        scales: [out_features, groups], bf16.
        zeros: [out_features, groups], uint8; None: 8 everywhere.

    Returns:
        [..., out_features] of x's dtype. For one row products and sums are in fp32, rounded once; for
        more the weights are rounded to x's dtype first.
    """
    return _operator(x, words, scales, zeros)


def pack_int4(values: torch.Tensor) -> torch.Tensor:
    """Numbers 0 to 15 [rows, groups * 128] -> words [rows, groups * 16], int32."""
    planes = values.to(torch.int32).view(values.shape[0], -1, PER_WORD, WORDS)
    words = torch.zeros_like(planes[:, :, 0])
    for plane in range(PER_WORD):
        words |= planes[:, :, plane] << (4 * plane)
    return words.flatten(1)


def unpack_int4(words: torch.Tensor) -> torch.Tensor:
    """words [rows, groups * 16] -> stored values [rows, groups * 128], uint8."""
    shifts = torch.arange(0, 32, 4, dtype=torch.int32, device=words.device)
    grouped = words.view(words.shape[0], -1, 1, WORDS)
    values = (grouped >> shifts[:, None]) & 15
    return values.to(torch.uint8).view(words.shape[0], -1)


def dequantize_int4(
    words: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor | None = None
) -> torch.Tensor:
    """The matrix [rows, groups * 128] of the scales' dtype."""
    values = unpack_int4(words).view(*scales.shape, GROUP).to(scales.dtype)
    zero = SYMMETRIC_ZERO if zeros is None else zeros[:, :, None].to(scales.dtype)
    return ((values - zero) * scales[:, :, None]).flatten(1)


def int4_linear_reference(
    x: torch.Tensor, words: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor | None = None
) -> torch.Tensor:
    """The same in plain PyTorch."""
    matrix = dequantize_int4(words, scales.float(), zeros)
    return F.linear(x, matrix[:, : x.shape[-1]].to(x.dtype))


@jit
def _product(words, x, BIT: tl.constexpr):
    """Stored values at BIT of words [groups, rows, 16] times x [groups, 16] times 2^-49."""
    mask: tl.constexpr = 15 << BIT
    factor: tl.constexpr = 2.0 ** (100 - BIT)
    return (words & mask).to(tl.float32, bitcast=True) * (x * factor)[:, None, :]


@jit
def _int4_gemv_kernel(
    x_ptr,
    words_ptr,
    scales_ptr,
    zeros_ptr,
    out_ptr,
    out_features,
    IN_FEATURES: tl.constexpr,
    ROW_GROUPS: tl.constexpr,
    HAS_ZEROS: tl.constexpr,
    ROWS: tl.constexpr,
    GROUPS: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
):
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside_rows = rows < out_features
    groups = tl.arange(0, GROUPS)
    lanes = tl.arange(0, 16)
    row_starts = rows.to(tl.int64)[None, :] * ROW_GROUPS
    # [groups, rows, 16]: Triton then gives neighbouring threads neighbouring words of a row.
    words_at = words_ptr + (row_starts + groups[:, None])[:, :, None] * 16 + lanes[None, None, :]
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_launch_dependents()
    inside = inside_rows[None, :] & (groups < ROW_GROUPS)[:, None]
    tile = tl.load(words_at, mask=inside[:, :, None], other=0, eviction_policy="evict_first")
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()
    total = tl.zeros((GROUPS, ROWS, 16), dtype=tl.float32)
    for start in tl.static_range(0, ROW_GROUPS, GROUPS):
        words = tile.to(tl.uint32, bitcast=True)
        numbers = row_starts + (start + groups)[:, None]
        inside = inside_rows[None, :] & (start + groups < ROW_GROUPS)[:, None]
        scales = tl.load(scales_ptr + numbers, mask=inside, other=0.0).to(tl.float32)
        if HAS_ZEROS:
            zeros = tl.load(zeros_ptr + numbers, mask=inside, other=0).to(tl.float32)
        if start + GROUPS < ROW_GROUPS:
            inside = inside_rows[None, :] & (start + GROUPS + groups < ROW_GROUPS)[:, None]
            tile = tl.load(
                words_at + (start + GROUPS) * 16,
                mask=inside[:, :, None],
                other=0,
                eviction_policy="evict_first",
            )
        partial = tl.zeros((GROUPS, ROWS, 16), dtype=tl.float32)
        x_sum = tl.zeros((GROUPS, 16), dtype=tl.float32)
        for plane in tl.static_range(8):
            columns = (start + groups)[:, None] * 128 + plane * 16 + lanes[None, :]
            x = tl.load(x_ptr + columns, mask=columns < IN_FEATURES, other=0.0).to(tl.float32)
            x_sum += x
            if plane < 6:
                partial += _product(words, x, 4 * plane)
            else:
                partial += _product(words >> 8, x, 4 * plane - 8)
        x_sum *= 2.0**-49
        if HAS_ZEROS:
            partial -= zeros[:, :, None] * x_sum[:, None, :]
        else:
            partial -= (x_sum * 8.0)[:, None, :]
        total += scales[:, :, None] * partial
    result = tl.sum(tl.sum(total, axis=2), axis=0) * 2.0**49
    tl.store(out_ptr + rows, result.to(out_ptr.dtype.element_ty), mask=inside_rows)


def launch_int4_gemv(
    x: torch.Tensor,
    words: torch.Tensor,
    scales: torch.Tensor,
    zeros: torch.Tensor | None,
    plan: Plan | None = None,
) -> torch.Tensor:
    """The Triton kernel, on the current device and stream."""
    out_features, row_groups = scales.shape
    in_features = x.shape[-1]
    if x.numel() != in_features or -(-in_features // GROUP) != row_groups:
        raise ValueError(
            f"int4_gemv: x {tuple(x.shape)} is not one row for {row_groups} groups of {GROUP}"
        )
    if not (x.is_contiguous() and words.is_contiguous() and scales.is_contiguous()):
        raise ValueError("int4_gemv: x, words and scales must be contiguous")
    plan = plan or choose_plan(out_features, in_features)
    out = _fake(x, words, scales, zeros)
    programmatic = programmatic_launch(x.device)
    _int4_gemv_kernel[((out_features + plan.rows - 1) // plan.rows,)](
        x,
        words,
        scales,
        scales if zeros is None else zeros,
        out,
        out_features,
        IN_FEATURES=in_features,
        ROW_GROUPS=row_groups,
        HAS_ZEROS=zeros is not None,
        ROWS=plan.rows,
        GROUPS=plan.groups,
        PROGRAMMATIC=programmatic,
        num_warps=plan.num_warps,
        launch_pdl=programmatic,
    )
    return out


def _launch(
    x: torch.Tensor, words: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor | None = None
) -> torch.Tensor:
    x = x.contiguous()
    num_rows = x.numel() // x.shape[-1]
    if num_rows == 1:
        return launch_int4_gemv(x, words, scales, zeros)
    if num_rows <= MAX_ROWS:
        return launch_few_rows("int4", x, words, scales, zeros)
    return F.linear(x, launch_unpack("int4", words, scales, x.shape[-1], x.dtype, zeros))


def _fake(
    x: torch.Tensor, words: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor | None = None
) -> torch.Tensor:
    return torch.empty((*x.shape[:-1], words.shape[0]), dtype=x.dtype, device=x.device)


_operator = register_operator("int4_linear", int4_linear_reference, _launch, _fake)
