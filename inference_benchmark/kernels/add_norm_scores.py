"""The update of a residual stream, the RMS norm behind it, and the scores of a router, of one row.

A router is a matrix of as many rows as there are experts: 160 KB for Llama 4 Scout, of which a kernel
of its own would read and multiply for a microsecond and be waited for longer. Here a program per
expert adds and normalises, as add_norm's one program does, and goes on with the expert's row, which
it has read before the kernel's predecessor was done. The first one leaves the sum and the norm.
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
from inference_benchmark.kernels.add_norm import (
    NUM_WARPS,
    add_norm_reference,
    added_and_normalised,
)
from inference_benchmark.kernels.integers import next_power_of_2

Tensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def add_norm_scores(
    update: torch.Tensor,
    residual: torch.Tensor,
    norm_weight: torch.Tensor,
    router: torch.Tensor,
    eps: float,
) -> Tensors:
    """rms_norm(residual + update), the sum residual + update, and that norm @ router.T.

    router [num_experts, features] and the row's tensors are of one dtype; update and residual
    [..., features] have one row in all and up to add_norm.MAX_FEATURES values. The rest is as for
    add_norm; the scores [..., num_experts] are those of the rounded norm, summed in fp32.
    """
    return _operator(update, residual, norm_weight, router, eps)


def add_norm_scores_reference(
    update: torch.Tensor,
    residual: torch.Tensor,
    norm_weight: torch.Tensor,
    router: torch.Tensor,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same in plain PyTorch."""
    out, total = add_norm_reference(update, residual, norm_weight, eps)
    return out, total, F.linear(out, router)


@jit
def _add_norm_scores_kernel(
    update_ptr,  # [FEATURES]
    residual_ptr,  # [FEATURES]
    norm_weight_ptr,  # [FEATURES]
    router_ptr,  # [experts, FEATURES]
    out_ptr,  # [FEATURES]
    sum_ptr,  # [FEATURES]
    scores_ptr,  # [experts]
    eps,
    FEATURES: tl.constexpr,
    BLOCK: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
):
    expert = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    inside = columns < FEATURES
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_launch_dependents()
    scale = tl.load(norm_weight_ptr + columns, mask=inside, other=0.0)
    weights = tl.load(router_ptr + expert * FEATURES + columns, mask=inside, other=0.0)
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()
    total, out = added_and_normalised(
        update_ptr, residual_ptr, columns, inside, scale, eps, FEATURES, sum_ptr.dtype.element_ty
    )
    is_left = inside & (expert == 0)
    tl.store(sum_ptr + columns, total, mask=is_left)
    tl.store(out_ptr + columns, out, mask=is_left)
    score = tl.sum(out.to(tl.float32) * weights.to(tl.float32), axis=0)
    tl.store(scores_ptr + expert, score.to(scores_ptr.dtype.element_ty))


def launch_add_norm_scores(
    update: torch.Tensor,
    residual: torch.Tensor,
    norm_weight: torch.Tensor,
    router: torch.Tensor,
    eps: float,
) -> Tensors:
    """The Triton kernel, on the current device and stream."""
    num_experts, features = router.shape
    row = update.contiguous(), residual.contiguous()
    weights = norm_weight.contiguous(), router.contiguous()
    sizes = update.numel(), residual.numel(), residual.shape[-1], norm_weight.numel()
    if any(size != features for size in sizes):
        raise ValueError(f"add_norm_scores: {sizes} are not one row of {features} values")
    if any(tensor.dtype != update.dtype for tensor in (*row, *weights)):
        raise ValueError("add_norm_scores: all tensors must be of one dtype")
    out, total, scores = _fake(*row, *weights, eps)
    programmatic = programmatic_launch(update.device)
    _add_norm_scores_kernel[(num_experts,)](
        *row,
        *weights,
        out,
        total,
        scores,
        eps,
        FEATURES=features,
        BLOCK=next_power_of_2(features),
        PROGRAMMATIC=programmatic,
        num_warps=NUM_WARPS,
        launch_pdl=programmatic,
    )
    return out, total, scores


def _fake(
    update: torch.Tensor,
    residual: torch.Tensor,
    norm_weight: torch.Tensor,
    router: torch.Tensor,
    eps: float,
) -> Tensors:
    scores = update.new_empty((*update.shape[:-1], router.shape[0]))
    return torch.empty_like(update), torch.empty_like(update), scores


_operator = register_operator(
    "add_norm_scores", add_norm_scores_reference, launch_add_norm_scores, _fake
)
