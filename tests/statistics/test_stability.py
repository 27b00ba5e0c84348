"""Trends and steps: figures worked out by hand, and how often noise is taken for one."""

import numpy as np
import pytest

from inference_benchmark.statistics.stability import (
    Step,
    fits_better_than_a_trend,
    step,
    trend_z,
)


def test_trend_by_hand():
    # Four rising values: S = 6, variance 4 * 3 * 13 / 18 = 26 / 3, z = 5 / sqrt(26 / 3).
    assert trend_z([1, 2, 3, 4]) == pytest.approx(1.698416)
    assert trend_z([4, 3, 2, 1]) == pytest.approx(-1.698416)
    assert trend_z([1, 1, 1, 1]) == trend_z([1]) == 0


def test_step_is_found_where_it_is():
    change = step([1.0, 1.01, 0.99, 1.02, 1.0, 2.0, 2.01, 1.99, 2.02])
    assert (change.place, change.change) == (5, pytest.approx(1.005))
    assert change.p_value < 0.05


def test_p_value_is_that_of_all_orders():
    # Three and three: of the 20 ways to choose the first three, 2 separate the halves.
    assert step([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).p_value == pytest.approx(0.1, abs=0.02)
    assert step([1.0] * 8) == Step(3, 0.0, 1.0)
    assert step([1.0, 2.0, 3.0, 4.0, 5.0]) is None


@pytest.mark.parametrize("runs", [8, 10, 30])
def test_noise_is_seldom_a_step(runs):
    generator = np.random.default_rng(runs)
    significant = [step(times).p_value < 0.05 for times in generator.normal(10, size=(1000, runs))]
    assert np.mean(significant) < 0.07


def test_a_ramp_is_no_step():
    ramp = 1 + 0.1 * np.linspace(0, 1, 12)
    jump = np.array([1.0] * 6 + [1.1] * 6)
    assert not fits_better_than_a_trend(ramp, step(ramp))
    assert fits_better_than_a_trend(jump, step(jump))
