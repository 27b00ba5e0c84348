"""The buffer that keeps what a run chose: where each token stands, and nothing out of its bounds."""

import pytest
import torch
from step_engines import make_engine

from inference_benchmark.engines.step_engine import StepEngine
from inference_benchmark.model.weights import build_decoder
from inference_benchmark.models import MODELS

MODEL = MODELS["llama-tiny"].with_layers(1)
INPUT, OUTPUT = 5, 4


@pytest.fixture(scope="module")
def decoder():
    return build_decoder(MODEL, "fp32", "cpu", INPUT + OUTPUT)


def engine_of(decoder, cache_length: int = INPUT + OUTPUT) -> StepEngine:
    return make_engine("eager", decoder, 2, INPUT, cache_length)


def test_a_run_leaves_its_tokens_and_the_position_of_the_last(decoder):
    engine = engine_of(decoder)
    engine.reset()
    engine.prefill(torch.ones(2, INPUT, dtype=torch.int64))
    chosen = [engine.token.clone()]
    for _ in range(OUTPUT - 1):
        engine.decode()
        chosen.append(engine.token.clone())
    assert torch.equal(engine.tokens[:, INPUT : INPUT + OUTPUT], torch.cat(chosen, dim=1))
    assert int(engine.position) == INPUT + OUTPUT - 1
    assert (engine.tokens[:, :INPUT] == -1).all()
    assert (engine.tokens[:, INPUT + OUTPUT :] == -1).all()
    engine.reset()
    assert (engine.tokens == -1).all()


def test_a_full_cache_has_room_for_the_last_token(decoder):
    engine = engine_of(decoder)
    engine.force(torch.zeros(2, 1, dtype=torch.int64), INPUT + OUTPUT - 1)
    engine.decode()
    assert torch.equal(engine.tokens[:, -1:], engine.token)


def test_a_prompt_may_fill_the_cache(decoder):
    engine = engine_of(decoder, cache_length=INPUT)
    engine.prefill(torch.ones(2, INPUT, dtype=torch.int64))
    assert torch.equal(engine.tokens[:, INPUT:], engine.token)


class Replayed:
    """A captured prompt of as many tokens, that leaves what it was given."""

    def __init__(self, inputs: torch.Tensor, logits: torch.Tensor) -> None:
        self.inputs, self.logits, self.seen = inputs, logits, []

    def replay(self, inputs: torch.Tensor) -> tuple[torch.Tensor, list]:
        self.seen.append(inputs)
        return self.logits, []


def test_a_captured_prompt_serves_prompts_of_its_shape(decoder):
    engine = engine_of(decoder)
    logits = torch.full((2, 3), 7.0)
    engine._prompt_graph = graph = Replayed(torch.zeros(2, INPUT, dtype=torch.int64), logits)
    prompt = torch.ones(2, INPUT, dtype=torch.int64)
    engine.prefill(prompt)
    assert graph.seen == [prompt]
    assert engine.logits is logits
    assert int(engine.position) == INPUT
    engine.prefill(prompt[:, :-1])
    assert len(graph.seen) == 1
    assert engine.logits.shape == (2, MODEL.vocab_size)
    assert int(engine.position) == INPUT - 1
