"""Depth: what a run is made of, what it costs, and that its output check sees the context."""

import dataclasses
import json
import re

import pytest
import torch
from programs import FEW
from programs import TINY as TINY_FLAGS
from programs import run as run_program
from scripted import PASSED, whole_session
from step_engines import make_engine

from inference_benchmark.engines.eager import EagerEngine
from inference_benchmark.errors import RequestError
from inference_benchmark.hardware import Ceilings
from inference_benchmark.model.config import Precision
from inference_benchmark.model.weights import build_decoder
from inference_benchmark.models import MODELS
from inference_benchmark.options.flags import make_parser
from inference_benchmark.options.resolution import resolve
from inference_benchmark.system.clock import CLOCKS
from inference_benchmark.workloads.base import CheckContext, Run
from inference_benchmark.workloads.depth import Depth
from inference_benchmark.workloads.generation import Generation

LLAMA, BF16 = MODELS["llama3.1-8b"], Precision.of("bf16")
TINY = MODELS["llama-tiny"].with_layers(2)
BATCH, DEPTH, FURTHER, STEPS = 2, 70, 24, 10
WORKLOAD = Depth(FURTHER, STEPS, DEPTH)


def test_the_time_to_go_back_belongs_to_neither_phase():
    run = Run([0.3, 0.5, 0.01, 0.03], 0.9)
    assert Depth(512, 2, 1024).times(run) == {
        "prefill_s": 0.3,
        "tbot_s": pytest.approx(0.02),
        "decode_s": pytest.approx(0.04),
        "total_s": pytest.approx(0.34),
    }
    assert Depth(512, 2, 1024).steps(run) == {"step_s": [0.01, 0.03]}


def test_the_cost_is_that_of_the_context():
    cost = Depth(512, 128, 4096).cost(LLAMA, BF16, 2)
    shallow = Depth(512, 128, 0).cost(LLAMA, BF16, 2)
    # each of 2 x 512 tokens attends to 4096 more: 4 FLOPs x 32 heads x 128, in 32 layers
    more = 2 * 512 * 4096 * 4 * 32 * 128 * 32
    prefill, decode = cost.phases["prefill"], cost.phases["decode"]
    assert prefill.flops - shallow.phases["prefill"].flops == more
    assert prefill.attention_flops - shallow.phases["prefill"].attention_flops == more
    # keys and values of 4096 more tokens a sequence, 128 KiB each, read once in either phase
    context_bytes = 2 * 4096 * 128 * 1024
    assert prefill.bytes - shallow.phases["prefill"].bytes == context_bytes
    assert decode.bytes - shallow.phases["decode"].bytes == pytest.approx(context_bytes)
    assert shallow.phases["prefill"] == Generation(512, 2).cost(LLAMA, BF16, 2).phases["prefill"]
    # a generation after a prompt of so many tokens has the same decode steps, but for the first
    same = Generation(4096, 129).cost(LLAMA, BF16, 2).phases["decode"]
    assert decode.bytes == pytest.approx(same.bytes)
    assert cost.bound(Ceilings(4.8e12, 989e12, "datasheet"))["tbot_s"] == "bandwidth"


def test_a_chunk_that_ended_at_the_depth_is_not_read():
    scout = MODELS["llama4-scout"].with_layers(1)  # chunks of 8192 tokens
    kv_bytes = scout.kv_bytes_per_token(BF16)
    at_edge, behind = (scout.prefill_bytes(BF16, 1, 512, depth) for depth in (8192, 8292))
    assert at_edge == scout.prefill_bytes(BF16, 1, 512)
    assert behind - at_edge == 100 * kv_bytes


# The check


@pytest.fixture(scope="module")
def decoder():
    return build_decoder(TINY, "bf16", "cpu", WORKLOAD.cache_length)


@pytest.fixture
def context(decoder):
    return CheckContext(decoder, "bf16", 5, lambda run: inputs_of(run))


def inputs_of(run: int):
    return WORKLOAD.inputs(TINY.vocab_size, BATCH, 5, run, "cpu")


def open_engine(decoder, engine_class: type = EagerEngine):
    plan = make_engine(
        "eager", decoder, BATCH, FURTHER, WORKLOAD.cache_length, context_depth=DEPTH
    ).plan
    from inference_benchmark.engines.base import Resources

    return engine_class(plan, Resources(decoder))


def timed(engine, number: int):
    inputs = inputs_of(number)
    WORKLOAD.before_run(engine, inputs)
    WORKLOAD.time(engine, CLOCKS["wall"], inputs)
    return WORKLOAD.keep_output(engine, inputs)


@pytest.fixture(scope="module")
def checked(decoder):
    engine = open_engine(decoder)
    record = WORKLOAD.check(engine, CheckContext(decoder, "bf16", 5, inputs_of))
    return engine, record


def test_an_unchanged_mode_passes_far_from_its_limits(checked):
    _, record = checked
    assert record["passed"], record["failures"]
    errors = {
        measure: finding["error"] / finding["limit"]
        for measure, finding in record["measured"].items()
    }
    assert max(errors.values()) < 0.7, errors


