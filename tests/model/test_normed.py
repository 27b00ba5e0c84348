"""The norm with what surrounds it: one kernel where it serves, PyTorch's operators elsewhere."""

import pytest
import torch
from dispatched import Operators
from torch.nn import functional as F

from inference_benchmark.kernels.add_norm import MAX_FEATURES, MAX_ROWS
from inference_benchmark.model.normed import (
    make_normed_linear,
    make_normed_swiglu,
)
from inference_benchmark.model.weight_format import QUANTIZED

EPS = 1e-5


def inputs(rows: int, features: int = 12) -> tuple[torch.Tensor, ...]:
    """update, residual, norm weight and a matrix of eight outputs, in float64."""
    torch.manual_seed(0)
    shapes = ((rows, 1, features), (rows, 1, features), (features,), (8, features))
    return tuple(torch.randn(shape, dtype=torch.float64) for shape in shapes)


@pytest.mark.parametrize(
    ("backend", "rows", "features", "linear", "swiglu"),
    [
        ("torch", 1, 12, [], []),
        ("gemv", 1, 12, ["add_norm", "gemv"], ["add_norm", "gemv_swiglu"]),
        ("gemv", 1, MAX_FEATURES, ["add_norm", "gemv"], ["add_norm", "gemv_swiglu"]),
        ("gemv", 1, MAX_FEATURES + 2, ["gemv"], ["gemv_swiglu"]),
        ("gemv", 3, 12, ["add_norm", "few_rows_linear"], ["add_norm", "few_rows_swiglu"]),
        ("gemv", MAX_ROWS + 1, 12, [], []),
    ],
)
def test_both_ways_are_the_same_function(backend, rows, features, linear, swiglu):
    update, residual, norm_weight, weight = given = inputs(rows, features)
    before = residual.clone()
    total = update + residual
    normalised = total * torch.rsqrt(total.square().mean(-1, keepdim=True) + EPS) * norm_weight
    product = normalised @ weight.T
    gate, up = product.chunk(2, dim=-1)
    for make, expected, names in (
        (make_normed_linear, product, linear),
        (make_normed_swiglu, F.silu(gate) * up, swiglu),
    ):
        with Operators() as operators:
            result, stream = make(backend, EPS)(*given)
        torch.testing.assert_close(result, expected)
        torch.testing.assert_close(stream, total)
        assert operators.seen == names
        assert torch.equal(residual, before)


@pytest.mark.parametrize(
    ("make", "rows", "seen"),
    [
        (make_normed_linear, 1, ["add_norm", "int8_linear"]),
        (make_normed_swiglu, 1, ["add_norm", "int8_swiglu"]),
        (make_normed_swiglu, 2, ["add_norm", "int8_linear"]),
    ],
)
def test_quantised_matrices_have_the_kernels_of_their_format(make, rows, seen):
    from inference_benchmark.model.weight_formats import int8

    update, residual, norm_weight, weight = (tensor.float() for tensor in inputs(rows, 64))
    weights = int8.quantize(weight)
    with Operators() as operators:
        result, _ = make("gemv", EPS, QUANTIZED["int8"])(update, residual, norm_weight, weights)
    assert operators.seen == seen
    plain, _ = make("torch", EPS)(
        update, residual, norm_weight, int8.dequantize(weights, 64, torch.float32)
    )
    torch.testing.assert_close(result, plain)
