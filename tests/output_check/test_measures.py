"""What the check measures, against values computed by hand."""

import math

import pytest
import torch

from inference_benchmark.model.config import Precision
from inference_benchmark.model.weights import build_decoder
from inference_benchmark.models import MODELS
from inference_benchmark.output_check.choice import wrong_choices
from inference_benchmark.output_check.errors import (
    CacheErrors,
    Finding,
    block_error,
    relative_error,
    worst,
)
from inference_benchmark.output_check.memory import replay_bytes, sequences_at_a_time
from inference_benchmark.output_check.needles import Plant, step_positions
from inference_benchmark.output_check.recording import evenly
from inference_benchmark.output_check.reference import Reference
from inference_benchmark.output_check.timed import Floor, TimedRun, _Ties, slices
from inference_benchmark.output_check.tolerances import FACTORS, combined_noise, most_ties

TINY = MODELS["llama-tiny"].with_layers(2)

NO_TOKENS = torch.zeros(1, 1, dtype=torch.int64)
RUN = TimedRun(NO_TOKENS, NO_TOKENS, 1)


def test_relative_error_of_vectors():
    expected = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]])
    computed = torch.tensor([[3.0, 4.5], [0.0, 0.0], [math.nan, 0.0]])
    assert relative_error(computed, expected).tolist() == [pytest.approx(0.1), 0.0, math.inf]


def test_a_block_of_the_vocabulary_that_is_zero_is_wrong_by_its_own_size():
    expected = torch.ones(1, 100)
    computed = expected.clone()
    computed[0, 64:] = 0
    assert block_error(computed, expected)[0, 0].tolist() == [0.0, pytest.approx(1.0)]


def test_the_worst_of_each_kind_is_kept():
    findings = [
        Finding("a", 1.0, 2.0, None),
        Finding("a", 3.0, 4.0, None),
        Finding("b", 1.0, 0.5, 0),
    ]
    assert [(finding.measure, finding.error) for finding in worst(findings)] == [
        ("a", 3.0),
        ("b", 1.0),
    ]
    assert findings[2].phrase == "b 1 over 0.5"
    assert not findings[2].passed


def test_a_wrong_head_of_a_slot_is_named():
    exact = torch.randn(2, 3, 8, 64, generator=torch.Generator().manual_seed(0))
    eager = exact * 1.001
    computed = exact * 0.9995
    errors = CacheErrors(first_slot=100)
    errors.add(4, 1, computed, eager, exact)
    assert all(finding.passed for finding in errors.findings("x", FACTORS["bf16"], {}))
    computed[1, 2, 5] = 0
    errors = CacheErrors(first_slot=100)
    errors.add(4, 1, computed, eager, exact)
    failed = {
        finding.measure: finding.at
        for finding in errors.findings("x", FACTORS["bf16"], {})
        if not finding.passed
    }
    assert failed["x: a cache slot"] == "layer 4, values, sequence 1, head 2, slot 105"
    assert failed["x: cache of a head"] == "layer 4, values, head 2"


def test_a_floor_of_another_part_serves_where_there_is_no_exact_one():
    eager = torch.ones(1, 1, 1, 4)
    errors = CacheErrors()
    errors.add(0, 0, eager * 1.01, eager, None)
    known = {(0, 0): (0.02, 0.02)}
    assert all(finding.passed for finding in errors.findings("x", FACTORS["bf16"], known))
    assert not all(finding.passed for finding in errors.findings("x", FACTORS["bf16"], {}))


def test_chosen_tokens_are_held_against_their_own_logits():
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 3.0, 0.0], [math.nan, 1.0, 0.0]])
    assert (
        int(wrong_choices(logits, torch.tensor([[1], [0], [1]]), None, None)) == 1
    )  # of a NaN nothing is best
    assert int(wrong_choices(logits[:2], torch.tensor([[2], [1]]), None, None)) == 1


