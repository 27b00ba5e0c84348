"""The statistics' targets, by the simulation of statistics_audit.py at a smaller scale.

A share of 400 trials is off by some 1 % (standard error): the limits allow for that.
"""

import pytest

from audit.statistics_audit import (
    DEVIATIONS,
    coverage_after_stopping,
    coverage_of_ratios,
    false_verdicts_in_a_session,
    share_of_verdicts,
)
from inference_benchmark.statistics.deviation import DEFAULT_DEVIATION

TRIALS = 400


@pytest.mark.parametrize("deviation", DEVIATIONS)
@pytest.mark.parametrize(("a_side", "saved"), [(1, 5), (3, 0)])
def test_equal_sessions_are_seldom_called_different(deviation, a_side, saved):
    assert share_of_verdicts(deviation, a_side, saved=saved, trials=TRIALS) <= 0.05


def test_the_default_holds_at_its_own_level():
    assert share_of_verdicts(DEFAULT_DEVIATION, 1, trials=TRIALS) <= 0.05


def test_three_sessions_a_side_find_five_percent():
    share = share_of_verdicts(0.01, 3, difference=0.05, wanted=("faster",), trials=TRIALS)
    assert share > 0.9


def test_many_comparisons_are_adjusted_for():
    assert share_of_verdicts(0.03, 3, comparisons=9, trials=100) <= 0.07


@pytest.mark.parametrize(("a_side", "saved"), [(1, 5), (3, 0)])
def test_intervals_between_sessions_hold_the_truth(a_side, saved):
    assert 0.92 <= coverage_of_ratios(0.02, a_side, saved, trials=TRIALS) <= 0.98


@pytest.mark.parametrize("skew", [False, True])
def test_the_printed_interval_holds_the_truth_although_it_decides_when_to_stop(skew):
    held, _ = coverage_after_stopping(0.02, skew, trials=200)
    assert held >= 0.91


def test_equal_modes_of_a_session_are_seldom_called_different():
    assert false_verdicts_in_a_session(0.01, 10, trials=TRIALS) <= 0.02
