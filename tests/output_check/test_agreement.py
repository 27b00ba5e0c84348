"""The output gate closes on each way in which a mode can be wrong, and only then."""

import pytest
import torch
from step_engines import make_engine

from inference_benchmark.engines.step_engine import StepEngine
from inference_benchmark.model.weights import build_decoder
from inference_benchmark.models import MODELS
from inference_benchmark.output_check import agreement

PROMPT, OUTPUT = 40, 40
CACHE = PROMPT + OUTPUT
MODEL = MODELS["llama-tiny"].with_layers(2)


def engine_of(decoder) -> StepEngine:
    return make_engine("eager", decoder, 2, PROMPT, CACHE)


@pytest.fixture(scope="module")
def decoder():
    return build_decoder(MODEL, "fp32", "cpu", CACHE)


def check(decoder, engine, precision="fp32") -> dict:
    prompt = torch.randint(
        MODEL.vocab_size, (2, PROMPT), generator=torch.Generator().manual_seed(7)
    )
    inputs = agreement.Inputs.random(MODEL.vocab_size, prompt, seed=1)
    return agreement.check(engine, engine_of(decoder), inputs, precision)


def wrap_decode(engine: StepEngine, change) -> StepEngine:
    """change(engine, forward) replaces the mode's forward on single tokens."""
    forward = engine.run_decoder

    def changed(tokens, position, caches):
        if tokens.shape[1] > 1:
            return forward(tokens, position, caches)
        return change(forward, tokens, position, caches)

    engine.run_decoder = changed
    return engine


def test_an_unchanged_mode_passes_exactly(decoder):
    found = check(decoder, engine_of(decoder))
    assert found["passed"], found
    assert found["prefill_error"] == found["decode_error"] == found["cache_error"] == 0
    assert found["steps"] == 32


def write_one_slot_off(forward, tokens, position, caches):
    result = forward(tokens, position, caches)
    slot = int(position)
    for keys, _ in caches:
        keys[:, :, slot + 1] = keys[:, :, slot]
        keys[:, :, slot] = 0
    return result


def drop_the_write(forward, tokens, position, caches):
    kept = [tensor.clone() for cache in caches for tensor in cache]
    result = forward(tokens, position, caches)
    for tensor, old in zip([t for cache in caches for t in cache], kept, strict=True):
        tensor.copy_(old)
    return result


def use_a_stale_position(forward, tokens, position, caches):
    return forward(tokens, (position - 1).clamp(min=0), caches)


def swap_the_sequences(forward, tokens, position, caches):
    logits, token = forward(tokens, position, caches)
    return logits.flip(0), token


def return_not_a_number(forward, tokens, position, caches):
    logits, token = forward(tokens, position, caches)
    return logits * float("nan"), token


@pytest.mark.parametrize(
    "fault",
    [
        write_one_slot_off,
        drop_the_write,
        use_a_stale_position,
        swap_the_sequences,
        return_not_a_number,
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_gate_closes(decoder, fault, precision):
    """Even at the tolerance of bf16 each fault shows."""
    found = check(decoder, wrap_decode(engine_of(decoder), fault), precision)
    assert not found["passed"]
    assert found["failures"]


def test_a_write_into_an_unused_slot_is_seen(decoder):
    def spill(forward, tokens, position, caches):
        caches[1][1][0, 0, -1, 3] = 0.5
        return forward(tokens, position, caches)

    found = check(decoder, wrap_decode(engine_of(decoder), spill), "bf16")
    assert found["unwritten_slots_changed"] == 2  # after the prompt's steps and from empty
    assert not found["passed"]


def test_a_swapped_weight_is_seen(decoder):
    broken = build_decoder(MODEL, "fp32", "cpu", CACHE)
    first, second = broken.layers[0].o_proj.weight, broken.layers[1].o_proj.weight
    first.data, second.data = second.data, first.data
    found = check(decoder, engine_of(broken), "bf16")
    assert found["prefill_error"] > found["tolerance"]
    assert not found["passed"]


def test_an_executed_but_different_choice_is_seen_outside_ties(decoder):
    def shift(forward, tokens, position, caches):
        logits, token = forward(tokens, position, caches)
        worst = logits.argmax(dim=-1)
        logits = logits.clone()
        logits[torch.arange(2), worst] -= 5
        return logits, token

    found = check(decoder, wrap_decode(engine_of(decoder), shift))
    assert found["top1_disagreements"] > 0
    assert any("top-1" in failure for failure in found["failures"])


def test_short_outputs_leave_nothing_to_decode(decoder):
    engine = make_engine("eager", decoder, 2, PROMPT, PROMPT)
    reference = make_engine("eager", decoder, 2, PROMPT, PROMPT)
    prompt = torch.zeros(2, PROMPT, dtype=torch.int64)
    found = agreement.check(
        engine, reference, agreement.Inputs.random(MODEL.vocab_size, prompt, 0), "fp32"
    )
    assert found["passed"]
    assert found["decode_error"] is None


def test_tolerance_grows_with_the_square_root_of_the_depth():
    assert agreement.tolerance_of("bf16", 2) == agreement.tolerance_of("bf16", 32) == 0.03
    assert agreement.tolerance_of("bf16", 128) == pytest.approx(0.06)
