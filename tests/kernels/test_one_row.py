"""Kernels of a single row: a product with a matrix, SwiGLU behind it; the norm before it, of a few too."""

from __future__ import annotations

from collections.abc import Callable

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
    run_in_interpreter,
    same_bits,
    starts_interpreter,
)

from inference_benchmark.kernels._registration import NAMESPACE
from inference_benchmark.kernels.add_norm import (
    MAX_ROWS,
    add_norm,
    add_norm_reference,
    launch_add_norm,
)
from inference_benchmark.kernels.gemv import (
    Plan,
    gemv_reference,
    gemv_swiglu,
    gemv_swiglu_reference,
    launch_gemv,
    launch_gemv_swiglu,
)

EPS = 1e-5
LAUNCHES = {
    "gemv": (launch_gemv, gemv_reference),
    "swiglu": (launch_gemv_swiglu, gemv_swiglu_reference),
}


def check_product(
    name: str, shape: tuple[int, int], dtype: torch.dtype, plan: Plan | None = None
) -> torch.Tensor:
    """Against float64; returns what came out."""
    torch.manual_seed(0)
    launch, reference = LAUNCHES[name]
    out_features, in_features = shape
    x = torch.randn(1, 1, in_features, device=DEVICE).to(dtype)
    weight = torch.randn(out_features, in_features, device=DEVICE) / in_features**0.5
    weight = weight.to(dtype)
    out = launch(x, weight, plan)
    # A product of two sums that may nearly cancel, of which there are few here.
    roundings = 5e-6 if name == "swiglu" else 0.0
    if INTERPRETED:
        roundings += 3e-5  # it adds a row's sums one after the other, of which a GPU makes a tree
    assert_close(out, reference(x.double(), weight.double()), dtype, roundings)
    return out


def check_add_norm(rows: int, features: int, dtype: torch.dtype, compute: Callable) -> None:
    torch.manual_seed(0)
    update, residual, weight = (
        torch.randn(shape, device=DEVICE).to(dtype)
        for shape in ((rows, 1, features), (rows, 1, features), (features,))
    )
    before = residual.clone()
    out, total = compute(update, residual, weight, EPS)
    assert torch.equal(total, update + residual)
    zeros = torch.zeros_like(total).double()
    expected, _ = add_norm_reference(zeros, *doubles((total, weight)), EPS)
    assert_close(out, expected, dtype)
    assert torch.equal(residual, before)


# The references, and the operators on a CPU.


def test_references_are_what_they_say() -> None:
    x, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.5, 1.0]])
    sigmoid = 1 / (1 + torch.exp(torch.tensor(-1.0)))
    torch.testing.assert_close(gemv_swiglu_reference(x, weight), (sigmoid * 2.5)[None, None])
    normalised, total = add_norm_reference(x, 2 * x, torch.tensor([2.0, 1.0]), 0.0)
    assert total.tolist() == [[3.0, 6.0]]
    torch.testing.assert_close(normalised, torch.tensor([[6.0, 6.0]]) / 22.5**0.5)


def test_operators_are_registered_correctly() -> None:
    operators = getattr(torch.ops, NAMESPACE)
    x, weight = torch.randn(1, 40), torch.randn(6, 40)
    torch.library.opcheck(operators.gemv_swiglu.default, (x, weight))
    torch.library.opcheck(operators.add_norm.default, (x, x.clone(), weight[0].clone(), EPS))


def test_what_does_not_fit_is_refused() -> None:
    x, weight = torch.zeros(2, 8), torch.zeros(4, 8)
    with pytest.raises(ValueError, match="not one row of 8"):
        launch_gemv_swiglu(x, weight)
    many = torch.zeros(MAX_ROWS + 1, 8)
    with pytest.raises(ValueError, match=f"not up to {MAX_ROWS} rows of 8"):
        launch_add_norm(many, many, weight[0], EPS)
    with pytest.raises(ValueError, match="not up to"):
        launch_add_norm(x, x[:1], weight[0], EPS)
    with pytest.raises(ValueError, match="of one dtype"):
        launch_add_norm(x[:1], x[:1], weight[0].half(), EPS)


