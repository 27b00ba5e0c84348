"""Summaries of runs and percentiles of steps: given only where the sample carries them."""

import math

import numpy as np
import pytest
from simulated import STEPS, covered, simulated_steps

from inference_benchmark.statistics.intervals import log_mean_interval
from inference_benchmark.statistics.summaries import step_percentiles, summarize

T_3 = 3.182446  # Student's t of 3 degrees, 97.5 %, from a printed table


@pytest.fixture(scope="module")
def steps() -> np.ndarray:
    return simulated_steps()


class TestSummary:
    def test_by_hand(self):
        summary = summarize([1.0, 2.0, 3.0, 6.0])
        half = T_3 * math.sqrt(14 / 3) / 2  # squares of -2, -1, 0, 3 sum to 14
        assert summary == {
            "median": 2.5,
            "median_ci95": list(log_mean_interval([1.0, 2.0, 3.0, 6.0])),
            "mean": 3.0,
            "mean_ci95": [pytest.approx(3 - half, rel=1e-6), pytest.approx(3 + half, rel=1e-6)],
            "std": pytest.approx(math.sqrt(14 / 3)),
            "min": 1.0,
            "max": 6.0,
            "p95": None,
            "p99": None,
            "n": 4,
            "outliers": 0,
        }

    def test_empty_and_single(self):
        empty = summarize([])
        assert empty.pop("n") == empty.pop("outliers") == 0
        assert set(empty.values()) == {None}
        single = summarize([2.0])
        assert (single["median"], single["mean"], single["min"], single["max"]) == (2, 2, 2, 2)
        assert single["std"] is single["mean_ci95"] is single["median_ci95"] is None

    @pytest.mark.parametrize(("n", "has_p95", "has_p99"), [(19, 0, 0), (20, 1, 0), (100, 1, 1)])
    def test_percentiles_only_where_the_sample_carries_them(self, n, has_p95, has_p99):
        summary = summarize([float(x) for x in range(n)])
        assert (summary["p95"] is not None, summary["p99"] is not None) == (has_p95, has_p99)

    def test_outliers_are_counted_beyond_the_far_fences_and_kept(self):
        regular = [10.0, 11.0, 12.0, 13.0, 14.0]  # with one more: quartiles 11.25 and 13.75
        assert summarize([*regular, 21.0])["outliers"] == 0  # the fence stands at 21.25
        summary = summarize([*regular, 22.0])
        assert (summary["outliers"], summary["max"], summary["n"]) == (1, 22.0, 6)


class TestStepPercentiles:
    def test_pools_all_steps(self):
        percentiles = step_percentiles([[1.0] * 50, [3.0] * 49 + [9.0]])
        assert (percentiles["p50"], percentiles["p95"]) == (2.0, 3.0)
        assert percentiles["p99"] == pytest.approx(3.06)  # at rank 98.01 of 0..99
        assert percentiles["p50_ci95"] is None  # two runs carry no interval

    def test_withheld_where_the_sample_is_too_small(self):
        few = step_percentiles([[1.0] * 3] * 6)
        assert (few["p50"], few["p95"], few["p99"]) == (1.0, None, None)
        assert few["p50_ci95"] == [1.0, 1.0]
        assert set(step_percentiles([]).values()) == {None}

    def test_intervals_come_as_the_runs_grow(self, steps):
        carried = []
        for runs in (5, 6, 50, 100):
            percentiles = step_percentiles(steps.reshape(-1, STEPS)[:runs])
            carried.append([f"p{q}" for q in (50, 95, 99) if percentiles[f"p{q}_ci95"]])
        assert carried == [[], ["p50"], ["p50", "p95"], ["p50", "p95", "p99"]]

    def test_resampling_runs_is_wider_than_resampling_steps(self):
        runs = [[level] * 100 for level in (1.0, 1.1, 1.2, 1.3, 1.4, 1.5)]
        low, high = step_percentiles(runs)["p50_ci95"]
        assert low <= 1.1
        assert high >= 1.4

    def test_the_same_steps_give_the_same_interval(self, steps):
        assert step_percentiles(steps[0]) == step_percentiles(steps[0])

    def test_pooled_median_of_steps_of_six_runs_covers_the_truth(self, steps):
        truth = float(np.median(steps))
        intervals = (step_percentiles(session[:6])["p50_ci95"] for session in steps[:400])
        assert covered(intervals, truth) >= 0.9
