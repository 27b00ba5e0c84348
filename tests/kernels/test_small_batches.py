"""Kernels of a few rows, the product with a matrix and the greedy choice, against references."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from kernel_checks import (
    DEVICE,
    TOLERANCE,
    assert_close,
    interpreted_only,
    on_gpu,
    run_in_interpreter,
    starts_interpreter,
)

from inference_benchmark.kernels._registration import NAMESPACE
from inference_benchmark.kernels.few_rows_linear import (
    MAX_ROWS,
    Plan,
    choose_plan,
    few_rows_linear,
    few_rows_linear_reference,
    few_rows_swiglu,
    few_rows_swiglu_reference,
    launch_few_rows_linear,
    launch_few_rows_swiglu,
)
from inference_benchmark.kernels.greedy_token import (
    BLOCK,
    greedy_token,
    greedy_token_reference,
    launch_greedy_token,
)


def check_linear(
    rows: int,
    out_features: int,
    in_features: int,
    dtype: torch.dtype,
    multiply: Callable,
    swiglu: bool = False,
) -> None:
    """out_features: of the matrix; of swiglu half of them are the gate's."""
    torch.manual_seed(0)
    x = torch.randn(rows, 1, in_features, device=DEVICE).to(dtype)
    weight = torch.randn(out_features, in_features, device=DEVICE) / math.sqrt(in_features)
    weight = weight.to(dtype)
    out = multiply(x, weight)
    assert out.shape == (rows, 1, out_features // 2 if swiglu else out_features)
    reference = few_rows_swiglu_reference if swiglu else few_rows_linear_reference
    # A product of two sums that may nearly cancel.
    roundings = 5e-6 if swiglu else 0.0
    assert_close(out, reference(x.double(), weight.double()), dtype, roundings)


def check_choice(batch: int, vocab: int, dtype: torch.dtype, choose: Callable) -> None:
    torch.manual_seed(0)
    logits = torch.randn(batch, vocab, device=DEVICE).to(dtype)
    # Equal ones in several blocks, the first and the last place, and nothing but the least.
    logits[0, [vocab // 3, vocab - 1]] = 99.0
    logits[-1, [0, vocab // 2]] = 101.0
    if batch > 2:
        logits[1] = -math.inf
    if batch > 4:
        logits[2, 0], logits[2, [vocab // 2, vocab - 1]] = math.inf, math.nan
        logits[3] = -logits[3].abs()
        logits[3, vocab // 2], logits[3, vocab - 1] = -0.0, 0.0
    assert choose(logits).flatten().tolist() == [first_largest(row) for row in logits]


def first_largest(row: torch.Tensor) -> int:
    """As torch.argmax has it, NaN above all numbers."""
    is_largest = row.isnan() if row.isnan().any() else row == row.max()
    return int(is_largest.nonzero()[0])


def test_the_references_on_a_cpu() -> None:
    operators = getattr(torch.ops, NAMESPACE)
    x, weight = torch.randn(3, 1, 40), torch.randn(5, 40)
    torch.library.opcheck(operators.few_rows_linear.default, (x, weight))
    torch.testing.assert_close(few_rows_linear_reference(x, weight), x @ weight.T)
    torch.library.opcheck(operators.few_rows_swiglu.default, (x, weight[:4].clone()))
    logits = torch.randn(3, 50)
    torch.library.opcheck(operators.greedy_token.default, (logits,))
    assert greedy_token_reference(logits).tolist() == [[row.argmax()] for row in logits]


def test_a_plan_gives_the_multiprocessors_work() -> None:
    for out_features, in_features in ((6144, 4096), (4096, 14336), (28672, 4096), (128256, 4096)):
        plan = choose_plan(out_features, in_features, 132)
        programs = -(-out_features // plan.outputs) * plan.splits
        assert programs >= 96
        assert plan.splits * plan.columns <= in_features


def test_what_does_not_fit_is_refused() -> None:
    weight = torch.zeros(4, 8)
    with pytest.raises(ValueError, match=f"up to {MAX_ROWS} rows of 8"):
        launch_few_rows_linear(torch.zeros(MAX_ROWS + 1, 8), weight)
    with pytest.raises(ValueError, match="up to"):
        launch_few_rows_linear(torch.zeros(2, 9), weight)
    with pytest.raises(ValueError, match="of one dtype"):
        launch_few_rows_linear(torch.zeros(2, 8).half(), weight)


@interpreted_only
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    ("rows", "out_features", "in_features", "plan"),
    [
        (2, 70, 300, Plan(16, 64, 3)),
        (5, 33, 256, Plan(16, 64, 1)),
        (17, 32, 520, Plan(32, 128, 4)),
        (MAX_ROWS, 64, 1000, None),
    ],
)
def test_interpreted_linear(
    rows: int,
    out_features: int,
    in_features: int,
    plan: Plan | None,
    dtype: torch.dtype,
    poisoned_memory: None,
) -> None:
    def multiply(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return launch_few_rows_linear(x, weight, plan)

    check_linear(rows, out_features, in_features, dtype, multiply)


@interpreted_only
@pytest.mark.parametrize(
    ("rows", "width", "in_features", "plan"),
    [(2, 40, 300, Plan(16, 64, 3)), (5, 33, 256, Plan(64, 64, 1)), (MAX_ROWS, 32, 1000, None)],
)
def test_interpreted_swiglu(
    rows: int, width: int, in_features: int, plan: Plan | None, poisoned_memory: None
) -> None:
    def multiply(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return launch_few_rows_swiglu(x, weight, plan)

    check_linear(rows, 2 * width, in_features, torch.float16, multiply, swiglu=True)


@interpreted_only
@pytest.mark.parametrize(
    ("batch", "vocab"), [(1, 100), (3, BLOCK), (2, BLOCK + 1), (5, 10_000), (5, 50)]
)
def test_interpreted_choice(batch: int, vocab: int, poisoned_memory: None) -> None:
    check_choice(batch, vocab, torch.float16, launch_greedy_token)


class TestInterpreter:
    pytestmark = starts_interpreter

    def test_kernels_in_the_interpreter(self) -> None:
        run_in_interpreter(__file__)


class TestOnGpu:
    pytestmark = on_gpu

    @pytest.mark.parametrize("dtype", list(TOLERANCE))
    @pytest.mark.parametrize("rows", [1, 2, 17, MAX_ROWS])
    @pytest.mark.parametrize(
        ("out_features", "in_features"), [(6144, 4096), (4096, 14336), (1000, 1376), (33, 100)]
    )
    def test_linear(
        self,
        out_features: int,
        in_features: int,
        rows: int,
        dtype: torch.dtype,
        poisoned_memory: None,
    ) -> None:
        check_linear(rows, out_features, in_features, dtype, few_rows_linear)

    @pytest.mark.parametrize("dtype", list(TOLERANCE))
    @pytest.mark.parametrize("rows", [2, 17, MAX_ROWS])
    @pytest.mark.parametrize(("width", "in_features"), [(14336, 4096), (1000, 1376), (33, 100)])
    def test_swiglu(
        self, width: int, in_features: int, rows: int, dtype: torch.dtype, poisoned_memory: None
    ) -> None:
        check_linear(rows, 2 * width, in_features, dtype, few_rows_swiglu, swiglu=True)

    @pytest.mark.parametrize("dtype", list(TOLERANCE))
    @pytest.mark.parametrize(("batch", "vocab"), [(1, 128_256), (1, 97), (33, 50_000)])
    def test_choice(
        self, batch: int, vocab: int, dtype: torch.dtype, poisoned_memory: None
    ) -> None:
        check_choice(batch, vocab, dtype, greedy_token)
