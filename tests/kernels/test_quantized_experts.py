"""Experts of 8 and 4 bits against experts of the weights that they stand for, in each way to get there."""

from __future__ import annotations

import functools
from importlib import import_module

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
from inference_benchmark.kernels import stored_experts
from inference_benchmark.kernels.expert_gemv import Plan, launch_expert_gemv
from inference_benchmark.kernels.quantized_experts import (
    quantized_experts,
    quantized_experts_reference,
)
from inference_benchmark.kernels.routed_experts import routed_experts_reference
from inference_benchmark.kernels.stored_experts import STORED_EXPERTS
from inference_benchmark.model.weight_format import QUANTIZED

BYTES, PACKED = ("int8", "fp8"), ("int4", "int4-asymmetric", "nf4")
NAMES = (*BYTES, *PACKED)


def inputs(name: str, tokens: int, experts: int, per_token: int, dtype=torch.float32, sizes=None):
    """hidden, indices, shares, and the tensors of gate_up and of down; then the matrices that these
    stand for, in float64. sizes: hidden, and an expert's width; 256 groups of nf4 end within one."""
    hidden, width = sizes or (48, 24)
    generator = torch.Generator(DEVICE).manual_seed(tokens)

    def normal(*shape: int) -> torch.Tensor:
        values = torch.randn(shape, generator=generator, device=DEVICE)
        return values.mul_(shape[-1] ** -0.25).to(dtype)

    scores = torch.rand(tokens, experts, generator=generator, device=DEVICE)
    shares, indices = scores.topk(per_token, dim=-1)
    x = normal(tokens, hidden)
    shapes = (experts, 2 * width, hidden), (experts, hidden, width)
    gate_up, down = (stored(name, normal(*shape)) for shape in shapes)
    return (x, indices, shares, gate_up[0], down[0]), (gate_up[1], down[1])


def stored(name: str, matrix: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    """matrix [experts, rows, columns] in a format; and what it stands for, as of one matrix."""
    module = import_module(QUANTIZED[name].module)
    tensors = module.quantize_experts(matrix.flatten(0, 1))
    if name in BYTES:
        rows = tensors[0].double() * tensors[1].double()
    else:
        rows = module.dequantize(tensors, matrix.shape[2], torch.float64)
    of_rows = matrix.shape[:2]
    shaped = (t.view(*of_rows, -1) if t.dim() == 2 else t for t in tensors)
    return tuple(shaped), rows.view(matrix.shape)


def expected_of(arguments, matrices, gates_input: bool) -> torch.Tensor:
    """In float64."""
    hidden, indices, shares, *_ = arguments
    return routed_experts_reference(
        hidden.double(), indices, shares.double(), *matrices, gates_input
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gates_input", [True, False])
@pytest.mark.parametrize(
    ("tokens", "experts", "per_token"), [(1, 40, 3), (20, 40, 2), (9, 6, 1), (4, 40, 8)]
)
def test_every_way_gives_the_same_sums(name, gates_input, tokens, experts, per_token):
    arguments, matrices = inputs(name, tokens, experts, per_token)
    expected = expected_of(arguments, matrices, gates_input)
    assert_close(run(name, arguments, gates_input), expected, torch.float32)
    alone = run(name, arguments, gates_input, quantized_experts_reference)
    assert_close(alone, expected, torch.float32)


def run(name: str, arguments, gates_input: bool, compute=quantized_experts) -> torch.Tensor:
    *pairs, gate_up, down = arguments
    return compute(*pairs, gates_input, QUANTIZED[name].experts, *gate_up, *down)


@pytest.mark.parametrize("name", NAMES)
def test_experts_are_widened_to_what_they_stand_for(name):
    """Several, one twice; and one whose first group of nf4 is in the middle of 256."""
    tensors, matrix = stored(name, torch.randn(5, 12, 600, device=DEVICE))
    experts = STORED_EXPERTS[QUANTIZED[name].experts](*tensors)
    assert experts.shape == (5, 12)
    for chosen in (torch.tensor([4, 1, 1], device=DEVICE), torch.tensor([3], device=DEVICE)):
        assert torch.equal(experts.widen(chosen, 600, torch.float32), matrix[chosen].float())
    assert torch.equal(experts.widen(range(2, 4), 600, torch.float32), matrix[2:4].float())


def test_all_pairs_of_one_expert_of_a_later_chunk(monkeypatch):
    monkeypatch.setattr(kernel, "_CHUNK", 4)
    for name in ("int8", "nf4"):
        arguments, matrices = inputs(name, 11, 10, 1)
        arguments[1].fill_(9)
        expected = expected_of(arguments, matrices, False)
        assert_close(run(name, arguments, False), expected, torch.float32)


@pytest.mark.parametrize("name", ["int8", "int4-asymmetric", "nf4"])
def test_the_operator_is_registered_correctly(name):
    checks = ("test_autograd_registration", "test_faketensor", "test_aot_dispatch_static")
    operator = torch.ops.inference_benchmark.quantized_experts.default
    for tokens in (1, 12):
        *pairs, gate_up, down = inputs(name, tokens, 6, 2)[0]
        arguments = (*pairs, False, QUANTIZED[name].experts, gate_up, down)
        torch.library.opcheck(operator, arguments, test_utils=checks)


@interpreted_only
@pytest.mark.parametrize(("name", "gates_input"), [("int8", True), ("fp8", False)])
def test_interpreted_gemv(name, gates_input: bool) -> None:
    arguments, matrices = inputs(name, 2, 6, 3)
    *pairs, (gate_up, gate_up_scales), (down, down_scales) = arguments
    plans, scales = (Plan(4, 16), Plan(4, 16)), (gate_up_scales, down_scales)
    out = launch_expert_gemv(*pairs, gate_up, down, gates_input, plans, scales)
    assert_close(out, expected_of(arguments, matrices, gates_input), torch.float32)


@interpreted_only
@pytest.mark.parametrize("name", NAMES)
def test_interpreted_widening_of_all_experts(name, monkeypatch, poisoned_memory: None) -> None:
    """As a kernel of a GPU's would launch it, but for nf4's levels, which the interpreter gathers."""
    monkeypatch.setattr(kernel, "_CHUNK", 4)
    gathers = functools.partial(stored_experts.launch_unpack, lookup="gather")
    monkeypatch.setattr(stored_experts, "launch_unpack", gathers)
    arguments, matrices = inputs(name, 12, 6, 2)
    *pairs, gate_up, down = arguments
    experts = (STORED_EXPERTS[QUANTIZED[name].experts](*tensors) for tensors in (gate_up, down))
    out = kernel._sorted_experts(tuple(pairs), *experts, True, by_kernel=True)
    assert_close(out, expected_of(arguments, matrices, True), torch.float32)


class TestInterpreter:
    pytestmark = starts_interpreter

    def test_in_the_interpreter(self) -> None:
        run_in_interpreter(__file__)


class TestOnGpu:
    pytestmark = on_gpu

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("tokens", [1, 4, 40])
    def test_as_the_experts_that_they_stand_for(self, name, tokens: int) -> None:
        arguments, matrices = inputs(name, tokens, 64, 8, torch.bfloat16, sizes=(512, 256))
        for gates_input in (True, False):
            expected = expected_of(arguments, matrices, gates_input)
            for fused in (True, False):
                compute = functools.partial(quantized_experts, fused=fused)
                found = run(name, arguments, gates_input, compute)
                assert_close(found, expected, torch.bfloat16, roundings=0.01)
