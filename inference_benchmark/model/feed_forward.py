"""Feed-forward parts as pure functions of tensors: dense SwiGLU, and a mixture of such experts.

A mixture scores its experts with a small matrix, the router, and sends each token through the few
best of them; one more expert serves every token. Which experts were chosen leaves the function as a
second result: whoever checks outputs needs it, because a choice between two experts of nearly equal
score may fall either way, and everything downstream then differs for a good reason. The check
therefore feeds one side's choices to the other (`chosen`).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inference_benchmark.kernels.group_limited_route import (
    expert_shares,
    group_limited_route,
    group_limited_route_reference,
)
from inference_benchmark.kernels.routed_experts import routed_experts, routed_experts_reference
from inference_benchmark.model.kernel_choice import Kernels
from inference_benchmark.model.linear import make_linear
from inference_benchmark.models import DenseFeedForward, GroupLimitedRouter, MixtureOfExperts


def _routed_experts_fused(*arguments: Tensor | bool) -> Tensor:
    return routed_experts(*arguments, fused=True)


_EXPERT_BACKENDS = {
    "grouped": routed_experts,
    "fused": _routed_experts_fused,
    "loop": routed_experts_reference,
}

# hidden, weights, chosen -> (update,) or (update, chosen experts)
FeedForwardFunction = Callable[[Tensor, tuple[Tensor, ...], Tensor | None], tuple[Tensor, ...]]


class Router(nn.Linear):
    """Scores of all experts; in fp32 where the published model has it so."""

    def __init__(self, kind: MixtureOfExperts, hidden_size: int) -> None:
        super().__init__(hidden_size, kind.num_experts, bias=False)
        self.keeps_fp32 = kind.router.in_fp32


class ExpertBias(nn.Module):
    """What is added to the scores [num_experts] for choosing only."""

    keeps_fp32 = True

    def __init__(self, num_experts: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_experts))


class Experts(nn.Module):
    """One linear layer of all experts: [num_experts, out_features, in_features]."""

    def __init__(self, num_experts: int, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.weight = nn.Parameter(torch.empty(num_experts, out_features, in_features))


def modules(kind: DenseFeedForward | MixtureOfExperts, hidden_size: int) -> dict[str, nn.Module]:
    """The weights, in the order in which the function takes them; gate and up in one matrix."""
    if isinstance(kind, DenseFeedForward):
        return _swiglu_modules(kind.intermediate_size, hidden_size)
    router: dict[str, nn.Module] = {"router": Router(kind, hidden_size)}
    if isinstance(kind.router, GroupLimitedRouter):
        router["router_bias"] = ExpertBias(kind.num_experts)
    width = kind.intermediate_size
    experts = {
        "expert_gate_up_proj": Experts(kind.num_experts, hidden_size, 2 * width),
        "expert_down_proj": Experts(kind.num_experts, width, hidden_size),
    }
    shared = _swiglu_modules(kind.shared_intermediate_size, hidden_size, "shared_")
    return router | experts | shared


def _swiglu_modules(width: int, hidden_size: int, prefix: str = "") -> dict[str, nn.Module]:
    return {
        f"{prefix}gate_up_proj": nn.Linear(hidden_size, 2 * width, bias=False),
        f"{prefix}down_proj": nn.Linear(width, hidden_size, bias=False),
    }


def make_feed_forward(
    kind: DenseFeedForward | MixtureOfExperts, kernels: Kernels
) -> FeedForwardFunction:
    linear = make_linear(kernels.linear)
    if isinstance(kind, DenseFeedForward):
        return lambda hidden, weights, chosen: (swiglu(hidden, weights, linear),)
    return _make_mixture(kind, linear, kernels.experts)


def swiglu(hidden: Tensor, weights: tuple[Tensor, Tensor], linear: Callable) -> Tensor:
    gate_up_weight, down_weight = weights
    gate, up = linear(hidden, gate_up_weight).chunk(2, dim=-1)
    return linear(F.silu(gate) * up, down_weight)


def _make_mixture(kind: MixtureOfExperts, linear: Callable, experts: str) -> FeedForwardFunction:
    run_experts = _EXPERT_BACKENDS[experts]
    route = _route_by_input
    if isinstance(kind.router, GroupLimitedRouter):
        route = _make_group_limited_route(experts)
    gates_input = kind.router.gates_input

    def mixture(hidden, weights, chosen):
        *router, gate_up, down, shared_gate_up, shared_down = weights
        batch, length, width = hidden.shape
        tokens = hidden.reshape(batch * length, width)
        own, shares = route(kind, tokens, router, chosen)
        used = own if chosen is None else chosen
        routed = run_experts(tokens, used, shares, gate_up, down, gates_input)
        update = swiglu(hidden, (shared_gate_up, shared_down), linear)
        return update + routed.view(batch, length, width), own

    return mixture


def _make_group_limited_route(experts: str) -> Callable:
    choose = group_limited_route if experts == "fused" else group_limited_route_reference

    def route(kind, tokens, router, chosen):
        """tokens [n, hidden] -> (own choice [n, k], shares [n, k] of chosen, else of the own choice)."""
        weight, bias = router
        rule = kind.router
        logits = F.linear(tokens.to(torch.float32), weight, None)
        limits = rule.num_groups, rule.groups_per_token, kind.experts_per_token
        own, shares = choose(logits, bias, *limits, rule.normalizes, rule.scale)
        if chosen is not None:
            shares = expert_shares(logits, chosen, rule.normalizes, rule.scale)
        return own, shares

    return route


def _route_by_input(kind: MixtureOfExperts, tokens: Tensor, router, chosen: Tensor | None):
    scores = F.linear(tokens, router[0], None)
    best, own = torch.topk(scores, kind.experts_per_token, dim=-1)
    if chosen is not None:
        best = torch.gather(scores, 1, chosen)
    return own, torch.sigmoid(best.to(torch.float32)).to(tokens.dtype)
