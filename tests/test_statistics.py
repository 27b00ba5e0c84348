"""Intervals, verdicts and stopping rules: figures worked out by hand, and simulations of how often
they are right, with fixed seeds."""

import math

import numpy as np
import pytest

from measurement.statistics import (
    Ratio,
    StoppingRule,
    WarmupRule,
    adjust_for_many,
    benjamini_hochberg,
    compare,
    compare_sessions,
    geometric_mean,
    log_mean_interval,
    median_interval,
    relative_half_width,
    single_ratio,
    step_percentiles,
    summarize,
)

# Student's t, 97.5 %, from a printed table.
T_2, T_3, T_4 = 4.302653, 3.182446, 2.776445

SESSIONS = 4000
RUNS = 10
STEPS = 40


def simulated_steps(sessions: int, runs: int, run_spread=0.01, step_spread=0.02) -> np.ndarray:
    """Step times [session, run, step]: steps of a run share its level and follow each other."""
    generator = np.random.default_rng(20260102)
    level = run_spread * generator.normal(size=(sessions, runs, 1))
    shocks = generator.normal(size=(sessions, runs, STEPS))
    steps = np.empty_like(shocks)
    steps[..., 0] = shocks[..., 0]
    for i in range(1, STEPS):  # first-order autoregression of unit variance
        steps[..., i] = 0.9 * steps[..., i - 1] + math.sqrt(1 - 0.9**2) * shocks[..., i]
    return 0.006 * np.exp(level + step_spread * steps)


@pytest.fixture(scope="module")
def steps() -> np.ndarray:
    return simulated_steps(SESSIONS, RUNS)


def covered(intervals, truth: float) -> float:
    return float(np.mean([low <= truth <= high for low, high in intervals]))


class TestIntervals:
    def test_log_mean_interval_by_hand(self):
        # logs 1, 2, 3: mean 2, standard deviation 1, standard error 1 / sqrt(3)
        low, high = log_mean_interval([math.e, math.e**2, math.e**3])
        assert math.log(low) == pytest.approx(2 - T_2 / math.sqrt(3), rel=1e-6)
        assert math.log(high) == pytest.approx(2 + T_2 / math.sqrt(3), rel=1e-6)

    def test_relative_half_width_is_half_the_interval_over_its_centre(self):
        low, high = log_mean_interval([0.99, 1.0, 1.01])
        expected = (high - low) / 2 / math.sqrt(low * high)
        assert relative_half_width([0.99, 1.0, 1.01]) == pytest.approx(expected)
        assert expected == pytest.approx(T_2 * 0.01 / math.sqrt(3), rel=1e-3)

    def test_nothing_is_said_of_one_sample(self):
        assert log_mean_interval([1.0]) is None
        assert relative_half_width([1.0]) is None
        assert median_interval([]) is None

    @pytest.mark.parametrize(
        ("n", "ranks"), [(5, None), (6, (1, 6)), (9, (2, 8)), (10, (2, 9)), (20, (6, 15))]
    )
    def test_median_interval_takes_the_ranks_of_the_binomial(self, n, ranks):
        shuffled = [float(x) for x in np.random.default_rng(0).permutation(n) + 1]
        assert median_interval(shuffled) == ranks

    def test_times_must_be_positive(self):
        with pytest.raises(ValueError, match="above 0"):
            log_mean_interval([1.0, 0.0])


class TestCoverage:
    def test_t_interval_over_runs_covers_the_truth(self, steps):
        run_times = steps.mean(axis=2)
        truth = math.exp(np.log(run_times).mean())
        assert 0.93 <= covered(map(log_mean_interval, run_times), truth) <= 0.97

    def test_an_interval_over_steps_would_not(self, steps):
        truth = math.exp(np.log(steps).mean())
        pooled = steps[:500].reshape(500, -1)
        assert covered(map(log_mean_interval, pooled), truth) < 0.5

    def test_median_interval_covers_the_truth(self, steps):
        run_times = steps.mean(axis=2)
        truth = float(np.median(run_times))
        assert covered((median_interval(times) for times in run_times), truth) >= 0.94

    def test_pooled_median_of_steps_of_six_runs_covers_the_truth(self, steps):
        truth = float(np.median(steps))
        found = (step_percentiles(session[:6])["p50_ci95"] for session in steps[:400])
        assert covered(found, truth) >= 0.9


