"""Every mode's training step: what it compiles, and the same losses as eager from the same weights."""

import pytest
import thunder_tracing
import torch

from inference_benchmark.engines import ENGINES
from inference_benchmark.engines.base import EnginePlan, Resources
from inference_benchmark.errors import CannotRun
from inference_benchmark.model.implementation import Implementation
from inference_benchmark.model.own_model import build_own_model
from inference_benchmark.model.training_config import TrainingConfig
from inference_benchmark.model.weights import build_decoder
from inference_benchmark.models import MODELS

TINY = MODELS["llama-tiny"].with_layers(2)
LENGTH = 16
FP32 = TrainingConfig(mixed_precision=None)


@pytest.fixture(scope="module")
def decoder():
    return build_decoder(TINY, "fp32", "cpu", LENGTH)


@pytest.fixture
def compiled(monkeypatch) -> list:
    """torch.compile that notes what it is given, and leaves it as it is."""
    given = []

    def compile_nothing(function, **settings):
        given.append((function, settings))
        return function

    monkeypatch.setattr(torch, "compile", compile_nothing)
    return given


def losses(name: str, decoder, model=None, training=FP32, **options) -> list[float]:
    plan = EnginePlan(2, LENGTH, 0, training=training, **options)
    ids = torch.randint(1000, (2, LENGTH + 1), generator=torch.Generator().manual_seed(4))
    losses_of_steps = []
    with ENGINES[name].load()(plan, Resources(decoder, model=model)) as engine:
        for _ in range(3):
            engine.train(ids)
            losses_of_steps.append(engine.loss.item())
            engine.forget_gradients()
    return losses_of_steps


@pytest.fixture(scope="module")
def expected(decoder):
    return losses("eager", decoder)


def test_inductor_compiles_each_distinct_function_once(decoder, expected, compiled):
    assert losses("inductor", decoder) == pytest.approx(expected, rel=1e-5)
    assert len(compiled) == 3  # embedding, layer, loss
    assert {settings["dynamic"] for _, settings in compiled} == {False}


def test_inductor_lets_changing_lengths_become_symbols(decoder, expected, compiled):
    dynamic = TrainingConfig(mixed_precision=None, dynamic_shapes=True)
    losses("inductor", decoder, training=dynamic, compile_scope="model")
    ((_, settings),) = compiled
    assert settings["dynamic"] is None


def test_another_implementation_is_compiled_whole(decoder, expected, compiled):
    model = build_own_model(Implementation("transformers"), decoder)
    assert losses("inductor", decoder, model) == pytest.approx(expected, rel=1e-5)
    ((_, settings),) = compiled
    assert not settings["fullgraph"]


def test_thunder_differentiates_by_itself(decoder, expected):
    thunder_tracing.shorten()
    assert losses("thunder", decoder) == pytest.approx(expected, rel=1e-5)


def test_an_executor_that_could_claim_nothing_is_refused_before_tracing(monkeypatch, decoder):
    from thunder.executors import transformer_engine_v1ex

    from inference_benchmark.engines import thunder as thunder_engine

    monkeypatch.setattr(transformer_engine_v1ex, "TE_AVAILABLE", False)
    monkeypatch.setattr(thunder_engine, "version", lambda package: "2.10.0")
    with pytest.raises(CannotRun, match=r"'transformerengine': .*2\.10\.0 no longer has"):
        losses("thunder", decoder, executors=("transformerengine",))
