"""The update of a residual stream and the RMS norm behind it, of one row or a few.

Kilobytes, of which a program adds, squares and scales a row: what takes time is to wait for the
kernel before and to be waited for. So this one is launched while its predecessor still runs, and
lets the next one start at once, which requests its weights meanwhile.

Inside the kernel of the next product it would save a launch, but all of that kernel's programs would
add and normalise. At batch 1 a large model runs near a GPU's power limit, where instructions cost
clock: in whole decode steps of Llama 3.1 8B, for seconds on an H200, this took 3.76 ms and that 3.85,
or 4.08 when the GPU clocked down; of Llama 3.2 1B both took 0.82 ms. Bursts showed the opposite.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from inference_benchmark.kernels._registration import (
    jit,
    programmatic_launch,
    register_operator,
    tl,
)
from inference_benchmark.kernels.integers import next_power_of_2

NUM_WARPS = 16
MAX_FEATURES = 8192  # of which a thread has 16
MAX_ROWS = 32  # up to which linear layers have a kernel of ours (few_rows_linear)


def add_norm(
    update: torch.Tensor, residual: torch.Tensor, norm_weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """rms_norm(residual + update) and the sum residual + update.

    Args:
        update, residual: [..., features] with 1 to MAX_ROWS rows in all.
        norm_weight: [features]; all of one dtype.
        eps: is added to the mean of squares.

    Returns:
        Both [..., features]. The sum is rounded before it is normalised, which is done in fp32.
    """
    return _operator(update, residual, norm_weight, eps)


def add_norm_reference(
    update: torch.Tensor, residual: torch.Tensor, norm_weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same in plain PyTorch."""
    total = residual + update
    return F.rms_norm(total, total.shape[-1:], norm_weight, eps), total


@jit
def added_and_normalised(
    update_ptr, residual_ptr, places, inside, scale, eps, FEATURES: tl.constexpr, TYPE: tl.constexpr
):
    """The sum and the norm of the row of FEATURES values at `places`, both rounded to TYPE."""
    residual = tl.load(residual_ptr + places, mask=inside, other=0.0).to(tl.float32)
    update = tl.load(update_ptr + places, mask=inside, other=0.0).to(tl.float32)
    total = (residual + update).to(TYPE)
    wide = total.to(tl.float32)
    factor = tl.rsqrt(tl.sum(wide * wide, axis=0) / FEATURES + eps)
    return total, (wide * factor * scale.to(tl.float32)).to(TYPE)


@jit
def _add_norm_kernel(
    update_ptr,  # [rows, FEATURES]
    residual_ptr,  # [rows, FEATURES]
    norm_weight_ptr,  # [FEATURES]
    out_ptr,  # [rows, FEATURES]
    sum_ptr,  # [rows, FEATURES]
    eps,
    FEATURES: tl.constexpr,
    BLOCK: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
):
    columns = tl.arange(0, BLOCK)
    inside = columns < FEATURES
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_launch_dependents()
    scale = tl.load(norm_weight_ptr + columns, mask=inside, other=0.0)
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()
    places = tl.program_id(0) * FEATURES + columns
    total, out = added_and_normalised(
        update_ptr, residual_ptr, places, inside, scale, eps, FEATURES, sum_ptr.dtype.element_ty
    )
    tl.store(sum_ptr + places, total, mask=inside)
    tl.store(out_ptr + places, out, mask=inside)


def launch_add_norm(
    update: torch.Tensor, residual: torch.Tensor, norm_weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The Triton kernel, on the current device and stream."""
    features = norm_weight.numel()
    rows = residual.numel() // features
    tensors = update.contiguous(), residual.contiguous(), norm_weight.contiguous()
    if update.shape != residual.shape or residual.shape[-1] != features or rows > MAX_ROWS:
        shapes = [tuple(tensor.shape) for tensor in tensors]
        raise ValueError(f"add_norm: {shapes} are not up to {MAX_ROWS} rows of {features} values")
    if any(tensor.dtype != update.dtype for tensor in tensors):
        raise ValueError("add_norm: all tensors must be of one dtype")
    out, total = _fake(*tensors, eps)
    programmatic = programmatic_launch(update.device)
    _add_norm_kernel[(rows,)](
        *tensors,
        out,
        total,
        eps,
        FEATURES=features,
        BLOCK=next_power_of_2(features),
        PROGRAMMATIC=programmatic,
        num_warps=NUM_WARPS,
        launch_pdl=programmatic,
    )
    return out, total


def _fake(
    update: torch.Tensor, residual: torch.Tensor, norm_weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(update), torch.empty_like(update)


_operator = register_operator("add_norm", add_norm_reference, launch_add_norm, _fake)