class TestSummary:
    def test_by_hand(self):
        summary = summarize([1.0, 2.0, 3.0, 6.0])
        half = T_3 * math.sqrt(14 / 3) / 2  # squares of -2, -1, 0, 3 sum to 14
        assert summary == {
            "median": 2.5,
            "median_ci95": None,
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
        found = step_percentiles([[1.0] * 50, [3.0] * 49 + [9.0]])
        assert (found["p50"], found["p95"]) == (2.0, 3.0)
        assert found["p99"] == pytest.approx(3.06)  # at rank 98.01 of 0..99
        assert found["p50_ci95"] is None  # two runs carry no interval

    def test_withheld_where_the_sample_is_too_small(self):
        few = step_percentiles([[1.0] * 3] * 6)
        assert (few["p50"], few["p95"], few["p99"]) == (1.0, None, None)
        assert few["p50_ci95"] == [1.0, 1.0]
        assert set(step_percentiles([]).values()) == {None}

    def test_intervals_come_as_the_runs_grow(self, steps):
        carried = []
        for runs in (5, 6, 50, 100):
            found = step_percentiles(steps.reshape(-1, STEPS)[:runs])
            carried.append([f"p{q}" for q in (50, 95, 99) if found[f"p{q}_ci95"]])
        assert carried == [[], ["p50"], ["p50", "p95"], ["p50", "p95", "p99"]]

    def test_resampling_runs_is_wider_than_resampling_steps_and_repeatable(self):
        runs = [[level] * 100 for level in (1.0, 1.1, 1.2, 1.3, 1.4, 1.5)]
        low, high = step_percentiles(runs)["p50_ci95"]
        assert low <= 1.1
        assert high >= 1.4
        assert step_percentiles(runs, seed=3) == step_percentiles(runs, seed=3)


class TestCompare:
    def test_paired_ratio_by_hand(self):
        baseline, candidate = [2.0, 2.2, 2.4], [1.0, 1.0, 1.0]
        logs = np.log([2.0, 2.2, 2.4])
        half = T_2 * logs.std(ddof=1) / math.sqrt(3)
        found = compare(baseline, candidate, paired=True)
        assert found.ratio == pytest.approx(math.exp(logs.mean()))
        assert np.log(found.ci95) == pytest.approx([logs.mean() - half, logs.mean() + half])
        assert (found.verdict, found.n_baseline, found.n_candidate) == ("faster", 3, 3)

    def test_paired_p_value_by_hand(self):
        # log ratios 0, 2 e, 2 e: mean 4/3 e over standard error 2/3 e, t = 2 on 2 degrees, where
        # p = 1 - t / sqrt(2 + t^2)
        ratios = np.exp([0.0, 0.002, 0.002])
        found = compare(list(ratios), [1.0] * 3, paired=True)
        assert found.p_value == pytest.approx(1 - 2 / math.sqrt(6))

    def test_mann_whitney_by_hand(self):
        # all of one side below the other: 2 of the 252 ways to choose 5 of 10 are as extreme
        apart = compare([6.0, 7.0, 8.0, 9.0, 10.0], [1.0, 2.0, 3.0, 4.0, 5.0], paired=False)
        assert apart.p_value == pytest.approx(2 / 252)
        # U = 1 can come about in one way, U = 0 in one: 2 * 2 / 20
        assert compare([1, 2, 4], [3, 5, 6], paired=False).p_value == pytest.approx(0.2)
        # ties: U = 0.5 of 4.5, variance 9 / 12 * (7 - (8 - 2 + 8 - 2) / 30) = 4.95
        tied = compare([1, 1, 2], [2, 3, 4], paired=False)
        z = 3.5 / math.sqrt(9 / 12 * (7 - 12 / 30))
        assert tied.p_value == pytest.approx(math.erfc(z / math.sqrt(2)))
        assert compare([1, 1, 1], [1, 1, 1], paired=False).p_value == 1

    def test_unpaired_ratio_is_that_of_the_medians(self):
        found = compare([2.0, 2.1, 1.9, 2.0, 9.0], [1.0, 1.05, 0.95, 1.0, 1.0], paired=False)
        assert found.ratio == pytest.approx(2.0)
        assert found.ci95[0] < 2.0 < found.ci95[1]

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
        found = compare(baseline, candidate * estimate / speedup, paired=paired)
        assert found.ratio == pytest.approx(speedup, rel=1e-4)
        assert found.verdict == verdict
        assert (found.runs_needed is None) == (verdict != "inconclusive")

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
        found = compare(ratios, np.ones(6), paired=True)
        assert found.verdict == "inconclusive"
        longer = np.resize(ratios, 6 + found.runs_needed + found.runs_needed % 2)
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
        with pytest.raises(ValueError, match="above 0"):
            compare([1.0], [math.nan], paired=False)

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
        found = [compare(a, b, paired=False, band=0.02) for a, b in times]
        wrong = [ratio.verdict in ("faster", "slower") for ratio in found]
        assert np.mean(wrong) < 0.02
        assert covered((ratio.ci95 for ratio in found), 1.0) >= 0.94

    def test_sessions_that_differ_by_themselves(self):
        generator = np.random.default_rng(6)
        shift = np.exp(0.03 * generator.normal(size=(400, 2, 4, 1)))
        times = shift * np.exp(0.001 * generator.normal(size=(400, 2, 4, 10)))
        wrong = [compare_sessions(a, b).verdict in ("faster", "slower") for a, b in times]
        assert np.mean(wrong) < 0.02
        by_runs = [compare(a[0], b[0], paired=False, band=0.02).verdict for a, b in times]
        assert np.isin(by_runs, ["faster", "slower"]).mean() > 0.3  # why the session is the unit


class TestSessions:
    def test_two_sample_t_on_the_medians_by_hand(self):
        baseline = [[math.e**2.1, 1.0, 99.0], [math.e**2.0] * 5, [math.e**1.9]]
        candidate = [[math.e**1.1], [math.e**1.0], [math.e**0.9]]
        found = compare_sessions([sorted(runs) for runs in baseline], candidate)
        half = T_4 * 0.1 * math.sqrt(2 / 3)  # variance 0.01 on each side
        assert np.log(found.ci95) == pytest.approx([1 - half, 1 + half], rel=1e-6)
        assert (found.n_baseline, found.n_candidate, found.verdict) == (3, 3, "faster")

    def test_one_session_may_face_several(self):
        found = compare_sessions([[1.0] * 3], [[0.5] * 3, [0.51] * 3, [0.49] * 3, [0.5] * 3])
        assert (found.n_baseline, found.n_candidate, found.verdict) == (1, 4, "faster")

    def test_one_per_side_falls_back_to_the_runs_with_the_wider_band(self):
        runs = list(np.exp(0.0005 * np.random.default_rng(0).normal(size=10)))
        candidate = [time / 1.015 for time in runs]
        found = compare_sessions([runs], [candidate])
        assert (found.n_baseline, found.band, found.verdict) == (10, 0.02, "same")
        assert compare(runs, candidate, paired=False).verdict == "faster"


class TestMany:
    def test_benjamini_hochberg_by_hand(self):
        # 0.01 * 4 / 1, 0.03 * 4 / 3 (smaller than 0.025 * 4 / 2), 0.5 * 4 / 4
        found = benjamini_hochberg([0.5, 0.01, 0.03, 0.025])
        assert found == pytest.approx([0.5, 0.04, 0.04, 0.04])
        assert benjamini_hochberg([]) == []
        assert benjamini_hochberg([0.9, 0.8]) == pytest.approx([0.9, 0.9])

    def test_a_lucky_cell_among_many_is_no_longer_faster(self):
        lucky = Ratio(1.05, (1.01, 1.09), 0.008, "faster", 10, 10, standard_error=0.017)
        others = [Ratio(1.0, (0.9, 1.1), 0.5, "inconclusive", 10, 10, 50)] * 9
        first, *rest = adjust_for_many([lucky, *others, single_ratio(2.0, 1.0)])
        assert first.p_adjusted == pytest.approx(0.08)
        assert (first.p_value, first.verdict) == (0.008, "inconclusive")
        assert first.runs_needed > 0
        assert rest[0].runs_needed == 50
        assert rest[-1] == single_ratio(2.0, 1.0)
        assert adjust_for_many([lucky])[0].verdict == "faster"

    def test_an_interval_that_holds_1_is_never_a_difference(self):
        doubtful = Ratio(1.05, (0.99, 1.1), 0.001, "inconclusive", 10, 10, 5)
        assert adjust_for_many([doubtful])[0].verdict == "inconclusive"

    def test_geometric_mean(self):
        assert geometric_mean([0.5, 2.0, 8.0]) == pytest.approx(2.0)
        assert geometric_mean([]) is None


def cell(runs: int, spread: float = 0.0, tbot: bool = True) -> dict[str, list[float]]:
    times = [1.0 + (spread if i % 2 else -spread) for i in range(runs)]
    return {"ttft_s": times, "tbot_s": list(times) if tbot else []}


class TestStopping:
    def test_converges_after_ten_runs_in_every_cell(self):
        rule = StoppingRule.adaptive("cuda")
        assert rule.decide([cell(9), cell(9)], 1.0) is None
        assert rule.decide([cell(10), cell(9)], 1.0) is None
        assert rule.decide([cell(10), cell(10)], 1.0) == "converged"

    def test_waits_for_the_widest_interval_of_any_metric(self):
        rule = StoppingRule.adaptive("cuda")
        one_wide = {"ttft_s": cell(10, 0.05)["ttft_s"], "tbot_s": cell(10)["tbot_s"]}
        assert rule.decide([cell(10), one_wide], 1.0) is None
        assert rule.decide([cell(100, 0.2)], 1.0) == "max_iterations"

    def test_precision_that_is_asked_for_replaces_one_percent(self):
        wide = [cell(10, 0.02)]  # half-width 2.26 * 0.0211 / sqrt(10) = 1.5 %
        assert StoppingRule.adaptive("cuda").decide(wide, 1.0) is None
        assert StoppingRule.adaptive("cuda", target_ci=0.016).decide(wide, 1.0) == "converged"
        assert StoppingRule.adaptive("cuda", target_ci=0.014).decide(wide, 1.0) is None

    @pytest.mark.parametrize(
        ("rule", "limit_s"),
        [
            (StoppingRule.adaptive("cuda"), 600),
            (StoppingRule.adaptive("cpu"), 60),
            (StoppingRule.adaptive("cpu", max_seconds=7), 7),
        ],
    )
    def test_timeout_may_stop_below_ten_but_never_below_three(self, rule, limit_s):
        assert rule.decide([cell(3)], limit_s - 0.1) is None
        assert rule.decide([cell(3)], limit_s) == "timeout"
        assert rule.decide([cell(2)], 100 * limit_s) is None

    def test_fixed_means_exactly_that(self):
        rule = StoppingRule.fixed(2)
        assert rule.decide([cell(1)], 1e9) is None
        assert rule.decide([cell(2, 0.5)], 0.0) == "fixed"

    def test_a_metric_without_samples_sets_no_target(self):
        rule = StoppingRule.adaptive("cuda")
        assert rule.decide([cell(10, tbot=False)], 1.0) == "converged"

    def test_refuses_to_decide_on_nothing(self):
        with pytest.raises(ValueError, match="no cell"):
            StoppingRule.fixed(1).decide([], 0.0)


class TestWarmup:
    def test_ends_when_times_agree_and_nothing_was_compiled(self):
        rule = WarmupRule()
        assert not rule.decide([9.0], [5])
        assert not rule.decide([9.0, 1.0], [5, 5])
        assert not rule.decide([9.0, 1.0, 1.005], [5, 5, 6])
        assert rule.decide([9.0, 1.0, 1.005], [5, 6, 6])
        assert not rule.decide([9.0, 1.0, 1.02], [5, 5, 5])
        assert rule.decide([1.0, 1.005], [])  # a mode that can't compile

    def test_ends_after_ten_at_the_latest(self):
        times = [2.0**i for i in range(10)]
        assert not WarmupRule().decide(times[:9], list(range(9)))
        assert WarmupRule().decide(times, list(range(10)))

    def test_fixed_means_exactly_that(self):
        assert WarmupRule.fixed(0).decide([], [])
        assert not WarmupRule.fixed(3).decide([1.0, 1.0], [0, 0])
        assert WarmupRule.fixed(3).decide([1.0, 5.0, 1.0], [0, 1, 2])
