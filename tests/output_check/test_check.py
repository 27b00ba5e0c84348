"""The check passes what is right, and says what is wrong: before the timing and in timed runs."""

import dataclasses

import pytest
import torch
from step_engines import make_engine as make_step_engine

from inference_benchmark.engines.step_engine import StepEngine
from inference_benchmark.model.weights import build_decoder
from inference_benchmark.models import MODELS
from inference_benchmark.output_check import (
    TimedRun,
    check_before,
    check_timed_runs,
    combine,
    merge,
)

PROMPT, OUTPUT = 20, 24
MODEL = MODELS["llama-tiny"].with_layers(2)


@pytest.fixture(scope="module")
def decoder():
    return build_decoder(MODEL, "bf16", "cpu", PROMPT + OUTPUT)


def make_engine(decoder, cache_length: int = PROMPT + OUTPUT) -> StepEngine:
    return make_step_engine("eager", decoder, 2, PROMPT, cache_length)


def prompt(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(MODEL.vocab_size, (2, PROMPT), generator=generator)


def before(engine, decoder) -> dict:
    return check_before(engine, decoder, [prompt(1), prompt(2)], "bf16", seed=0)


@torch.inference_mode()
def timed_run(engine, seed: int) -> TimedRun:
    engine.prefill(prompt(seed))
    for _ in range(OUTPUT - 1):
        engine.decode()
    return TimedRun.of(engine, prompt(seed), OUTPUT)


@pytest.fixture(scope="module")
def checked(decoder):
    engine = make_engine(decoder)
    return engine, before(engine, decoder)


def test_an_unchanged_mode_passes_far_from_its_limits(decoder, checked):
    engine, record = checked
    assert record["passed"], record["failures"]
    assert record["checked"] == ["tokens", "logits", "cache"]
    assert record["steps"] == OUTPUT
    assert record["routing_difference"] is None
    errors = {
        measure: finding["error"] / finding["limit"]
        for measure, finding in record["measured"].items()
    }
    assert max(errors.values()) < 0.7, errors
    assert 0 < record["floor"] < record["tolerance"] < 0.05
    assert (engine.tokens == -1).all()


def test_timed_runs_pass_and_the_cache_of_the_last_is_looked_at(decoder, checked):
    engine, first = checked
    runs = [timed_run(engine, 3), timed_run(engine, 4)]
    after = check_timed_runs(engine, decoder, runs, "bf16", first)
    assert after["passed"], after["failures"]
    assert after["replayed_runs"] == 2
    assert after["replayed_cache"]
    record = merge(first, after)
    assert record["passed"]
    assert record["seconds"] == first["seconds"] + after["seconds"]
    assert "floors" not in record


def test_a_cache_that_another_run_has_written_is_not_held_against_this_one(decoder, checked):
    engine, first = checked
    run = timed_run(engine, 3)
    timed_run(engine, 4)
    after = check_timed_runs(engine, decoder, [run], "bf16", first)
    assert after["passed"]
    assert not after["replayed_cache"]


def test_a_kept_run_is_not_changed_by_the_next(decoder, checked):
    engine, _ = checked
    run = timed_run(engine, 3)
    kept = run.tokens.clone()
    timed_run(engine, 4)
    assert torch.equal(run.tokens, kept)


def test_one_wrong_token_of_a_timed_run_is_seen(decoder, checked):
    engine, first = checked
    run = timed_run(engine, 3)
    tokens = run.tokens.clone()
    tokens[1, 7] = (tokens[1, 7] + 500) % MODEL.vocab_size
    run = dataclasses.replace(run, tokens=tokens)
    after = check_timed_runs(engine, decoder, [run], "bf16", first)
    assert not after["passed"]
    assert any("sequence 1, token" in text for text in after["failures"])
    assert not merge(first, after)["passed"]


def test_a_wrong_end_and_missing_tokens_are_seen(decoder, checked):
    engine, first = checked
    run = timed_run(engine, 3)
    late = dataclasses.replace(run, final_position=run.final_position + 1)
    (text,) = check_timed_runs(engine, decoder, [late], "bf16", first)["failures"]
    assert f"ended at position {PROMPT + OUTPUT}, not {PROMPT + OUTPUT - 1}" in text
    tokens = run.tokens.clone()
    tokens[0, 3] = -1
    missing = dataclasses.replace(run, tokens=tokens)
    (text,) = check_timed_runs(engine, decoder, [missing], "bf16", first)["failures"]
    assert "1 of 48 tokens are missing" in text


def test_a_slot_that_was_overwritten_in_a_timed_run_is_seen(decoder, checked):
    engine, first = checked
    run = timed_run(engine, 3)
    engine.caches[1][0][1, 1, 5] = engine.caches[1][0][1, 1, 6]
    after = check_timed_runs(engine, decoder, [run], "bf16", first)
    assert not after["passed"]
    assert any("layer 1, keys, sequence 1, head 1, slot 5" in text for text in after["failures"])


def test_short_outputs_leave_nothing_to_decode(decoder):
    engine = make_engine(decoder, cache_length=PROMPT)
    record = before(engine, decoder)
    assert record["passed"], record["failures"]
    assert record["decode_error"] is None


def test_one_output_token_can_be_replayed(decoder):
    engine = make_engine(decoder, cache_length=PROMPT + 1)
    record = before(engine, decoder)
    assert record["passed"], record["failures"]
    with torch.inference_mode():
        engine.prefill(prompt(3))
    run = TimedRun.of(engine, prompt(3), 1)
    assert check_timed_runs(engine, decoder, [run], "bf16", record)["passed"]


def test_of_several_ranks_the_worst_counts(checked):
    _, record = checked
    worse = dict(record, passed=False, failures=["x 2 over 1"], cache_error=9.0)
    measure = "prompt: cache"
    worse["measured"] = record["measured"] | {
        measure: dict(record["measured"][measure], error=None)
    }
    both = combine([record, worse])
    assert not both["passed"]
    assert both["failures"] == ["rank 1: x 2 over 1"]
    assert both["cache_error"] == 9.0
    assert both["measured"][measure]["error"] is None
    assert combine([record]) is record