def test_timed_runs_pass_in_both_phases(checked, context):
    engine, record = checked
    outputs = [timed(engine, 0), timed(engine, 1)]
    after = WORKLOAD.check_timed(engine, context, outputs, record)
    assert after["passed"], after["failures"]
    assert (after["replayed_runs"], after["replayed_cache"]) == (2, True)


def test_a_wrong_token_of_either_phase_is_seen(checked, context):
    engine, record = checked
    prefill, decode = timed(engine, 0)
    for part in (prefill, decode):
        tokens = part.tokens.clone()
        tokens[1, -1] = (tokens[1, -1] + 500) % TINY.vocab_size
        wrong = dataclasses.replace(part, tokens=tokens)
        output = (wrong, decode) if part is prefill else (prefill, wrong)
        after = WORKLOAD.check_timed(engine, context, [output], record)
        assert any("sequence 1, token" in text for text in after["failures"])


@pytest.mark.parametrize("slot", [3, DEPTH + STEPS + 2], ids=["context", "prefill"])
def test_a_slot_that_was_overwritten_in_a_timed_run_is_seen(checked, context, slot):
    engine, record = checked
    outputs = [timed(engine, 0)]
    engine.caches[1][0][1, 1, slot] = engine.caches[1][0][1, 1, slot + 1]
    after = WORKLOAD.check_timed(engine, context, outputs, record)
    assert not after["passed"]


class _BlindToSlots(EagerEngine):
    """Its prefill sees nothing in a few slots of the context."""

    @torch.inference_mode()
    def prefill(self, input_ids):
        kept = [[tensor[:, :, :4].clone() for tensor in cache] for cache in self.caches]
        for cache in self.caches:
            cache[0][:, :, :4] = 0
        super().prefill(input_ids)
        for cache, before in zip(self.caches, kept, strict=True):
            for tensor, values in zip(cache, before, strict=True):
                tensor[:, :, :4] = values


class _FromTheStart(EagerEngine):
    """Its prompts stand in the first slots, whatever is there."""

    @property
    def forward_options(self):
        return super().forward_options | {"context_depth": 0}


class _OneTooFar(EagerEngine):
    @property
    def forward_options(self):
        return super().forward_options | {"context_depth": self.plan.context_depth + 1}


@pytest.mark.parametrize("engine_class", [_BlindToSlots, _FromTheStart, _OneTooFar])
def test_a_prefill_that_misses_its_context_is_seen(decoder, context, engine_class):
    assert not WORKLOAD.check(open_engine(decoder, engine_class), context)["passed"]


# In a session


def test_a_row_per_depth_as_soon_as_it_is_known(monkeypatch, capsys):
    monkeypatch.setattr(Depth, "check", lambda self, engine, *_: PASSED)
    run = whole_session(monkeypatch, capsys)
    flags = ("--depth", "0", "4096", "--batch-size", "1", "2", "--num-iterations", "6")
    code, out, result = run({}, *flags, "--warmup-iterations", "0", "--mode", "eager")
    assert code == 0
    cells = result["cells"]
    labels = ["eager b1 d0", "eager b2 d0", "eager b1 d4096", "eager b2 d4096"]
    assert [cell["label"] for cell in cells] == labels
    assert [cell["name"]["context_depth"] for cell in cells] == [0, 0, 4096, 4096]
    assert result["workload"]["name"] == result["config"]["workload"] == "depth"
    assert all(label in out for label in labels)
    limits = [cell["limit"]["metrics"]["tbot_s"] for cell in cells[::2]]
    assert limits[1] - limits[0] == pytest.approx(4096 * 128 * 1024 / 4.8e12)


def test_the_command_line_measures_and_checks_it():
    lengths = ("--depth", "0", "40", "--input-length", "20", "--output-length", "6")
    done = run_program(*TINY_FLAGS, "--mode", "eager", *lengths, *FEW, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    for cell, depth in zip(result["cells"], (0, 40), strict=True):
        assert cell["label"] == f"eager b1 d{depth}"
        assert cell["output_check"]["passed"]
        assert (cell["output_check"]["replayed_runs"], cell["summary"]["n"]) == (2, 3)
        assert cell["output_check"]["replayed_cache"]
        assert set(cell["samples"]["metrics"]) == {"prefill_s", "tbot_s", "decode_s", "total_s"}
        assert [len(steps) for steps in cell["samples"]["steps"]["step_s"]] == [6, 6, 6]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--depth", "0", "--scenario", "chat"], "--depth and --scenario exclude each other"),
        (["--depth", "0", "--workload", "forward"], "--depth does nothing for --workload forward"),
        (["--workload", "depth"], "--workload depth needs --depth"),
        (["--depth", "8192"], "depth 8192 + 512 input + 128 output tokens = 8832"),
    ],
)
def test_what_makes_no_sense_is_refused(flags, words):
    with pytest.raises(RequestError, match=re.escape(words)):
        resolve(make_parser().parse_args(["--device", "cpu", "--mode", "eager", *flags]))
