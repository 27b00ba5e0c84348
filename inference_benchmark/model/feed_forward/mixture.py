"""A mixture of SwiGLU experts: weights, sharding and a pure function of tensors.

A mixture scores its experts with a small matrix, the router, and sends each token through the few
best of them; one more expert serves every token. Which experts were chosen leaves the function as a
second result: whoever checks outputs needs it, because a choice between two experts of nearly equal
score may fall either way, and everything downstream then differs for a good reason. The check
therefore feeds one side's choices to the other (`chosen`).
"""

from collections.abc import Callable, Iterator
from importlib import import_module

import torch
from torch import Tensor, nn

from inference_benchmark.kernels.add_norm import MAX_FEATURES
from inference_benchmark.kernels.add_norm_scores import add_norm_scores
from inference_benchmark.kernels.greedy_token import greedy_token, greedy_token_reference
from inference_benchmark.kernels.group_limited_route import (
    expert_shares,
    group_limited_route,
    group_limited_route_reference,
)
from inference_benchmark.kernels.one_expert_mixture import one_expert_mixture
from inference_benchmark.kernels.quantized_experts import (
    quantized_experts,
    quantized_experts_reference,
)
from inference_benchmark.kernels.routed_experts import routed_experts, routed_experts_reference
from inference_benchmark.model.checkpoint_layout import Layout, Target, transpose
from inference_benchmark.model.feed_forward.dense import (
    FeedForwardFunction,
    NormedFunction,
    make_network,
    swiglu_modules,
    swiglu_shards,
    swiglu_tensors,
)
from inference_benchmark.model.feed_forward.mixture_config import (
    GroupLimitedRouter,
    InputRouter,
    MixtureOfExperts,
)
from inference_benchmark.model.kernel_choice import KernelConfig
from inference_benchmark.model.linear import (
    StoredTensors,
    is_plain,
    make_linear,
    number_of_rows,
)
from inference_benchmark.model.normed import make_add_norm
from inference_benchmark.model.weight_format import WeightFormat
from inference_benchmark.parallel.sharding import Shard, WeightShard, WeightShards


def _routed_experts_fused(*arguments) -> Tensor:
    return routed_experts(*arguments, fused=True)


def _quantized_experts_fused(*arguments) -> Tensor:
    return quantized_experts(*arguments, fused=True)


_EXPERT_BACKENDS = {
    "grouped": (routed_experts, quantized_experts),
    "fused": (_routed_experts_fused, _quantized_experts_fused),
    "loop": (routed_experts_reference, quantized_experts_reference),
}


class Router(nn.Linear):
    """Scores of all experts; in fp32 where the published model has it so."""

    keeps_base_type = True  # --quantize does not change which experts are chosen

    def __init__(self, config: MixtureOfExperts, hidden_size: int) -> None:
        super().__init__(hidden_size, config.num_experts, bias=False)
        self.keeps_fp32 = config.router.in_fp32


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


class QuantizedExperts(StoredTensors):
    """The same in a weight format, as kernels.stored_experts describes it."""

    def __init__(self, weight: Tensor, weight_format: WeightFormat) -> None:
        """weight [num_experts, out_features, in_features] in the base type; it is not kept."""
        tensors = import_module(weight_format.module).quantize_experts(weight.flatten(0, 1))
        of_rows = weight.shape[:2]
        super().__init__(t.view(*of_rows, -1) if t.dim() == 2 else t for t in tensors)


def modules(config: MixtureOfExperts, hidden_size: int) -> dict[str, nn.Module]:
    """The weights, in the order in which the function takes them; gate and up in one matrix."""
    router: dict[str, nn.Module] = {"router": Router(config, hidden_size)}
    if isinstance(config.router, GroupLimitedRouter):
        router["router_bias"] = ExpertBias(config.num_experts)
    width = config.intermediate_size
    experts = {
        "expert_gate_up_proj": Experts(config.num_experts, hidden_size, 2 * width),
        "expert_down_proj": Experts(config.num_experts, width, hidden_size),
    }
    shared = swiglu_modules(config.shared_intermediate_size, hidden_size, "shared_")
    return router | experts | shared


def weight_shards(config: MixtureOfExperts, shard: Shard) -> WeightShards:
    """Every rank has a share of each expert: it is as busy as the others whatever was chosen.

    config: that of the full model.
    """
    experts = swiglu_shards(shard.rows(config.intermediate_size), "expert_", first_dim=1)
    return experts | swiglu_shards(shard.rows(config.shared_intermediate_size), "shared_")


def checkpoint_tensors(
    layer: nn.Module, config: MixtureOfExperts, layout: Layout, shards: WeightShards
) -> Iterator[tuple[str, Target]]:
    yield "router.weight", Target(layer.router.weight)
    if isinstance(config.router, GroupLimitedRouter):
        yield "router.e_score_correction_bias", Target(layer.router_bias.weight)
    shared = layer.shared_gate_up_proj.weight, layer.shared_down_proj.weight
    shared_shards = shards.get("shared_gate_up_proj"), shards.get("shared_down_proj")
    for name, target in swiglu_tensors(*shared, *shared_shards):
        yield f"shared_expert.{name}", target
    gate_up, down = layer.expert_gate_up_proj.weight, layer.expert_down_proj.weight
    gate_up_shard, down_shard = shards.get("expert_gate_up_proj"), shards.get("expert_down_proj")
    if layout.experts_input_first:
        yield "experts.gate_up_proj", Target(gate_up, transpose, True, gate_up_shard)
        yield "experts.down_proj", Target(down, transpose, True, down_shard)
    elif layout.stacked_experts:
        yield "experts.gate_up_proj", Target(gate_up, shard=gate_up_shard)
        yield "experts.down_proj", Target(down, shard=down_shard)
    else:
        expert_shards = _of_one_expert(gate_up_shard), _of_one_expert(down_shard)
        for expert in range(config.num_experts):
            for name, target in swiglu_tensors(gate_up[expert], down[expert], *expert_shards):
                yield f"experts.{expert}.{name}", target