# Through Triton's interpreter.


@interpreted_only
@pytest.mark.parametrize("name", list(LAUNCHES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("shape", [(6, 1024), (5, 1000), (1, 2500)])
def test_interpreted_products(
    shape: tuple[int, int], dtype: torch.dtype, name: str, poisoned_memory: None
) -> None:
    check_product(name, (2 * shape[0], shape[1]) if name == "swiglu" else shape, dtype)
    check_product(name, (2 * shape[0], shape[1]), dtype, Plan(4, 512, num_warps=4))


@interpreted_only
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("rows", "features"), [(1, 1024), (1, 2500), (3, 1000)])
def test_interpreted_add_norm(
    rows: int, features: int, dtype: torch.dtype, poisoned_memory: None
) -> None:
    check_add_norm(rows, features, dtype, launch_add_norm)


@interpreted_only
def test_interpreted_add_norm_of_rows_that_lie_apart(poisoned_memory: None) -> None:
    """As those of the last tokens of prompts do."""
    update, residual = (torch.randn(3, 5, 100)[:, -1:] for _ in range(2))
    weight = torch.randn(200)[::2]
    results = launch_add_norm(update, residual, weight, EPS)
    for result, expected in zip(
        results, add_norm_reference(update, residual, weight, EPS), strict=True
    ):
        torch.testing.assert_close(result, expected)


class TestInterpreter:
    pytestmark = starts_interpreter

    def test_kernels_in_the_interpreter(self) -> None:
        run_in_interpreter(__file__)


# On a GPU.


class TestOnGpu:
    pytestmark = on_gpu

    @pytest.mark.parametrize("name", list(LAUNCHES))
    @pytest.mark.parametrize("dtype", list(TOLERANCE))
    @pytest.mark.parametrize(
        "shape",
        [
            (128256, 4096),
            (28672, 4096),
            (6144, 4096),
            (4096, 14336),
            (3072, 2048),
            (1000, 5120),
            (34, 1376),
            (8, 100),
        ],
    )
    def test_products(
        self, shape: tuple[int, int], dtype: torch.dtype, name: str, poisoned_memory: None
    ) -> None:
        check_product(name, shape, dtype)

    @pytest.mark.parametrize("dtype", list(TOLERANCE))
    @pytest.mark.parametrize("rows", [1, 7, MAX_ROWS])
    @pytest.mark.parametrize("features", [4096, 2048, 5120, 100])
    def test_add_norm(
        self, features: int, rows: int, dtype: torch.dtype, poisoned_memory: None
    ) -> None:
        check_add_norm(rows, features, dtype, add_norm)

    def test_a_chain_of_kernels_gives_the_same_bits(self, poisoned_memory: None) -> None:
        """Each is launched before its predecessor has ended; what is read too early differs."""
        torch.manual_seed(0)
        matrices = [torch.randn(8192, 4096, device=DEVICE) / 64 for _ in range(4)]
        matrices = [matrix.bfloat16() for matrix in matrices]
        norm_weight = torch.ones(4096, device=DEVICE, dtype=torch.bfloat16)
        start = torch.randn(1, 4096, device=DEVICE).bfloat16()

        def chain(waits: bool) -> torch.Tensor:
            update, residual = start, start
            for matrix in matrices:
                normalised, residual = add_norm(update, residual, norm_weight, EPS)
                if waits:
                    torch.cuda.synchronize()
                update = gemv_swiglu(normalised, matrix)
                if waits:
                    torch.cuda.synchronize()
            return residual + update

        expected = chain(True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = chain(False)
        for _ in range(300):
            graph.replay()
            assert same_bits(out, expected)
