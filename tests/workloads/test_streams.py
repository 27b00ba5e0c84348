"""Generation by an engine with a loop of its own: what is timed, asserted and checked."""

import pytest
import torch
from streaming import EagerStream

from inference_benchmark.engines.stream_engine import WrongCount
from inference_benchmark.model.weights import build_decoder
from inference_benchmark.models import MODELS
from inference_benchmark.output_check import check_timed_runs, merge
from inference_benchmark.workloads.base import CheckContext, Run
from inference_benchmark.workloads.generation import Generation
from inference_benchmark.workloads.inputs import random_tokens

MODEL = MODELS["llama-tiny"].with_layers(2)
INPUT, OUTPUT = 20, 24
WORKLOAD = Generation(INPUT, OUTPUT)


@pytest.fixture(scope="module")
def decoder():
    return build_decoder(MODEL, "bf16", "cpu", INPUT + OUTPUT)


def prompts(run: int) -> torch.Tensor:
    return random_tokens(MODEL.vocab_size, 2, INPUT, 0, run, "cpu")


def engine_of(decoder, **faults) -> EagerStream:
    return EagerStream(decoder, 2, INPUT, OUTPUT, **faults)


def check(engine, decoder) -> dict:
    return WORKLOAD.check(engine, CheckContext(decoder, "bf16", 0, prompts))


def replace_token(step: int):
    def fault(tokens):
        if len(tokens[0]) > step:
            tokens[1][step] = (tokens[1][step] + 1) % MODEL.vocab_size

    return fault


def test_gaps_are_those_between_the_tokens(decoder):
    run = WORKLOAD.time(engine_of(decoder), None, prompts(0))
    times = WORKLOAD.times(run)
    assert times["ttft_s"] == pytest.approx(0.001)
    assert times["tbot_s"] == pytest.approx(0.001)
    assert times["total_s"] == pytest.approx(0.001 * OUTPUT)
    assert len(WORKLOAD.steps(run)["step_s"]) == OUTPUT - 1


def test_of_a_total_alone_there_is_no_ttft():
    assert WORKLOAD.times(Run([2.5], 2.5)) == {"total_s": 2.5}
    assert WORKLOAD.samples([Run([2.5], 2.5)])["metrics"]["ttft_s"] == []
    assert Generation(INPUT, 1).times(Run([2.5], 2.5)) == {"ttft_s": 2.5, "total_s": 2.5}


def test_another_number_of_tokens_is_no_run(decoder):
    engine = engine_of(decoder, token_fault=lambda tokens: tokens[1].pop())
    with pytest.raises(WrongCount, match=r"24 tokens were asked for .* made \[24, 23\]"):
        WORKLOAD.time(engine, None, prompts(0))


def test_right_tokens_and_logits_pass(decoder):
    engine = engine_of(decoder)
    before = check(engine, decoder)
    assert before["passed"], before["failures"]
    assert before["checked"] == ["tokens", "logits"]
    WORKLOAD.time(engine, None, prompts(3))
    output = WORKLOAD.keep_output(engine, prompts(3))
    after = check_timed_runs(engine, decoder, [output], "bf16", before)
    record = merge(before, after)
    assert record["passed"]
    assert (record["replayed_runs"], record["replayed_cache"]) == (1, False)


@pytest.mark.parametrize("step", [0, 1, OUTPUT - 1])
def test_one_wrong_token_fails_the_check_before_and_after(decoder, step):
    wrong = engine_of(decoder, token_fault=replace_token(step))
    assert any("below the best" in text for text in check(wrong, decoder)["failures"])
    before = check(engine_of(decoder), decoder)
    WORKLOAD.time(wrong, None, prompts(3))
    output = WORKLOAD.keep_output(wrong, prompts(3))
    assert not check_timed_runs(wrong, decoder, [output], "bf16", before)["passed"]


def test_the_prompt_of_another_sequence_fails(decoder):
    engine = engine_of(decoder, token_fault=lambda tokens: tokens.reverse())
    assert not check(engine, decoder)["passed"]


@pytest.mark.parametrize(
    ("fault", "phrase"),
    [
        (lambda logits: logits * 1.05, "a row of logits"),
        (lambda logits: logits.roll(1, dims=1), "a row of logits"),
        (lambda logits: logits[:, :-1], "logits of shape"),
        (lambda logits: logits.index_fill(2, torch.arange(128, 192), 0.0), "a block"),
    ],
)
def test_wrong_logits_fail(decoder, fault, phrase):
    record = check(engine_of(decoder, logit_fault=fault), decoder)
    assert any(phrase in text for text in record["failures"])
