"""Whether the runs of a session stay at one level: trends, and steps from one level to another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

_FEWEST_RUNS = 3  # on either side of a step: fewer are outliers
_PERMUTATIONS = 4000


@dataclass(frozen=True)
class Step:
    """The clearest change of level in a sequence of runs."""

    place: int  # runs before it
    change: float  # of the median after it relative to that before it
    p_value: float


def trend_z(times: Sequence[float]) -> float:
    """Standard score of the Mann-Kendall trend test: pairs in rising order less pairs in falling.

    Without the correction for ties, which errs towards no trend.
    """
    values = np.asarray(times, dtype=float)
    n = values.size
    if n < 2:
        return 0.0
    score = int(np.sign(values[None, :] - values[:, None])[np.triu_indices(n, 1)].sum())
    continuity = (score > 0) - (score < 0)
    return (score - continuity) / math.sqrt(n * (n - 1) * (2 * n + 5) / 18)


def step(times: Sequence[float]) -> Step | None:
    """The split of the runs at which the ranks differ most between the two parts; None below 6.

    Its p value is how often runs in random order differ as much at any split: a permutation test
    of the largest standardised sum of ranks, after A. N. Pettitt, Appl. Statist. 28 (1979).
    """
    values = np.asarray(times, dtype=float)
    n = values.size
    if n < 2 * _FEWEST_RUNS:
        return None
    order = np.sort(values)
    ranks = (np.searchsorted(order, values) + np.searchsorted(order, values, side="right") + 1) / 2
    scores = _split_scores(ranks[None])[0]
    place = int(scores.argmax()) + _FEWEST_RUNS
    null = _null_scores(n)
    reached = null.size - np.searchsorted(null, scores.max() * (1 - 1e-9))
    change = float(np.median(values[place:]) / np.median(values[:place]) - 1)
    return Step(place, change, float(reached + 1) / (null.size + 1))


def fits_better_than_a_trend(times: Sequence[float], candidate: Step) -> bool:
    """Whether two levels leave smaller squares than a straight line does."""
    values = np.asarray(times, dtype=float)
    parts = values[: candidate.place], values[candidate.place :]
    levels = sum(float(((part - part.mean()) ** 2).sum()) for part in parts)
    places = np.arange(values.size)
    line = values - np.polyval(np.polyfit(places, values, 1), places)
    return levels < float((line**2).sum())


def _split_scores(ranks: np.ndarray) -> np.ndarray:
    """[sequence, split]: how far the ranks before a split are from their mean, in its errors."""
    n = ranks.shape[1]
    sums = np.cumsum(ranks - (n + 1) / 2, axis=1)[:, _FEWEST_RUNS - 1 : n - _FEWEST_RUNS]
    before = np.arange(_FEWEST_RUNS, n - _FEWEST_RUNS + 1)
    return np.abs(sums) / np.sqrt(before * (n - before) / n)


@lru_cache(maxsize=128)
def _null_scores(n: int) -> np.ndarray:
    """The largest score of each of many random orders, ascending."""
    generator = np.random.default_rng(n)
    orders = generator.permuted(np.tile(np.arange(1.0, n + 1), (_PERMUTATIONS, 1)), axis=1)
    return np.sort(_split_scores(orders).max(axis=1))
