"""Experts of 8 bits against experts of the weights that they stand for, in each way to get there."""

from __future__ import annotations

import pytest
import torch
from kernel_checks import (
    DEVICE,
    assert_close,
    interpreted_only,
    on_gpu,
    run_in_interpreter,
    starts_interpreter,
)

from inference_benchmark.kernels import quantized_experts as kernel
from inference_benchmark.kernels.expert_gemv import Plan, launch_expert_gemv
from inference_benchmark.kernels.quantized_experts import (
    quantized_experts,
    quantized_experts_reference,
    widen,
)
from inference_benchmark.kernels.routed_experts import routed_experts_reference
from inference_benchmark.model.weight_formats import fp8, int8

MODULES = {"int8": int8, "fp8": fp8}


def inputs(
    module, tokens: int, experts: int, per_token: int, dtype=torch.float32, hidden=48, width=24
):
    """hidden, indices, shares, gate_up, its scales, down, its scales."""
    generator = torch.Generator(DEVICE).manual_seed(tokens)

    def normal(*shape: int) -> torch.Tensor:
        values = torch.randn(shape, generator=generator, device=DEVICE)
        return values.mul_(shape[-1] ** -0.25).to(dtype)

    scores = torch.rand(tokens, experts, generator=generator, device=DEVICE)
    shares, indices = scores.topk(per_token, dim=-1)
    stored = []
    for shape in ((experts, 2 * width, hidden), (experts, hidden, width)):
        parts = [module.quantize_rows(matrix) for matrix in normal(*shape)]
        values = torch.empty(shape, dtype=parts[0][0].dtype, device=DEVICE)
        for index, (expert, _) in enumerate(parts):
            values[index].copy_(expert)
        stored += [values, torch.stack([scales for _, scales in parts])]
    return normal(tokens, hidden), indices, shares, *stored


def expected_of(arguments, gates_input: bool) -> torch.Tensor:
    """In float64."""
    hidden, indices, shares, gate_up, gate_up_scales, down, down_scales = arguments
    weights = widen(gate_up, gate_up_scales, torch.float64), widen(down, down_scales, torch.float64)
    return routed_experts_reference(
        hidden.double(), indices, shares.double(), *weights, gates_input
    )


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("gates_input", [True, False])
@pytest.mark.parametrize(
    ("tokens", "experts", "per_token"), [(1, 40, 3), (20, 40, 2), (9, 6, 1), (4, 40, 8)]
)
def test_every_way_gives_the_same_sums(name, gates_input, tokens, experts, per_token, monkeypatch):
    monkeypatch.setattr(kernel, "_CHUNK", 16)
    arguments = inputs(MODULES[name], tokens, experts, per_token)
    expected = expected_of(arguments, gates_input)
    assert_close(quantized_experts(*arguments, gates_input), expected, torch.float32)
    assert_close(quantized_experts_reference(*arguments, gates_input), expected, torch.float32)
    order = torch.argsort(arguments[1].flatten(), stable=True)
    assert order.numel() == tokens * per_token


def test_all_pairs_of_one_expert_of_a_later_chunk(monkeypatch):
    monkeypatch.setattr(kernel, "_CHUNK", 4)
    arguments = inputs(int8, 11, 10, 1)
    arguments[1].fill_(9)
    assert_close(quantized_experts(*arguments, False), expected_of(arguments, False), torch.float32)


def test_the_operator_is_registered_correctly():
    checks = ("test_autograd_registration", "test_faketensor", "test_aot_dispatch_static")
    operator = torch.ops.inference_benchmark.quantized_experts.default
    for tokens in (1, 12):
        arguments = (*inputs(int8, tokens, 6, 2), False)
        torch.library.opcheck(operator, arguments, test_utils=checks)


@interpreted_only
@pytest.mark.parametrize(("name", "gates_input"), [("int8", True), ("fp8", False)])
def test_interpreted_gemv(name, gates_input: bool) -> None:
    arguments = inputs(MODULES[name], 2, 6, 3)
    pairs, (gate_up, gate_up_scales, down, down_scales) = arguments[:3], arguments[3:]
    plans, scales = (Plan(4, 16), Plan(4, 16)), (gate_up_scales, down_scales)
    out = launch_expert_gemv(*pairs, gate_up, down, gates_input, plans, scales)
    assert_close(out, expected_of(arguments, gates_input), torch.float32)


@interpreted_only
@pytest.mark.parametrize("name", MODULES)
def test_interpreted_widening_of_all_experts(name, monkeypatch, poisoned_memory: None) -> None:
    monkeypatch.setattr(kernel, "_CHUNK", 4)
    arguments = inputs(MODULES[name], 12, 6, 2)
    pairs, (gate_up, gate_up_scales, down, down_scales) = arguments[:3], arguments[3:]
    matrices = (gate_up, gate_up_scales), (down, down_scales)
    out = kernel._sorted_experts(pairs, *matrices, True, kernel._widen_by_kernel)
    assert_close(out, expected_of(arguments, True), torch.float32)


class TestInterpreter:
    pytestmark = starts_interpreter

    def test_in_the_interpreter(self) -> None:
        run_in_interpreter(__file__)


class TestOnGpu:
    pytestmark = on_gpu

    @pytest.mark.parametrize("name", MODULES)
    @pytest.mark.parametrize("tokens", [1, 4, 40])
    def test_as_the_experts_that_they_stand_for(self, name, tokens: int) -> None:
        arguments = inputs(MODULES[name], tokens, 64, 8, torch.bfloat16, hidden=512, width=256)
        for gates_input in (True, False):
            expected = expected_of(arguments, gates_input)
            for fused in (True, False):
                found = quantized_experts(*arguments, gates_input, fused)
                assert_close(found, expected, torch.bfloat16, roundings=0.01)
