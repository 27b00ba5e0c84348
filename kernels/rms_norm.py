"""Residual addition and RMSNorm, which stand between all matmuls of a decoder, as one kernel.

At one token per sequence the data is a few KiB, so the time is latency: a launch, one trip to
memory, one reduction across the row. Separate kernels pay that four times (add, square-mean,
scale, cast). One program per row, wide enough that each thread loads 16 bytes of each input once,
keeps the row in registers from the addition to the normalised result.
"""

from __future__ import annotations

import torch

from kernels._registration import jit, programmatic_launch, register_operator, tl, triton

MAX_HIDDEN = 16384
# 16 bytes of a 2-byte dtype: the widest load a thread can make.
ELEMENTS_PER_THREAD = 8
# Above this the barrier of the reduction costs more than the shorter rows per thread save.
MAX_WARPS = 16
THREADS_PER_WARP = 32


def add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(normed, new_residual) of x, residual [rows, hidden] and weight [hidden].

    new_residual = x + residual, rounded to the dtype of x; normed = new_residual / rms * weight
    with rms = sqrt(mean(new_residual^2) + eps), computed in fp32 and rounded once. Rows may be
    strided, their elements not. On a GPU hidden is at most 16384 (ValueError).
    """
    return _operator(x, residual, weight, eps)


def add_rms_norm_reference(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same in plain PyTorch; float64 inputs are computed in float64."""
    new_residual = x + residual
    wide = new_residual.to(torch.promote_types(x.dtype, torch.float32))
    inverse_rms = torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + eps)
    return (wide * inverse_rms * weight).to(x.dtype), new_residual


@jit
def _add_rms_norm_kernel(
    x_ptr,
    residual_ptr,
    weight_ptr,
    normed_ptr,
    new_residual_ptr,
    x_stride,
    residual_stride,
    eps,
    HIDDEN: tl.constexpr,
    BLOCK: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < HIDDEN
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    x = tl.load(x_ptr + row * x_stride + columns, mask=inside, other=0.0)
    residual = tl.load(residual_ptr + row * residual_stride + columns, mask=inside, other=0.0)
    # Loaded here, not where it is used: one latency, not two.
    weight = tl.load(weight_ptr + columns, mask=inside, other=0.0).to(tl.float32)
    rounded = (x.to(tl.float32) + residual.to(tl.float32)).to(new_residual_ptr.dtype.element_ty)
    tl.store(new_residual_ptr + row * HIDDEN + columns, rounded, mask=inside)
    wide = rounded.to(tl.float32)
    inverse_rms = 1.0 / tl.sqrt(tl.sum(wide * wide, axis=0) / HIDDEN + eps)
    normed = (wide * inverse_rms * weight).to(normed_ptr.dtype.element_ty)
    tl.store(normed_ptr + row * HIDDEN + columns, normed, mask=inside)


def launch_add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The Triton kernel, on the current device and stream."""
    rows, hidden = x.shape
    _check(x, residual, weight)
    normed, new_residual = _empty_outputs(x)
    block = triton.next_power_of_2(hidden)
    programmatic = programmatic_launch(x.device)
    _add_rms_norm_kernel[(rows,)](
        x,
        residual,
        weight,
        normed,
        new_residual,
        x.stride(0),
        residual.stride(0),
        eps,
        HIDDEN=hidden,
        BLOCK=block,
        PROGRAMMATIC=programmatic,
        num_warps=_choose_num_warps(block),
        launch_pdl=programmatic,
    )
    return normed, new_residual


def _choose_num_warps(block: int) -> int:
    warps = block // (ELEMENTS_PER_THREAD * THREADS_PER_WARP)
    return max(1, min(warps, MAX_WARPS))


def _check(x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor) -> None:
    if residual.shape != x.shape or weight.shape != x.shape[-1:]:
        raise ValueError(
            f"add_rms_norm: x {tuple(x.shape)}, residual {tuple(residual.shape)} and weight "
            f"{tuple(weight.shape)} do not fit; expected [rows, hidden] twice and [hidden]"
        )
    if x.shape[-1] > MAX_HIDDEN:
        raise ValueError(f"add_rms_norm: hidden {x.shape[-1]} is more than {MAX_HIDDEN}")
    if x.stride(-1) != 1 or residual.stride(-1) != 1 or weight.stride(-1) != 1:
        raise ValueError("add_rms_norm: the elements of a row must be contiguous")


def _empty_outputs(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return (
        torch.empty(x.shape, dtype=x.dtype, device=x.device),
        torch.empty(x.shape, dtype=x.dtype, device=x.device),
    )


def _fake(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    return _empty_outputs(x)


_operator = register_operator("add_rms_norm", add_rms_norm_reference, launch_add_rms_norm, _fake)
