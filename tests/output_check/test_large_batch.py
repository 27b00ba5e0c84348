"""Of a large batch some sequences are compared before the timing, and all of them after it."""

import pytest
import torch
from step_engines import make_engine

from inference_benchmark.model.weights import build_decoder
from inference_benchmark.models import MODELS
from inference_benchmark.output_check import check_before, check_timed_runs
from inference_benchmark.output_check.sequences import compared_blocks, compared_rows
from inference_benchmark.output_check.timed import TimedRun
from inference_benchmark.workloads.inputs import random_tokens

BATCH, INPUT, OUTPUT = 20, 24, 8


@pytest.fixture(scope="module")
def decoder():
    model = MODELS["llama-tiny"].with_layers(1)
    return build_decoder(model, "fp32", "cpu", INPUT + OUTPUT)


def prompts(number: int):
    return random_tokens(1000, BATCH, INPUT, 0, number, "cpu")


def before(decoder, engine) -> dict:
    return check_before(engine, decoder, [prompts(1), prompts(2)], "fp32", 0)


def test_blocks_hold_the_first_and_the_last_sequence():
    assert compared_blocks(16) == []
    assert compared_rows(16) == slice(None)
    assert compared_rows(256) == [
        0,
        1,
        2,
        3,
        84,
        85,
        86,
        87,
        168,
        169,
        170,
        171,
        252,
        253,
        254,
        255,
    ]


def test_a_valid_engine_passes(decoder):
    engine = make_engine("eager", decoder, BATCH, INPUT, INPUT + OUTPUT)
    record = before(decoder, engine)
    assert record["passed"], record["failures"]


def test_a_fault_of_a_sequence_between_the_blocks_is_seen_in_the_timed_run(decoder):
    engine = make_engine("eager", decoder, BATCH, INPUT, INPUT + OUTPUT)
    healthy = engine.run_decoder
    row = next(row for row in range(BATCH) if row not in compared_rows(BATCH))

    def faulty(tokens, *rest):
        logits, token, *choices = healthy(tokens, *rest)
        token = token.clone()
        token[row] = (token[row] + 1) % 1000
        return logits, token, *choices

    first = before(decoder, engine)
    engine.run_decoder = faulty
    engine.reset()
    with torch.inference_mode():
        engine.prefill(prompts(0))
        for _ in range(OUTPUT - 1):
            engine.decode()
    run = TimedRun.of(engine, prompts(0), OUTPUT)
    record = check_timed_runs(engine, decoder, [run], "fp32", first)
    assert not record["passed"]
    assert any(f"sequence {row}" in text for text in record["failures"])
