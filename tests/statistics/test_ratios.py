"""Ratios of times and their verdicts: figures worked out by hand, and simulations of how often a
difference is seen where there is none."""

import math

import numpy as np
import pytest
from simulated import covered

from inference_benchmark.statistics.deviation import Deviation, spread_of
from inference_benchmark.statistics.ratios import (
    compare,
    compare_sessions,
    geometric_mean,
    single_ratio,
)
from inference_benchmark.statistics.verdicts import Ratio

# Student's t of 2 and 4 degrees, 97.5 %, from a printed table.
T_2, T_4 = 4.302653, 2.776445


class TestCompare:
    def test_paired_ratio_by_hand(self):
        baseline, candidate = [2.0, 2.2, 2.4], [1.0, 1.0, 1.0]
        logs = np.log([2.0, 2.2, 2.4])
        half = T_2 * logs.std(ddof=1) / math.sqrt(3)
        ratio = compare(baseline, candidate, paired=True)
        assert ratio.ratio == pytest.approx(math.exp(logs.mean()))
        assert np.log(ratio.ci95) == pytest.approx([logs.mean() - half, logs.mean() + half])
        assert (ratio.verdict, ratio.n_baseline, ratio.n_candidate) == ("faster", 3, 3)

    def test_paired_p_value_by_hand(self):
        # log ratios 0, 2 e, 2 e: mean 4/3 e over standard error 2/3 e, t = 2 on 2 degrees, where
        # p = 1 - t / sqrt(2 + t^2)
        ratios = np.exp([0.0, 0.002, 0.002])
        ratio = compare(list(ratios), [1.0] * 3, paired=True)
        assert ratio.p_value == pytest.approx(1 - 2 / math.sqrt(6))

    def test_unpaired_ratio_is_that_of_the_medians(self):
        ratio = compare([2.0, 2.1, 1.9, 2.0, 9.0], [1.0, 1.05, 0.95, 1.0, 1.0], paired=False)
        assert ratio.ratio == pytest.approx(2.0)
        assert ratio.ci95[0] < 2.0 < ratio.ci95[1]

    @pytest.mark.parametrize("paired", [True, False])
    @pytest.mark.parametrize(
        ("speedup", "noise", "verdict"),
        [
            (1.05, 0.002, "faster"),
            (0.95, 0.002, "slower"),
            (1.005, 0.0005, "same"),  # significant, but within the band
            (1.0, 0.05, "inconclusive"),  # may be anything
            (1.0095, 0.003, "inconclusive"),  # at the edge of the band
        ],
    )
    def test_verdict_needs_significance_and_size(self, paired, speedup, noise, verdict):
        generator = np.random.default_rng(7)
        baseline = np.exp(noise * generator.normal(size=20))
        candidate = np.exp(noise * generator.normal(size=20))
        estimate = np.median(baseline) / np.median(candidate)
        if paired:
            estimate = geometric_mean(baseline / candidate)
        ratio = compare(baseline, candidate * estimate / speedup, paired=paired)
        assert ratio.ratio == pytest.approx(speedup, rel=1e-4)
        assert ratio.verdict == verdict
        assert (ratio.runs_needed is None) == (verdict != "inconclusive")

    def test_exchanging_the_sides_mirrors_the_verdict(self):
        generator = np.random.default_rng(1)
        a, b = np.exp(0.01 * generator.normal(size=(2, 12)))
        for paired in (True, False):
            there = compare(a, b / 1.03, paired=paired)
            back = compare(b / 1.03, a, paired=paired)
            assert (there.verdict, back.verdict) == ("faster", "slower")
            assert back.ratio == pytest.approx(1 / there.ratio)

    def test_pairing_cancels_a_drift_that_hides_the_difference(self):
        drift = np.linspace(1.0, 1.3, 10)
        noise = np.exp(0.002 * np.random.default_rng(2).normal(size=(2, 10)))
        baseline, candidate = drift * noise[0], drift * noise[1] / 1.03
        assert compare(baseline, candidate, paired=True).verdict == "faster"
        assert compare(baseline, candidate, paired=False).verdict == "inconclusive"

    def test_too_few_runs_are_inconclusive_and_say_how_many_more(self):
        single = compare([1.0], [2.0], paired=True)
        assert (single.verdict, single.ci95, single.runs_needed) == ("inconclusive", None, 1)
        few = compare([1.0, 1.0, 1.0], [2.0, 2.0, 2.0], paired=False)
        assert (few.verdict, few.ci95, few.runs_needed) == ("inconclusive", None, 2)

    def test_as_many_runs_as_asked_for_settle_it(self):
        ratios = np.exp(0.02 + 0.02 * np.array([-1.0, 1.0] * 3))
        ratio = compare(ratios, np.ones(6), paired=True)
        assert ratio.verdict == "inconclusive"
        longer = np.resize(ratios, 6 + ratio.runs_needed + ratio.runs_needed % 2)
        assert compare(longer, np.ones(longer.size), paired=True).verdict == "faster"
        shorter = longer[: longer.size - 4]
        assert compare(shorter, np.ones(shorter.size), paired=True).verdict == "inconclusive"

    def test_repeated_identical_times_are_settled(self):
        assert compare([2.0] * 5, [1.0] * 5, paired=True).verdict == "faster"
        assert compare([1.0] * 5, [1.0] * 5, paired=True).verdict == "same"
        assert compare([1.0] * 6, [1.0] * 6, paired=False).verdict == "same"

    def test_wrong_input_is_refused(self):
        with pytest.raises(ValueError, match="equal lengths"):
            compare([1.0, 2.0], [1.0], paired=True)
        with pytest.raises(ValueError, match="both sides"):
            compare([], [1.0], paired=False)

    def test_single_numbers_have_no_verdict(self):
        assert single_ratio(3.0, 2.0) == Ratio(1.5, None, None, None, 1, 1)


