"""What quantised weights cost, by hand; and faults in them that close the output check."""

import math
from types import SimpleNamespace

import pytest
import torch
from mixture_models import DEEPSEEK
from step_engines import make_engine

from inference_benchmark.model.config import Precision
from inference_benchmark.model.quantized import build_decoders
from inference_benchmark.models import MODELS
from inference_benchmark.output_check import check_before
from inference_benchmark.output_check.accuracy import Accuracy, random_text
from inference_benchmark.workloads.inputs import random_tokens

MODEL = MODELS["llama-tiny"].with_layers(1)
PROMPT, CACHE = 12, 18
INT4 = Precision.quantized("bf16", "int4")


def accuracy_of(base: torch.Tensor, other: torch.Tensor, tokens: list[int]) -> dict:
    """The findings for two models' logits [positions, vocab] on a text."""
    accuracy = object.__new__(Accuracy)
    accuracy._tokens = torch.tensor([tokens])
    accuracy._seconds = 0.0
    accuracy._formats = {"int4": None}

    def stream(logits):
        def parts(positions):
            yield slice(0, len(positions)), logits[None, list(positions)]

        return SimpleNamespace(logits=parts)

    accuracy._streams = {None: stream(base), "int4": stream(other)}
    return accuracy.findings()["int4"]


def test_divergence_agreement_and_perplexity_by_hand():
    base = torch.tensor([[0.5, 0.5], [0.75, 0.25], [0.9, 0.1]]).log()
    other = torch.tensor([[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]]).log()
    measures = accuracy_of(base, other, [0, 1, 0])
    second = 0.75 * math.log(3) + 0.25 * math.log(1 / 3)
    assert measures["kl_max"] == pytest.approx(second, abs=1e-6)
    assert measures["kl_mean"] == pytest.approx(second / 3, abs=1e-6)
    assert measures["top1_agreement"] == pytest.approx(2 / 3)
    # the next tokens 1 and 0: 0.5 to 0.5, then 0.75 to 0.25: the mean of log 1 and log 3
    assert measures["perplexity_ratio"] == pytest.approx(math.sqrt(3), abs=1e-5)
    assert measures["tokens"] == 3


@pytest.fixture(scope="module")
def made():
    accuracies = []

    def watch(decoders):
        accuracies.append(Accuracy(decoders, random_text(MODEL.vocab_size, 0, 24)))
        return accuracies[0]

    int8 = Precision.quantized("bf16", "int8")
    decoders = build_decoders(MODEL, [INT4, int8], True, "cpu", CACHE + 8, 0, watch=watch)
    return decoders, accuracies[0].findings()


def test_coarser_weights_cost_more(made):
    _, by_format = made
    assert set(by_format) == {"int4", "int8"}
    assert 0 < by_format["int8"]["kl_mean"] < by_format["int4"]["kl_mean"] < 0.1
    for measures in by_format.values():
        assert measures["tokens"] == 24
        assert measures["kl_mean"] <= measures["kl_max"]
        assert 0.5 < measures["top1_agreement"] <= 1
        assert measures["perplexity_ratio"] == pytest.approx(1.0, abs=0.1)


def check(made, fault=None) -> dict:
    """The engine's check on int4 weights; fault changes those that the engine reads."""
    decoder = made[0].decoders["int4"]
    engine = make_engine("eager", decoder, 1, PROMPT, CACHE)
    if fault is not None:
        run = engine.run_decoder

        def wrong(*arguments):
            with fault(decoder):
                return run(*arguments)

        engine.run_decoder = wrong
    prompts = [random_tokens(MODEL.vocab_size, 1, PROMPT, 0, run, "cpu") for run in (-1, -2)]
    with torch.inference_mode():
        return check_before(engine, decoder, prompts, "bf16", 0)


class SwappedScales:
    """In the engine alone two groups of each row of a matrix have each other's scale."""

    def __init__(self, decoder) -> None:
        self._scales = decoder.layers[0].qkv_proj.tensor_1

    def __enter__(self) -> None:
        self._scales.copy_(self._scales.flip(1))

    def __exit__(self, *_) -> None:
        self._scales.copy_(self._scales.flip(1))


def test_the_reference_is_what_the_weights_stand_for(made):
    record = check(made)
    assert record["passed"], record["failures"]


def test_a_swapped_group_scale_closes_the_check(made):
    record = check(made, SwappedScales)
    assert not record["passed"]
    assert any("cache" in failure for failure in record["failures"])


def test_a_mixture_is_held_against_itself_and_its_engine_against_its_bytes():
    fp8 = Precision.quantized("bf16", "fp8")
    accuracies = []

    def watch(decoders):
        tokens = random_text(DEEPSEEK.vocab_size, 0, 24)
        accuracies.append(Accuracy(decoders, tokens))
        return accuracies[0]

    decoders = build_decoders(DEEPSEEK, [fp8], False, "cpu", CACHE + 8, 0, watch=watch)
    costs = accuracies[0].findings()["fp8"]
    assert 0 < costs["kl_mean"] < 0.05
    decoder = decoders.decoders["fp8"]
    engine = make_engine("eager", decoder, 1, PROMPT, CACHE)
    prompts = [random_tokens(DEEPSEEK.vocab_size, 1, PROMPT, 0, run, "cpu") for run in (-1, -2)]
    with torch.inference_mode():
        checked = check_before(engine, decoder, prompts, "bf16", 0)
    assert checked["passed"], checked["failures"]
