"""Intervals: figures worked out by hand, and simulations of how often they hold the truth."""

import math

import numpy as np
import pytest
from simulated import covered, simulated_steps

from inference_benchmark.statistics.intervals import (
    log_mean_interval,
    median_interval,
    printed_interval,
    relative_half_width,
)

T_2 = 4.302653  # Student's t of 2 degrees, 97.5 %, from a printed table


@pytest.fixture(scope="module")
def steps() -> np.ndarray:
    return simulated_steps()


class TestIntervals:
    def test_log_mean_interval_by_hand(self):
        # logs 1, 2, 3: mean 2, standard deviation 1, standard error 1 / sqrt(3)
        low, high = log_mean_interval([math.e, math.e**2, math.e**3])
        assert math.log(low) == pytest.approx(2 - T_2 / math.sqrt(3), rel=1e-6)
        assert math.log(high) == pytest.approx(2 + T_2 / math.sqrt(3), rel=1e-6)

    def test_relative_half_width_is_half_the_interval_over_its_centre(self):
        expected = T_2 * 0.01 / math.sqrt(3)
        assert relative_half_width([0.99, 1.0, 1.01]) == pytest.approx(expected, rel=1e-3)

    def test_what_is_printed_is_exact_from_six_samples_on(self):
        six, five = [3.0, 1.0, 2.0, 5.0, 4.0, 6.0], [3.0, 1.0, 2.0, 5.0, 4.0]
        assert printed_interval(six) == (1.0, 6.0)
        assert relative_half_width(six) == pytest.approx(2.5 / 3.5)
        assert printed_interval(five) == log_mean_interval(five)
        assert printed_interval([0.0, 1.0]) is None

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

    @pytest.mark.parametrize("time", [0.0, -1.0, math.nan, math.inf])
    def test_times_must_be_positive_and_finite(self, time):
        with pytest.raises(ValueError, match="finite and above 0"):
            log_mean_interval([1.0, time])


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
