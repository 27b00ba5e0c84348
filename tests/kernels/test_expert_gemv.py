"""The kernels for a few tokens' experts against the plain loop over experts in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from kernel_checks import (
    DEVICE,
    INTERPRETED,
    TOLERANCE,
    assert_close,
    doubles,
    interpreted_only,
    on_gpu,
    relative_error,
    run_in_interpreter,
    same_bits,
    starts_interpreter,
)

from inference_benchmark.kernels import routed_experts as routed_experts_module
from inference_benchmark.kernels.expert_gemv import Plan, choose_plan, launch_expert_gemv
from inference_benchmark.kernels.routed_experts import (
    FEW_PAIRS,
    routed_experts,
    routed_experts_reference,
)


@dataclass(frozen=True)
class Case:
    tokens: int = 1
    per_token: int = 4
    num_experts: int = 6
    hidden_size: int = 40
    width: int = 24
    gates_input: bool = False
    dtype: torch.dtype = torch.float32
    plans: tuple[Plan, Plan] | None = None

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        gates = "-gates_input" if self.gates_input else ""
        cut = "-" + "-".join(f"{p.rows}x{p.columns}" for p in self.plans) if self.plans else ""
        return (
            f"{self.tokens}x{self.per_token}of{self.num_experts}"
            f"-{self.hidden_size}x{self.width}-{dtype}{gates}{cut}"
        )


Tensors = tuple[torch.Tensor, ...]


def make_inputs(case: Case, device: str = DEVICE) -> Tensors:
    """hidden, indices, shares, gate_up, down."""
    generator = torch.Generator(device).manual_seed(case.tokens + case.hidden_size)

    def normal(*shape: int) -> torch.Tensor:
        values = torch.randn(shape, generator=generator, device=device)
        return values.mul_(shape[-1] ** -0.25).to(case.dtype)

    hidden = normal(case.tokens, case.hidden_size)
    scores = torch.rand(case.tokens, case.num_experts, generator=generator, device=device)
    shares, indices = scores.topk(case.per_token, dim=-1)
    if case.gates_input:
        shares = shares.to(case.dtype)
    gate_up = normal(case.num_experts, 2 * case.width, case.hidden_size)
    down = normal(case.num_experts, case.hidden_size, case.width)
    return hidden, indices, shares, gate_up, down


def poison_idle_experts(tensors: Tensors) -> Tensors:
    """NaN in the weights of experts that nobody chose."""
    hidden, indices, shares, *weights = tensors
    idle = torch.ones(weights[0].shape[0], dtype=torch.bool, device=indices.device)
    idle[indices.unique()] = False
    poisoned = [weight.masked_fill(idle[:, None, None], torch.nan) for weight in weights]
    return hidden, indices, shares, *poisoned


def check(case: Case, run: Callable[..., torch.Tensor], device: str = DEVICE) -> None:
    arguments = poison_idle_experts(make_inputs(case, device))
    plans = {} if case.plans is None else {"plans": case.plans}
    out = run(*arguments, case.gates_input, **plans)
    expected = routed_experts_reference(*doubles(arguments), case.gates_input)
    assert_close(out, expected, case.dtype)
    assert out.is_contiguous()
    if not INTERPRETED or case == Case():  # one at a time, programs can only leave something behind
        assert same_bits(run(*arguments, case.gates_input, **plans), out)


@pytest.mark.parametrize(
    ("in_features", "matrices", "plan"),
    [
        (7168, 2, Plan(1, 2048)),  # DeepSeek V3: gate and up, then down, then an eighth of down
        (2048, 1, Plan(2, 2048)),
        (256, 1, Plan(16, 256)),
        (8192, 1, Plan(2, 2048)),
        (24, 1, Plan(16, 32)),
    ],
)
def test_plans(in_features: int, matrices: int, plan: Plan) -> None:
    assert choose_plan(in_features, matrices) == plan


@pytest.mark.parametrize(
    ("tokens", "per_token", "num_experts", "is_few"),
    [(4, 8, 256, True), (5, 8, 256, False), (16, 1, 16, True), (17, 1, 16, False)],
)
def test_few_pairs_alone_go_to_these_kernels(
    monkeypatch: pytest.MonkeyPatch, tokens: int, per_token: int, num_experts: int, is_few: bool
) -> None:
    case = Case(tokens, per_token, num_experts, hidden_size=8, width=4)
    arguments = make_inputs(case, "cpu")
    monkeypatch.setattr(routed_experts_module, "launch_expert_gemv", lambda *_: "gemv")
    monkeypatch.setattr(routed_experts_module, "_grouped", lambda *_: "grouped")
    launch = routed_experts_module._launch
    assert launch(*arguments, False, True) == ("gemv" if is_few else "grouped")
    assert launch(*arguments, False, False) == "grouped"


def test_weights_must_be_contiguous() -> None:
    hidden, indices, shares, gate_up, down = make_inputs(Case(), "cpu")
    with pytest.raises(ValueError, match="must be contiguous"):
        launch_expert_gemv(hidden, indices, shares, gate_up, down.mT.contiguous().mT, False)


# Through Triton's interpreter.

INTERPRETED_CASES = [
    Case(),
    Case(tokens=3, gates_input=True, dtype=torch.float16),
    Case(tokens=4, per_token=1, gates_input=True),
    Case(hidden_size=33, width=19, dtype=torch.float16),
    # rows and columns that no tile divides, with several tiles of each
    Case(tokens=2, per_token=2, hidden_size=35, width=37, plans=(Plan(4, 16), Plan(8, 32))),
    Case(tokens=2, per_token=1, num_experts=1, width=10, plans=(Plan(1, 32), Plan(4, 8))),
]


@interpreted_only
@pytest.mark.parametrize("case", INTERPRETED_CASES, ids=str)
def test_interpreted(case: Case, poisoned_memory: None) -> None:
    check(case, launch_expert_gemv)


@interpreted_only
def test_interpreted_with_views(poisoned_memory: None) -> None:
    """Rows, choices and shares that are parts of wider ones."""
    hidden, indices, shares, *weights = make_inputs(Case(tokens=2, per_token=2), "cpu")
    views = [
        torch.cat((tensor, tensor), dim=-1)[:, : tensor.shape[1]]
        for tensor in (hidden, indices, shares)
    ]
    assert not any(view.is_contiguous() for view in views)
    out = launch_expert_gemv(*views, *weights, False)
    assert same_bits(out, launch_expert_gemv(hidden, indices, shares, *weights, False))


class TestInterpreter:
    pytestmark = starts_interpreter

    def test_in_the_interpreter(self) -> None:
        run_in_interpreter(__file__)


# On a GPU.

DEEPSEEK = Case(1, 8, 32, 7168, 2048, False, torch.bfloat16)
LLAMA4 = Case(1, 1, 16, 5120, 8192, True, torch.bfloat16)
SHARD = Case(2, 8, 32, 7168, 256, False, torch.bfloat16)
GPU_CASES = [
    DEEPSEEK,
    LLAMA4,
    SHARD,
    Case(4, 8, 32, 7168, 2048, False, torch.float16),
    Case(3, 1, 16, 5120, 8192, True, torch.float16),
    *(
        Case(3, 4, 12, 1000, 328, gates_input, dtype)
        for dtype in TOLERANCE
        for gates_input in (True, False)
    ),
    Case(1, 2, 4, 33, 19, False, torch.bfloat16),
]


def run_fused(*arguments: torch.Tensor | bool) -> torch.Tensor:
    return routed_experts(*arguments, fused=True)


class TestOnGpu:
    pytestmark = on_gpu

    @pytest.mark.parametrize("case", GPU_CASES, ids=str)
    def test_expert_gemv(self, case: Case, poisoned_memory: None) -> None:
        assert case.tokens * case.per_token <= FEW_PAIRS
        check(case, run_fused)

    @pytest.mark.parametrize("case", [DEEPSEEK, LLAMA4], ids=str)
    def test_a_graph_follows_the_routing(self, case: Case, poisoned_memory: None) -> None:
        """The choice is written within the graph, so that kernels launched early must wait."""
        hidden, indices, shares, *weights = make_inputs(case)
        source, chosen = indices.clone(), indices.clone()

        def step() -> torch.Tensor:
            chosen.copy_(source)
            return run_fused(hidden, chosen, shares, *weights, case.gates_input)

        step()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = step()
        for shift in (0, 3, 5):
            source.copy_((indices + shift) % case.num_experts)
            for _ in range(3):
                graph.replay()
            arguments = (hidden, source, shares, *weights)
            expected = routed_experts_reference(*arguments, case.gates_input)
            assert relative_error(out, expected) < 2 * TOLERANCE[case.dtype]
