"""Which experts a token goes to, by DeepSeek V3's rule, as one kernel.

Sigmoid scores and a bias rank the experts, the groups with the largest sum of their two best are
kept, the best experts of these are chosen, and their scores without the bias, normalised, are their
shares. That is a dozen operations on a few hundred numbers per token: launches, nothing else. Here
a warp per token holds all numbers in registers and takes the best, again and again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from inference_benchmark.kernels._registration import (
    jit,
    programmatic_launch,
    register_operator,
    tl,
    triton,
)

# Of one warp alone nothing has to wait at a barrier.
NUM_WARPS = 1
# Added to the sum of scores that divides them; as published.
_MIN_SUM = 1e-20


def group_limited_route(
    logits: Tensor,
    bias: Tensor,
    num_groups: int,
    groups_per_token: int,
    experts_per_token: int,
    normalizes: bool,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Each token's experts, int64, and their shares, both [tokens, experts_per_token], best first.

    logits [tokens, num_experts] and bias [num_experts], fp32, which joins the scores for choosing
    only. The experts lie in num_groups groups of at least 2, of which groups_per_token are kept.
    normalizes: shares are divided by their sum; they are multiplied by scale in any case. Of equal
    experts the kernel chooses the first, PyTorch any.
    """
    return _operator(
        logits, bias, num_groups, groups_per_token, experts_per_token, normalizes, scale
    )


