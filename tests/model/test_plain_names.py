"""What a mode's name promises: without +kernels no kernel of this project, with it those that serve."""

import pytest
import torch
from dispatched import Operators
from mixture_models import SHALLOW_DEEPSEEK, SHALLOW_LLAMA4
from step_engines import make_engine

from inference_benchmark.engines.spec import parse_mode
from inference_benchmark.kernels.few_rows_linear import MAX_ROWS
from inference_benchmark.model.kernel_choice import FEW_ROWS, KernelConfig
from inference_benchmark.model.weights import build_decoder
from inference_benchmark.models import MODELS
from inference_benchmark.session.planning import named_kernels

DENSE = MODELS["llama-tiny"].with_layers(1)
PROMPT, CACHE = 3, 12
# PyTorch's own functions, behind operators because compilers are to call them as they are.
SHIPPED = {"write_cache", "causal_attention", "cached_causal_attention", "routed_experts"}


def operators_of(model, mode: str, batch: int, **others: str) -> set[str]:
    """Those of this project that a prompt and a step call, but for PyTorch's own functions."""
    named = named_kernels(model, parse_mode(mode, (), "off", "cuda"), "cuda")
    chosen = {"attention": named.attention, "linear": named.linear} | others
    fused = "fused" if chosen["linear"] == "gemv" else "grouped"
    decoder = build_decoder(model, "fp32", "cpu", CACHE)
    kernels = KernelConfig(**chosen, experts=fused)
    engine = make_engine("eager", decoder, batch, PROMPT, CACHE, kernels)
    with Operators() as operators:
        engine.prefill(torch.zeros(batch, PROMPT, dtype=torch.int64))
        engine.decode()
    return set(operators.seen) - SHIPPED


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("mode", ["eager", "eager+graphs", "inductor", "thunder"])
@pytest.mark.parametrize(
    "model", [DENSE, SHALLOW_LLAMA4, SHALLOW_DEEPSEEK], ids=lambda model: model.name
)
def test_a_plain_name_has_no_kernel_of_ours(model, mode, batch):
    attention = {"attention": "matmul"} if mode == "inductor" else {}  # flex needs its compiler
    assert operators_of(model, mode, batch, **attention) == set()


@pytest.mark.parametrize(
    ("batch", "others", "expected"),
    [
        (
            1,
            {},
            "rope_and_cache rope_decode few_rows_linear few_rows_swiglu gemv add_norm gemv_swiglu greedy_token",
        ),
        (4, {}, "rope_and_cache rope_decode add_norm few_rows_linear few_rows_swiglu greedy_token"),
        (FEW_ROWS + 1, {}, "rope_and_cache rope_decode greedy_token"),
        (1, {"linear": "torch"}, "rope_and_cache rope_decode"),
        (
            1,
            {"attention": "sdpa"},
            "few_rows_linear few_rows_swiglu gemv add_norm gemv_swiglu greedy_token",
        ),
    ],
)
def test_kernels_are_those_that_the_flags_leave(batch, others, expected):
    """A prompt of three tokens is few rows."""
    assert operators_of(DENSE, "eager+kernels", batch, **others) == set(expected.split())


def test_no_more_rows_are_sent_to_a_kernel_than_it_takes():
    assert FEW_ROWS <= MAX_ROWS