def _of_one_expert(shard: WeightShard | None) -> WeightShard | None:
    return None if shard is None else WeightShard(shard.dim - 1, shard.ranges)


def make_function(
    config: MixtureOfExperts, kernels: KernelConfig, weight_format: WeightFormat | None = None
) -> FeedForwardFunction:
    run_experts, run_quantized = _EXPERT_BACKENDS[kernels.experts]
    by_groups = isinstance(config.router, GroupLimitedRouter)
    route = (_make_group_limited_route if by_groups else _make_route_by_input)(kernels)
    gates_input = config.router.gates_input
    shared_expert = make_network(kernels.linear, weight_format)
    stored_as = weight_format and weight_format.experts

    def general(hidden, weights, chosen):
        *router, gate_up, down, shared_gate_up, shared_down = weights
        batch, length, width = hidden.shape
        tokens = hidden.reshape(batch * length, width)
        choice, shares = route(config, tokens, router, chosen)
        used = choice if chosen is None else chosen
        pairs = tokens, used, shares
        if stored_as:
            routed = run_quantized(*pairs, gates_input, stored_as, *gate_up, *down)
        else:
            routed = run_experts(*pairs, gate_up, down, gates_input)
        update = shared_expert(hidden, (shared_gate_up, shared_down))
        return update + routed.view(batch, length, width), choice

    if not _has_one_expert_kernel(config, kernels, weight_format):
        return general
    linear = make_linear(kernels.linear)

    def mixture(hidden, weights, chosen, scores=None):
        """scores: the router's, where they are known."""
        if chosen is not None or number_of_rows(hidden) > 1:
            return general(hidden, weights, chosen)
        router, *experts = weights
        scores = linear(hidden, router) if scores is None else scores
        return one_expert_mixture(hidden, scores, *experts)

    return mixture


def _has_one_expert_kernel(
    config: MixtureOfExperts, kernels: KernelConfig, weight_format: WeightFormat | None
) -> bool:
    """Whether our kernels compute a single token's two experts, the shared and the best one, as one."""
    return (
        kernels.linear == "gemv"
        and kernels.experts == "fused"
        and is_plain(weight_format)
        and isinstance(config.router, InputRouter)
        and config.experts_per_token == 1
        and config.intermediate_size == config.shared_intermediate_size
    )


def make_normed_function(
    config: MixtureOfExperts,
    norm_eps: float,
    kernels: KernelConfig,
    weight_format: WeightFormat | None = None,
) -> NormedFunction:
    """The same of the residual stream: the addition to it and the norm come first."""
    mixture = make_function(config, kernels, weight_format)
    add_norm = make_add_norm(norm_eps, kernels.linear, kernels.all_reduce)
    has_one_kernel = _has_one_expert_kernel(config, kernels, weight_format)
    scores_with_norm = has_one_kernel and kernels.all_reduce == "none"

    def feed(update, residual, norm_weight, weights, chosen):
        is_one_row = number_of_rows(residual) == 1 and residual.shape[-1] <= MAX_FEATURES
        if scores_with_norm and is_one_row and chosen is None:
            row = update, residual, norm_weight, weights[0], norm_eps
            hidden, residual, scores = add_norm_scores(*row)
            update, choice = mixture(hidden, weights, None, scores)
            return update, residual, choice
        hidden, residual = add_norm(update, residual, norm_weight)
        update, choice = mixture(hidden, weights, chosen)
        return update, residual, choice

    return feed


def _make_group_limited_route(kernels: KernelConfig) -> Callable:
    fused = kernels.experts == "fused"
    choose = group_limited_route if fused else group_limited_route_reference
    linear = make_linear(kernels.linear)  # routers are never quantised

    def route(config, tokens, router, chosen):
        """tokens [n, hidden] -> (choice [n, k], shares [n, k] of chosen if given, else of choice)."""
        weight, bias = router
        rule = config.router
        logits = linear(tokens.to(torch.float32), weight)
        limits = rule.num_groups, rule.groups_per_token, config.experts_per_token
        choice, shares = choose(logits, bias, *limits, rule.normalizes, rule.scale)
        if chosen is not None:
            shares = expert_shares(logits, chosen, rule.normalizes, rule.scale)
        return choice, shares

    return route


def _make_route_by_input(kernels: KernelConfig) -> Callable:
    linear = make_linear(kernels.linear)
    takes_best = greedy_token if kernels.experts == "fused" else greedy_token_reference

    def route(config, tokens, router, chosen):
        scores = linear(tokens, router[0])
        if config.experts_per_token == 1:
            choice = takes_best(scores)
        else:
            choice = torch.topk(scores, config.experts_per_token, dim=-1)[1]
        best = torch.gather(scores, 1, choice if chosen is None else chosen)
        return choice, torch.sigmoid(best.to(torch.float32)).to(tokens.dtype)

    return route
