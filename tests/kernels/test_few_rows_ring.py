"""The kernel of a few rows that is written in Gluon, on a CPU, and how it shares out a matrix."""

from __future__ import annotations

import pytest
import torch
from gluon_on_cpu import load_on_cpu
from kernel_checks import assert_close

from inference_benchmark.kernels.few_rows_linear import (
    few_rows_linear_reference,
    few_rows_swiglu_reference,
)
from inference_benchmark.kernels.few_rows_ring import RingPlan, choose_ring, most_parts

KERNELS = "inference_benchmark.kernels"


@pytest.fixture(scope="module")
def ring():
    return load_on_cpu(f"{KERNELS}.ring_steps", f"{KERNELS}.few_rows_ring")


@pytest.mark.parametrize(
    ("rows", "matrix_rows", "in_features", "plan"),
    [
        # Shares of less and more than a block, of fewer steps than stages, odd rows and columns.
        (5, 256, 512, RingPlan(64, 64, programs=3, num_stages=3)),
        (32, 192, 256, RingPlan(64, 64, programs=11, num_stages=5)),
        (17, 200, 328, RingPlan(128, 64, programs=5, num_stages=3)),
        (2, 66, 256, RingPlan(64, 128, programs=9, num_stages=4)),
    ],
)
@pytest.mark.parametrize("swiglu", [False, True])
def test_the_ring_on_a_cpu(ring, rows, matrix_rows, in_features, plan, swiglu) -> None:
    torch.manual_seed(0)
    x = torch.randn(rows, 1, in_features).half()
    weight = (torch.randn(matrix_rows, in_features) / in_features**0.5).half()
    reference = few_rows_swiglu_reference if swiglu else few_rows_linear_reference
    expected = reference(x.double(), weight.double())
    for _ in range(2):  # the second call finds its counters as the first left them
        out = torch.full_like(expected, torch.nan, dtype=torch.float16)
        ring.launch_ring(x, weight, out, plan, swiglu)
        assert_close(out, expected, torch.float16, 5e-6)


def test_a_ring_where_a_multiprocessor_has_one_program() -> None:
    programs = {
        (6144, 4096): 96,  # blocks of 64 outputs
        (4096, 4096): 128,
        (4096, 14336): 128,
        (5120, 4096): 132,  # equal shares: 80 blocks would leave too many idle
        (64, 4096): 4,  # parts of no fewer steps than stages
        (64, 100): 1,
    }
    for matrix, count in programs.items():
        assert choose_ring(*matrix, 132).programs == count
    assert choose_ring(28672, 4096, 132) is None


def test_how_many_share_a_block() -> None:
    assert most_parts(blocks=4, steps=10, programs=4) == 1
    assert most_parts(blocks=4, steps=10, programs=8) == 2
    # Shares of 13 and 14 of 40 steps: 0-12, 13-25, 26-39.
    assert most_parts(blocks=4, steps=10, programs=3) == 2
    # One of 16 and 17 begins in the first block, fills it and the second one: 0-16, 17-32, 33-49.
    assert most_parts(blocks=1, steps=50, programs=3) == 3
