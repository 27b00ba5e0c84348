"""Kernels of a mixture whose router picks one expert, for one token, against float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from kernel_checks import (
    DEVICE,
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

from inference_benchmark.kernels._registration import NAMESPACE
from inference_benchmark.kernels.add_norm_scores import (
    add_norm_scores,
    add_norm_scores_reference,
    launch_add_norm_scores,
)
from inference_benchmark.kernels.one_expert_mixture import (
    Plan,
    choose_plans,
    launch_one_expert_mixture,
    one_expert_mixture,
    one_expert_mixture_reference,
)
from inference_benchmark.kernels.routed_experts import routed_experts_reference

EPS = 1e-5
Tensors = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Case:
    num_experts: int = 5
    hidden_size: int = 40
    width: int = 24
    dtype: torch.dtype = torch.float32
    plans: tuple[Plan, Plan] | None = None


def make_inputs(case: Case, best: int = 2, device: str = DEVICE) -> Tensors:
    """hidden, scores with the best at that place, gate_up, down, those of the shared expert; NaN in
    the weights of experts that are not the best."""
    generator = torch.Generator(device).manual_seed(case.hidden_size)

    def normal(*shape: int) -> torch.Tensor:
        values = torch.randn(shape, generator=generator, device=device)
        return values.mul_(shape[-1] ** -0.25).to(case.dtype)

    hidden, scores = normal(1, 1, case.hidden_size), normal(1, 1, case.num_experts)
    scores[..., best] = scores.max() + 0.5
    shapes = (2 * case.width, case.hidden_size), (case.hidden_size, case.width)
    experts = [normal(case.num_experts, *shape) for shape in shapes]
    for weight in experts:
        weight[:best], weight[best + 1 :] = torch.nan, torch.nan
    return hidden, scores, *experts, *(normal(*shape) for shape in shapes)


def check_mixture(case: Case, compute: Callable, best: int = 2) -> None:
    arguments = make_inputs(case, best)
    out, choice = compute(*arguments)
    expected, _ = one_expert_mixture_reference(*doubles(arguments))
    assert_close(out, expected, case.dtype)
    assert out.shape == arguments[0].shape
    assert torch.equal(choice, torch.full_like(choice, best)), choice
    assert (choice.shape, choice.dtype) == ((1, 1), torch.int64)


def check_scores(shape: tuple[int, int], dtype: torch.dtype, compute: Callable) -> None:
    torch.manual_seed(0)
    num_experts, features = shape
    update, residual, norm_weight, router = (
        torch.randn(size, device=DEVICE).to(dtype)
        for size in ((1, 1, features), (1, 1, features), (features,), (num_experts, features))
    )
    out, total, scores = compute(update, residual, norm_weight, router, EPS)
    assert torch.equal(total, update + residual)
    wide = doubles((torch.zeros_like(total), total, norm_weight, router))
    expected, _, _ = add_norm_scores_reference(*wide, EPS)
    assert_close(out, expected, dtype)
    assert_close(scores, out.double() @ router.double().T, dtype)


# The references, and the operators on a CPU.


def test_reference_is_the_shared_expert_and_the_routed_one() -> None:
    hidden, scores, gate_up, down, *shared = make_inputs(Case(dtype=torch.float64), 3, "cpu")
    gate, up = (hidden @ shared[0].T).chunk(2, dim=-1)
    alone = (torch.nn.functional.silu(gate) * up) @ shared[1].T
    pairs = torch.tensor([[3]]), torch.sigmoid(scores[0, :, 3:4])
    routed = routed_experts_reference(hidden[0], *pairs, gate_up, down, True)
    out, choice = one_expert_mixture_reference(hidden, scores, gate_up, down, *shared)
    torch.testing.assert_close(out, alone + routed)
    assert choice.tolist() == [[3]]


def test_operators_are_registered_correctly() -> None:
    operators = getattr(torch.ops, NAMESPACE)
    torch.library.opcheck(operators.one_expert_mixture.default, make_inputs(Case(), device="cpu"))
    row, router = torch.randn(1, 1, 40), torch.randn(3, 40)
    arguments = (row, row.clone(), row[0, 0].clone(), router, EPS)
    torch.library.opcheck(operators.add_norm_scores.default, arguments)


def test_what_does_not_fit_is_refused() -> None:
    hidden, scores, gate_up, down, *shared = make_inputs(Case(), device="cpu")
    two_rows = hidden.repeat(1, 2, 1)
    with pytest.raises(ValueError, match="not one row"):
        launch_one_expert_mixture(two_rows, scores, gate_up, down, *shared)
    with pytest.raises(ValueError, match="do not fit"):
        launch_one_expert_mixture(hidden, scores, gate_up[:, :-2], down, *shared)
    with pytest.raises(ValueError, match="contiguous and of one dtype"):
        launch_one_expert_mixture(hidden.half(), scores, gate_up, down, *shared)
    with pytest.raises(ValueError, match="not one row of 40"):
        launch_add_norm_scores(two_rows, two_rows, hidden[0, 0], hidden[0], EPS)
    with pytest.raises(ValueError, match="of one dtype"):
        launch_add_norm_scores(hidden, hidden, hidden[0, 0].half(), hidden[0], EPS)


def test_loads_are_no_longer_than_rows() -> None:
    assert [plan.columns for plan in choose_plans(40, 24)] == [64, 32]


# Through Triton's interpreter.

INTERPRETED_CASES = [
    Case(),
    Case(num_experts=1, dtype=torch.float16),
    # rows and columns that no tile divides, several tiles, and tiles that divide
    Case(hidden_size=35, width=37, plans=(Plan(4, 16), Plan(8, 32))),
    Case(num_experts=8, hidden_size=64, width=32, plans=(Plan(1, 32), Plan(4, 8))),
]


@interpreted_only
@pytest.mark.parametrize("case", INTERPRETED_CASES, ids=str)
def test_interpreted_mixture(case: Case, poisoned_memory: None) -> None:
    def compute(*arguments: torch.Tensor) -> Tensors:
        return launch_one_expert_mixture(*arguments, plans=case.plans)

    for best in {0, case.num_experts - 1}:
        check_mixture(case, compute, best)


@interpreted_only
def test_interpreted_choice_among_equal_and_no_numbers(poisoned_memory: None) -> None:
    hidden, scores, *weights = make_inputs(Case(), device="cpu")
    weights = [torch.nan_to_num(weight) for weight in weights]
    for values, best in (
        ([1.0, 2.0, 0.0, 2.0, -1.0], 1),
        ([-torch.inf] * 5, 0),
        ([1.0, 2.0, 0.0, torch.nan, -1.0], 3),
        ([torch.nan] * 5, 0),
    ):
        _, choice = launch_one_expert_mixture(hidden, scores.new_tensor([[values]]), *weights)
        assert choice.tolist() == [[best]]


@interpreted_only
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("shape", [(1, 33), (5, 64)])
def test_interpreted_scores(
    shape: tuple[int, int], dtype: torch.dtype, poisoned_memory: None
) -> None:
    check_scores(shape, dtype, launch_add_norm_scores)


class TestInterpreter:
    pytestmark = starts_interpreter

    def test_in_the_interpreter(self) -> None:
        run_in_interpreter(__file__)


# On a GPU.

SCOUT = Case(16, 5120, 8192, torch.bfloat16)
GPU_CASES = [
    SCOUT,
    *(Case(128, 1000, 328, dtype) for dtype in TOLERANCE),
    Case(3, 33, 19, torch.bfloat16),
]


class TestOnGpu:
    pytestmark = on_gpu

    @pytest.mark.parametrize("case", GPU_CASES, ids=str)
    def test_mixture(self, case: Case, poisoned_memory: None) -> None:
        check_mixture(case, one_expert_mixture)
        arguments = make_inputs(case)
        first = one_expert_mixture(*arguments)[0]
        assert same_bits(first, one_expert_mixture(*arguments)[0])

    @pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
    @pytest.mark.parametrize("shape", [(16, 5120), (128, 1000), (3, 33)])
    def test_scores(
        self, shape: tuple[int, int], dtype: torch.dtype, poisoned_memory: None
    ) -> None:
        check_scores(shape, dtype, add_norm_scores)

    def test_a_graph_follows_the_routing(self, poisoned_memory: None) -> None:
        """Scores are made within the graph, so that kernels launched early must wait for them."""
        _, _, *weights = (torch.nan_to_num(tensor) for tensor in make_inputs(SCOUT))
        row = torch.zeros(1, 1, SCOUT.hidden_size, dtype=SCOUT.dtype, device=DEVICE)
        update = row.clone()
        norm_weight = torch.ones_like(row[0, 0])
        router = torch.randn(SCOUT.num_experts, SCOUT.hidden_size, device=DEVICE).to(SCOUT.dtype)
        weights[0].normal_(std=0.01)
        weights[1].normal_(std=0.01)

        def step() -> Tensors:
            hidden, _, scores = add_norm_scores(update, row, norm_weight, router, EPS)
            return hidden, scores, *one_expert_mixture(hidden, scores, *weights)

        step()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            hidden, scores, out, choice = step()
        for expert in (3, 0, 15):
            update.copy_(router[expert])  # which is nearer to itself than to any other
            for _ in range(3):
                graph.replay()
            assert choice.tolist() == [[expert]]
            expected, _ = one_expert_mixture_reference(hidden, scores, *weights)
            assert relative_error(out, expected) < 2 * TOLERANCE[SCOUT.dtype]
