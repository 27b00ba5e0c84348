"""The rank test against figures worked out by hand."""

import math

import numpy as np
import pytest

from inference_benchmark.statistics.mann_whitney import mann_whitney


def p_value(before, after) -> float:
    return mann_whitney(np.array(before, dtype=float), np.array(after, dtype=float))


def two_sided(z: float) -> float:
    return math.erfc(z / math.sqrt(2))


def test_without_ties_orders_are_counted():
    # all of one side below the other: 2 of the 252 ways to choose 5 of 10 are as extreme
    assert p_value([6, 7, 8, 9, 10], [1, 2, 3, 4, 5]) == pytest.approx(2 / 252)
    # U = 1 can come about in one way, U = 0 in one: 2 * 2 / 20
    assert p_value([1, 2, 4], [3, 5, 6]) == pytest.approx(0.2)


def test_with_ties_it_is_normal_with_less_variance():
    # U = 0.5 of 4.5, variance 9 / 12 * (7 - (8 - 2 + 8 - 2) / 30) = 4.95
    z = 3.5 / math.sqrt(9 / 12 * (7 - 12 / 30))
    assert p_value([1, 1, 2], [2, 3, 4]) == pytest.approx(two_sided(z))
    assert p_value([1, 1, 1], [1, 1, 1]) == 1


def test_above_20_a_side_it_is_normal():
    # U = 0 of 220.5, variance 21 * 21 * 43 / 12
    z = 220 / math.sqrt(21 * 21 * 43 / 12)
    assert p_value(range(21), range(21, 42)) == pytest.approx(two_sided(z))