def group_limited_route_reference(
    logits: torch.Tensor,
    bias: torch.Tensor,
    num_groups: int,
    groups_per_token: int,
    experts_per_token: int,
    normalizes: bool,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same in plain PyTorch; float64 inputs are computed in float64."""
    ranking = _keep_best_groups(torch.sigmoid(logits) + bias, num_groups, groups_per_token)
    chosen = torch.topk(ranking, experts_per_token, dim=-1)[1]
    return chosen, expert_shares(logits, chosen, normalizes, scale)


def expert_shares(logits: Tensor, chosen: Tensor, normalizes: bool, scale: float) -> Tensor:
    """Shares of the chosen experts [tokens, k], whoever chose them."""
    shares = torch.gather(torch.sigmoid(logits), 1, chosen)
    if normalizes:
        shares = shares / (shares.sum(dim=-1, keepdim=True) + _MIN_SUM)
    return shares * scale


def _keep_best_groups(ranking: Tensor, num_groups: int, kept: int) -> Tensor:
    """Minus infinity for all experts outside the kept groups; ranking [tokens, num_experts]."""
    if kept == num_groups:
        return ranking
    num_experts = ranking.shape[-1]
    grouped = ranking.view(-1, num_groups, num_experts // num_groups)
    group_scores = torch.topk(grouped, 2, dim=-1)[0].sum(dim=-1)
    best = torch.topk(group_scores, kept, dim=-1)[1]  # [tokens, kept]
    every = torch.arange(num_groups, device=ranking.device)
    is_kept = (best[:, :, None] == every[None, None, :]).any(dim=1)  # [tokens, num_groups]
    masked = grouped.masked_fill(torch.logical_not(is_kept)[:, :, None], float("-inf"))
    return masked.reshape(-1, num_experts)


@jit
def _group_limited_route_kernel(
    logits_ptr,  # [tokens, GROUPS * GROUP_SIZE]
    bias_ptr,  # [GROUPS * GROUP_SIZE]
    chosen_ptr,  # [tokens, CHOSEN]
    shares_ptr,  # [tokens, CHOSEN]
    scale,
    min_sum,
    GROUPS: tl.constexpr,
    GROUP_SIZE: tl.constexpr,
    KEPT_GROUPS: tl.constexpr,
    CHOSEN: tl.constexpr,
    NORMALIZES: tl.constexpr,
    GROUPS_PADDED: tl.constexpr,
    SIZE_PADDED: tl.constexpr,
    CHOSEN_PADDED: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    groups = tl.arange(0, GROUPS_PADDED)
    members = tl.arange(0, SIZE_PADDED)
    experts = groups[:, None] * GROUP_SIZE + members[None, :]
    exists = (groups < GROUPS)[:, None] & (members < GROUP_SIZE)[None, :]
    bias = tl.load(bias_ptr + experts, mask=exists, other=0.0)
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    logits = tl.load(
        logits_ptr + token * (GROUPS * GROUP_SIZE) + experts, mask=exists, other=float("-inf")
    )
    scores = tl.sigmoid(logits)
    ranking = tl.where(exists, scores + bias, float("-inf"))
    if KEPT_GROUPS < GROUPS:
        best = tl.max(ranking, axis=1)
        is_best = members[None, :] == tl.argmax(ranking, axis=1)[:, None]
        second = tl.max(tl.where(is_best, float("-inf"), ranking), axis=1)
        group_scores = best + second
        is_kept = groups < 0
        for _ in tl.static_range(KEPT_GROUPS):
            is_taken = groups == tl.argmax(group_scores, axis=0)
            is_kept = is_kept | is_taken
            group_scores = tl.where(is_taken, float("-inf"), group_scores)
        ranking = tl.where(is_kept[:, None], ranking, float("-inf"))

    places = tl.arange(0, GROUPS_PADDED * SIZE_PADDED)
    ranking = tl.reshape(ranking, (GROUPS_PADDED * SIZE_PADDED,))
    scores = tl.reshape(scores, (GROUPS_PADDED * SIZE_PADDED,))
    ranks = tl.arange(0, CHOSEN_PADDED)
    chosen = tl.zeros((CHOSEN_PADDED,), tl.int64)
    shares = tl.zeros((CHOSEN_PADDED,), tl.float32)
    for rank in tl.static_range(CHOSEN):
        place = tl.argmax(ranking, axis=0)
        is_taken = places == place
        share = tl.sum(tl.where(is_taken, scores, 0.0), axis=0)
        expert = place // SIZE_PADDED * GROUP_SIZE + place % SIZE_PADDED
        chosen = tl.where(ranks == rank, expert, chosen)
        shares = tl.where(ranks == rank, share, shares)
        ranking = tl.where(is_taken, float("-inf"), ranking)
    if NORMALIZES:
        shares = shares / (tl.sum(shares, axis=0) + min_sum)
    out = token * CHOSEN + ranks
    tl.store(chosen_ptr + out, chosen, mask=ranks < CHOSEN)
    tl.store(shares_ptr + out, shares * scale, mask=ranks < CHOSEN)


def launch_group_limited_route(
    logits: torch.Tensor,
    bias: torch.Tensor,
    num_groups: int,
    groups_per_token: int,
    experts_per_token: int,
    normalizes: bool,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The Triton kernel, on the current device and stream."""
    tokens, num_experts = logits.shape
    group_size, rest = divmod(num_experts, num_groups)
    if rest or bias.shape != (num_experts,):
        raise ValueError(
            f"group_limited_route: {num_experts} experts, a bias {tuple(bias.shape)} and "
            f"{num_groups} groups do not fit"
        )
    if not (logits.dtype == bias.dtype == torch.float32):
        raise ValueError("group_limited_route: logits and bias must be fp32")
    chosen, shares = _empty_outputs(logits, experts_per_token)
    programmatic = programmatic_launch(logits.device)
    _group_limited_route_kernel[(tokens,)](
        logits.contiguous(),
        bias.contiguous(),
        chosen,
        shares,
        scale,
        _MIN_SUM,
        GROUPS=num_groups,
        GROUP_SIZE=group_size,
        KEPT_GROUPS=groups_per_token,
        CHOSEN=experts_per_token,
        NORMALIZES=normalizes,
        GROUPS_PADDED=triton.next_power_of_2(num_groups),
        SIZE_PADDED=triton.next_power_of_2(group_size),
        CHOSEN_PADDED=triton.next_power_of_2(experts_per_token),
        PROGRAMMATIC=programmatic,
        num_warps=NUM_WARPS,
        launch_pdl=programmatic,
    )
    return chosen, shares


def _empty_outputs(logits: torch.Tensor, per_token: int) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (logits.shape[0], per_token)
    chosen = torch.empty(shape, dtype=torch.int64, device=logits.device)
    return chosen, torch.empty(shape, dtype=logits.dtype, device=logits.device)


def _fake(
    logits: torch.Tensor,
    bias: torch.Tensor,
    num_groups: int,
    groups_per_token: int,
    experts_per_token: int,
    normalizes: bool,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    return _empty_outputs(logits, experts_per_token)


_operator = register_operator(
    "group_limited_route", group_limited_route_reference, launch_group_limited_route, _fake
)