def test_near_ties_are_allowed_as_often_as_they_are_expected():
    floor = Floor(0.01, 0.01, {})
    noise = combined_noise(0.01, "bf16")
    assert noise == pytest.approx(0.01 * math.hypot(1, FACTORS["bf16"].mean))
    logits = torch.zeros(1, 200, 50)
    logits[..., 0], logits[..., 1] = 5.0, 5.0 - 1e-6
    tokens = torch.ones(1, 200, dtype=torch.int64)
    tokens[:, :100] = 0
    ties = _Ties(floor, "bf16", None, RUN)
    ties.add(logits, tokens, 0, 0)
    below, differing = ties.findings("x")
    assert below.passed
    assert differing.error == 100
    assert differing.limit == pytest.approx(most_ties(100), rel=1e-3)
    tokens[0, 150] = 7  # a token far below the best
    ties = _Ties(floor, "bf16", None, RUN)
    ties.add(logits, tokens, 3, 40)
    below, _ = ties.findings("x")
    assert not below.passed
    assert below.at == "sequence 3, token 190"


def test_clear_choices_may_not_differ():
    logits = torch.zeros(1, 50, 50)
    logits[..., 0] = 5.0
    ties = _Ties(Floor(0.01, 0.01, {}), "bf16", None, RUN)
    ties.add(logits, torch.zeros(1, 50, dtype=torch.int64), 0, 0)
    assert ties.findings("x")[1].limit == pytest.approx(2.0)


def test_the_exact_reference_is_that_of_widened_weights():
    """Against the whole model in fp64, made from the same bf16 weights."""
    narrow = build_decoder(TINY, "bf16", "cpu", 16)
    wide = build_decoder(TINY, "bf16", "cpu", 16).double()
    tokens = torch.randint(TINY.vocab_size, (2, 16), generator=torch.Generator().manual_seed(1))
    logits = []
    for reference in (Reference.exact(narrow), Reference(wide, torch.float64), Reference(narrow)):
        stream = reference.stream(tokens)
        for index in range(2):
            stream.layer(index, reference.empty_cache(index, 2, 16))
        ((_, of_last),) = stream.logits([15])
        logits.append(of_last.double())
    exact, expected, eager = logits
    assert (exact - expected).norm() < 1e-5 * expected.norm()
    assert (eager - expected).norm() > 1e-3 * expected.norm()


def test_needles_dominate_and_are_planted_alike():
    plant = Plant(TINY.layers, 40, [20, 38], seed=3)
    caches = [tuple(torch.empty(2, 2, 40, 64) for _ in range(2)) for _ in range(2)]
    for cache in caches:
        plant.fill(0, cache)
    assert torch.equal(caches[0][0], caches[1][0])
    keys = caches[0][0][:, 0].norm(dim=-1)  # of the kind that has the first slot and the last
    large = (keys > 5 * keys.median()).all(dim=0).nonzero().flatten().tolist()
    assert large == [0, 19, 37]


def test_positions_reach_from_short_contexts_to_the_last_step():
    positions = step_positions(1000, 2000, seed=0)
    assert {17, 1000, 1150, 1997, 1998} <= set(positions)
    assert all(1 <= position <= 1999 for position in positions)
    assert step_positions(1, 3, seed=0) == [1, 2]


def test_logits_are_kept_as_far_as_they_fit():
    assert evenly(33, 1, 128256, 2) == 1
    assert evenly(33, 256, 128256, 2) == 11  # 3 of them are 200 MB


def test_sequences_are_replayed_in_slices_of_a_prefill():
    assert sequences_at_a_time(32, 1000, 2000) == 16
    assert sequences_at_a_time(1, 1000, 2000) == 1
    assert slices(5, 1000, 2000) == [slice(0, 2), slice(2, 4), slice(4, 5)]


def test_replay_takes_about_a_prefill_and_a_few_buffers():
    model, bf16 = MODELS["llama3.1-8b"], Precision.of("bf16")
    whole = replay_bytes(model, bf16, 1, 1000, 1000)
    assert 2e9 < whole < 5e9
    assert replay_bytes(model, bf16, 32, 1000, 1000) > whole