class TestFalsePositives:
    """A mode against itself must not be called faster or slower more than 2 times in 100."""

    @pytest.mark.parametrize("noise", [0.002, 0.01, 0.05])
    @pytest.mark.parametrize("rounds", [5, 10, 40])
    def test_interleaved_under_a_drift_of_2_percent(self, noise, rounds):
        generator = np.random.default_rng(rounds)
        drift = 1 + 0.02 * np.arange(2 * rounds) / (2 * rounds - 1)
        places = np.arange(2 * rounds).reshape(rounds, 2)
        places[1::2] = places[1::2, ::-1]  # A B, B A, A B, ...
        times = drift * np.exp(noise * generator.normal(size=(600, 2 * rounds)))
        verdicts = [
            compare(row[places[:, 0]], row[places[:, 1]], paired=True).verdict for row in times
        ]
        assert np.isin(verdicts, ["faster", "slower"]).mean() < 0.02

    @pytest.mark.parametrize("noise", [0.01, 0.05])
    def test_runs_of_separate_files(self, noise):
        generator = np.random.default_rng(5)
        times = np.exp(noise * generator.normal(size=(400, 2, 10)))
        ratios = [compare(a, b, paired=False, band=0.02) for a, b in times]
        wrong = [ratio.verdict in ("faster", "slower") for ratio in ratios]
        assert np.mean(wrong) < 0.02
        assert covered((ratio.ci95 for ratio in ratios), 1.0) >= 0.94

    def test_sessions_that_differ_by_themselves(self):
        generator = np.random.default_rng(6)
        shift = np.exp(0.03 * generator.normal(size=(400, 2, 4, 1)))
        times = shift * np.exp(0.001 * generator.normal(size=(400, 2, 4, 10)))
        wrong = [compare_sessions(a, b).verdict in ("faster", "slower") for a, b in times]
        assert np.mean(wrong) < 0.05
        by_runs = [compare(a[0], b[0], paired=False, band=0.02).verdict for a, b in times]
        assert np.isin(by_runs, ["faster", "slower"]).mean() > 0.3  # why the session is the unit


class TestSessions:
    def test_two_sample_t_on_the_medians_by_hand(self):
        baseline = [[math.e**2.1, 1.0, 99.0], [math.e**2.0] * 5, [math.e**1.9]]
        candidate = [[math.e**1.1], [math.e**1.0], [math.e**0.9]]
        ratio = compare_sessions([sorted(runs) for runs in baseline], candidate)
        half = T_4 * 0.1 * math.sqrt(2 / 3)  # variance 0.01 on each side
        assert np.log(ratio.ci95) == pytest.approx([1 - half, 1 + half], rel=1e-6)
        assert (ratio.n_baseline, ratio.n_candidate, ratio.verdict) == (3, 3, "faster")

    def test_one_session_may_face_several(self):
        ratio = compare_sessions([[1.0] * 3], [[0.5] * 3, [0.51] * 3, [0.49] * 3, [0.5] * 3])
        assert (ratio.n_baseline, ratio.n_candidate, ratio.verdict) == (1, 4, "faster")

    def test_one_per_side_allows_for_the_default_deviation(self):
        runs = [1.0] * 10
        ratio = compare_sessions([runs], [[1 / 1.05] * 10])
        error = 0.013 * math.sqrt(2)
        assert ratio.standard_error == pytest.approx(error)
        half = 1.959964 * error
        assert np.log(ratio.ci95) == pytest.approx(np.log(1.05) + np.array([-half, half]))
        assert (ratio.n_baseline, ratio.band, ratio.verdict) == (1, 0.02, "faster")
        assert ratio.deviation.source.startswith("default")
        # 3.5 % is 1.87 errors: other sessions may differ by as much
        small = compare_sessions([runs], [[1 / 1.035] * 10])
        assert (small.verdict, small.runs_needed) == ("inconclusive", 3)

    def test_saved_sets_replace_the_default(self):
        runs, candidate = [1.0] * 10, [1 / 1.015] * 10
        saved = spread_of([[[math.exp(0.001 * i)] * 10 for i in (-2, -1, 0, 1, 2)]])
        ratio = compare_sessions([runs], [candidate], saved=saved)
        assert ratio.deviation == Deviation(
            pytest.approx(math.sqrt(10 / 4) * 0.001), 4, "5 saved sessions"
        )
        half = T_4 * ratio.deviation.share * math.sqrt(2)
        assert np.log(ratio.ci95[0]) == pytest.approx(np.log(1.015) - half)
        assert compare_sessions([runs], [[1.0] * 9], saved=saved).verdict == "same"

    def test_noisy_runs_widen_what_saved_sets_say(self):
        quiet = spread_of([[[math.exp(0.001 * i)] * 10 for i in range(5)]])
        noisy = [0.9, 1.0, 1.1, 0.9, 1.0, 1.1]
        still = compare_sessions([[1.0] * 6], [[0.95] * 6], saved=quiet)
        loud = compare_sessions([noisy], [[0.95] * 6], saved=quiet)
        assert loud.standard_error > 5 * still.standard_error
        assert (still.verdict, loud.verdict) == ("faster", "inconclusive")

    def test_a_single_run_a_side_is_no_evidence(self):
        ratio = compare_sessions([[1.0]], [[0.5]])
        assert (ratio.verdict, ratio.ci95) == ("inconclusive", None)


def test_geometric_mean():
    assert geometric_mean([0.5, 2.0, 8.0]) == pytest.approx(2.0)
    assert geometric_mean([]) is None
