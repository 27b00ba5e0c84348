"""DeepSeek V3's choice of experts: the rule by hand, and the kernel against it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from kernel_checks import (
    DEVICE,
    doubles,
    interpreted_only,
    on_gpu,
    relative_error,
    run_in_interpreter,
    starts_interpreter,
)

from inference_benchmark.kernels import group_limited_route as module
from inference_benchmark.kernels.group_limited_route import (
    expert_shares,
    group_limited_route,
    group_limited_route_reference,
    launch_group_limited_route,
)


@dataclass(frozen=True)
class Case:
    tokens: int
    num_experts: int
    num_groups: int
    groups_per_token: int
    experts_per_token: int
    normalizes: bool = True
    scale: float = 2.5

    @property
    def rule(self) -> tuple[int, int, int, bool, float]:
        limits = (self.num_groups, self.groups_per_token, self.experts_per_token)
        return (*limits, self.normalizes, self.scale)


def make_inputs(case: Case, device: str = DEVICE) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator(device).manual_seed(case.tokens)
    logits = torch.randn(case.tokens, case.num_experts, generator=generator, device=device)
    return logits, 0.1 * torch.randn(case.num_experts, generator=generator, device=device)


def check(case: Case, route: Callable, device: str = DEVICE) -> None:
    logits, bias = make_inputs(case, device)
    chosen, shares = route(logits, bias, *case.rule)
    expected, expected_shares = group_limited_route_reference(*doubles((logits, bias)), *case.rule)
    assert chosen.dtype == torch.int64
    assert shares.dtype == torch.float32
    assert torch.equal(chosen, expected)
    assert relative_error(shares, expected_shares) < 1e-6


def test_the_rule_by_hand() -> None:
    """Group 0 holds the best expert, but the two best of groups 1 and 2 sum to more."""
    logits = torch.tensor([[3.0, -9.0, 1.0, 1.1, 1.3, 0.9]])
    bias = torch.zeros(6)
    chosen, shares = group_limited_route_reference(logits, bias, 3, 2, 3, False, 1.0)
    assert chosen.tolist() == [[4, 3, 2]]
    torch.testing.assert_close(shares, torch.sigmoid(torch.tensor([[1.3, 1.1, 1.0]])))
    bias[1] = 0.9  # lifts group 0 above group 2, and is no part of a share
    chosen, shares = group_limited_route_reference(logits, bias, 3, 2, 2, True, 2.0)
    assert chosen.tolist() == [[0, 1]]
    weights = torch.sigmoid(torch.tensor([[3.0, -9.0]]))
    torch.testing.assert_close(shares, 2 * weights / weights.sum())


def test_shares_of_experts_chosen_elsewhere() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0]])
    shares = expert_shares(logits, torch.tensor([[2, 0]]), True, 1.0)
    weights = torch.sigmoid(torch.tensor([[2.0, 0.0]]))
    torch.testing.assert_close(shares, weights / weights.sum())


def test_registration() -> None:
    case = Case(3, 16, 4, 2, 4)
    torch.library.opcheck(module._operator, (*make_inputs(case, "cpu"), *case.rule))


def test_what_does_not_fit_is_refused() -> None:
    logits, bias = torch.zeros(1, 6), torch.zeros(6)
    with pytest.raises(ValueError, match="4 groups do not fit"):
        launch_group_limited_route(logits, bias, 4, 2, 2, True, 1.0)
    with pytest.raises(ValueError, match="must be fp32"):
        launch_group_limited_route(logits.double(), bias, 3, 2, 2, True, 1.0)


# Through Triton's interpreter.

DEEPSEEK = Case(1, 256, 8, 4, 8)
CASES = [
    DEEPSEEK,
    Case(4, 16, 4, 2, 4),
    Case(3, 15, 3, 2, 5, normalizes=False),
    Case(2, 24, 2, 2, 3),
    Case(2, 12, 1, 1, 1, scale=1.0),
]


def check_ties(route: Callable) -> None:
    """Of equal experts the first, in the first groups."""
    logits, bias = torch.zeros(2, 24, device=DEVICE), torch.zeros(24, device=DEVICE)
    chosen, shares = route(logits, bias, 4, 2, 8, True, 1.0)
    assert chosen.tolist() == [list(range(8))] * 2
    torch.testing.assert_close(shares, torch.full_like(shares, 1 / 8))


@interpreted_only
@pytest.mark.parametrize("case", CASES, ids=str)
def test_interpreted(case: Case, poisoned_memory: None) -> None:
    check(case, launch_group_limited_route)


@interpreted_only
def test_interpreted_ties() -> None:
    check_ties(launch_group_limited_route)


class TestInterpreter:
    pytestmark = starts_interpreter

    def test_in_the_interpreter(self) -> None:
        run_in_interpreter(__file__)


class TestOnGpu:
    pytestmark = on_gpu

    @pytest.mark.parametrize(
        "case", [*CASES, Case(4, 256, 8, 4, 8), Case(65, 256, 8, 4, 8)], ids=str
    )
    def test_group_limited_route(self, case: Case, poisoned_memory: None) -> None:
        check(case, group_limited_route)

    def test_ties(self) -> None:
        check_ties(group_limited_route)

    def test_in_a_graph(self) -> None:
        logits, bias = make_inputs(DEEPSEEK)
        group_limited_route(logits, bias, *DEEPSEEK.rule)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            chosen, shares = group_limited_route(logits + 0.0, bias, *DEEPSEEK.rule)
        for _ in range(3):
            logits.normal_()
            graph.replay()
            expected, expected_shares = group_limited_route_reference(
                *doubles((logits, bias)), *DEEPSEEK.rule
            )
            assert torch.equal(chosen, expected)
            assert relative_error(shares, expected_shares) < 1e-6
