"""Whole models with the kernels themselves, not their references: shapes that no tile divides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from kernel_checks import interpreted_only, run_in_interpreter, starts_interpreter
from mixture_models import SHALLOW_DEEPSEEK, SHORT_LLAMA4
from step_engines import make_engine

from inference_benchmark.kernels import fp8_linear
from inference_benchmark.kernels._registration import NAMESPACE
from inference_benchmark.kernels.add_norm import launch_add_norm
from inference_benchmark.kernels.add_norm_scores import launch_add_norm_scores
from inference_benchmark.kernels.few_rows_linear import (
    launch_few_rows_linear,
    launch_few_rows_swiglu,
)
from inference_benchmark.kernels.flash_decode import launch_flash_decode
from inference_benchmark.kernels.gemv import launch_gemv, launch_gemv_swiglu
from inference_benchmark.kernels.greedy_token import launch_greedy_token
from inference_benchmark.kernels.group_limited_route import launch_group_limited_route
from inference_benchmark.kernels.latent_decode import launch_latent_decode
from inference_benchmark.kernels.one_expert_mixture import launch_one_expert_mixture
from inference_benchmark.kernels.rope_cache import launch_rope_and_cache
from inference_benchmark.kernels.rope_decode import launch_rope_decode
from inference_benchmark.model.config import ModelConfig, Precision
from inference_benchmark.model.kernel_choice import KernelConfig
from inference_benchmark.model.parts import DenseFeedForward, GroupedQueryAttention
from inference_benchmark.model.quantized import build_decoders
from inference_benchmark.model.weights import build_decoder
from inference_benchmark.models import MODELS

LAUNCHES = {
    "add_norm": launch_add_norm,
    "add_norm_scores": launch_add_norm_scores,
    "few_rows_linear": launch_few_rows_linear,
    "few_rows_swiglu": launch_few_rows_swiglu,
    "fp8_linear": fp8_linear._launch,
    "fp8_swiglu": fp8_linear._launch_swiglu,
    "flash_decode": launch_flash_decode,
    "gemv": launch_gemv,
    "gemv_swiglu": launch_gemv_swiglu,
    "greedy_token": launch_greedy_token,
    "group_limited_route": launch_group_limited_route,
    "latent_decode": launch_latent_decode,
    "one_expert_mixture": launch_one_expert_mixture,
    "rope_and_cache": launch_rope_and_cache,
    "rope_decode": launch_rope_decode,
}
OURS = KernelConfig(attention="flash_decode", linear="gemv", experts="fused")
# Groups of three query heads, and no size a multiple of 16 but that of a head.
DENSE = replace(
    MODELS["llama-tiny"].with_layers(1),
    vocab_size=43,
    hidden_size=40,
    attention=GroupedQueryAttention(3, 1, 16),
    feed_forward=DenseFeedForward(22),
)
PROMPT, CACHE, STEPS = 5, 24, 1


@pytest.fixture
def launched() -> Iterator[dict[str, int]]:
    """The operators launch their kernels on a CPU; how often each of them did."""
    calls: dict[str, int] = {}
    with torch.library._scoped_library(NAMESPACE, "IMPL") as library:
        for name, launch in LAUNCHES.items():

            def counted(*args, name=name, launch=launch):
                calls[name] = calls.get(name, 0) + 1
                return launch(*args)

            library.impl(name, counted, "CPU", allow_override=True)
        yield calls


def generate(decoder, batch: int, kernels: KernelConfig) -> tuple[torch.Tensor, ...]:
    """Logits of a prompt and of forced steps, the tokens, and each cache."""
    engine = make_engine("eager", decoder, batch, PROMPT, CACHE, kernels)
    ids = torch.arange(batch * PROMPT).view(batch, PROMPT) * 7 % decoder.config.vocab_size
    engine.prefill(ids)
    logits = [engine.logits.clone()]
    for step in range(STEPS):
        engine.force(ids[:, step : step + 1], PROMPT + step)
        engine.decode()
        logits.append(engine.logits.clone())
    caches = [tensor for cache in engine.caches for tensor in cache]
    return torch.stack(logits), engine.tokens, *caches


@interpreted_only
@pytest.mark.filterwarnings("ignore:.*operators may also be overridden")
@pytest.mark.parametrize(
    ("config", "batch", "expected"),
    [
        (DENSE, 1, "add_norm gemv gemv_swiglu greedy_token rope_decode rope_and_cache"),
        (DENSE, 3, "add_norm few_rows_linear few_rows_swiglu greedy_token rope_decode"),
        (SHORT_LLAMA4, 1, "add_norm_scores gemv one_expert_mixture rope_decode"),
        (SHALLOW_DEEPSEEK, 3, "few_rows_linear greedy_token group_limited_route latent_decode"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_interpreted_steps(
    config: ModelConfig,
    batch: int,
    expected: str,
    launched: dict[str, int],
    poisoned_memory: None,
) -> None:
    torch.manual_seed(0)
    check(build_decoder(config, "fp32", "cpu", CACHE), batch, expected, launched)


@interpreted_only
@pytest.mark.filterwarnings("ignore:.*operators may also be overridden")
def test_interpreted_steps_of_a_format(launched: dict[str, int], poisoned_memory: None) -> None:
    stored = Precision.quantized("fp32", "fp8")
    made = build_decoders(DENSE, [stored], False, "cpu", CACHE, 0)
    kernels = "add_norm fp8_linear fp8_swiglu gemv rope_decode"
    check(made.decoders[stored.name], 1, kernels, launched)


def check(decoder, batch: int, expected: str, launched: dict[str, int]) -> None:
    plain = generate(decoder, batch, KernelConfig())
    assert not set(launched) & set(LAUNCHES)
    ours = generate(decoder, batch, OURS)
    assert set(expected.split()) <= set(launched)
    assert torch.equal(ours[1], plain[1])
    for computed, reference in zip(ours, plain, strict=True):
        torch.testing.assert_close(computed, reference, rtol=1e-4, atol=1e-4)


class TestInterpreter:
    pytestmark = starts_interpreter

    def test_kernels_in_the_interpreter(self) -> None:
        run_in_interpreter(__file__)
