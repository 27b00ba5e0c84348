"""Verdicts that allow for the number of comparisons."""

import pytest

from inference_benchmark.statistics.ratios import single_ratio
from inference_benchmark.statistics.verdicts import Ratio, adjust_for_many, benjamini_hochberg


def test_benjamini_hochberg_by_hand():
    # 0.01 * 4 / 1, 0.03 * 4 / 3 (smaller than 0.025 * 4 / 2), 0.5 * 4 / 4
    adjusted = benjamini_hochberg([0.5, 0.01, 0.03, 0.025])
    assert adjusted == pytest.approx([0.5, 0.04, 0.04, 0.04])
    assert benjamini_hochberg([]) == []
    assert benjamini_hochberg([0.9, 0.8]) == pytest.approx([0.9, 0.9])


def test_a_lucky_cell_among_many_is_no_longer_faster():
    lucky = Ratio(1.05, (1.01, 1.09), 0.008, "faster", 10, 10, standard_error=0.017)
    others = [Ratio(1.0, (0.9, 1.1), 0.5, "inconclusive", 10, 10, 50)] * 9
    first, *rest = adjust_for_many([lucky, *others, single_ratio(2.0, 1.0)])
    assert first.p_adjusted == pytest.approx(0.08)
    assert (first.p_value, first.verdict) == (0.008, "inconclusive")
    assert first.runs_needed > 0
    assert rest[0].runs_needed == 50
    assert rest[-1] == single_ratio(2.0, 1.0)
    assert adjust_for_many([lucky])[0].verdict == "faster"


def test_an_interval_that_holds_1_is_never_a_difference():
    doubtful = Ratio(1.05, (0.99, 1.1), 0.001, "inconclusive", 10, 10, 5)
    assert adjust_for_many([doubtful])[0].verdict == "inconclusive"
