"""The rank test of Mann and Whitney: whether two samples differ, whatever their distribution."""

import math
from functools import lru_cache

import numpy as np

from inference_benchmark.statistics.intervals import normal_tail

_EXACT_UP_TO = 20  # samples on a side


def mann_whitney(before: np.ndarray, after: np.ndarray) -> float:
    """Two-sided p: exact without ties up to 20 a side, else normal with a correction for ties."""
    m, n = before.size, after.size
    pooled = np.concatenate([before, after])
    _, group, sizes = np.unique(pooled, return_inverse=True, return_counts=True)
    mid_ranks = np.cumsum(sizes) - (sizes - 1) / 2
    u = float(mid_ranks[group[:m]].sum()) - m * (m + 1) / 2
    if sizes.max() == 1 and max(m, n) <= _EXACT_UP_TO:
        counts = _u_counts(m, n)
        return min(1.0, 2 * sum(counts[: int(min(u, m * n - u)) + 1]) / math.comb(m + n, m))
    total = m + n
    ties = float((sizes**3 - sizes).sum()) / (total * (total - 1))
    variance = m * n / 12 * (total + 1 - ties)
    if variance <= 0:
        return 1.0
    distance = max(abs(u - m * n / 2) - 0.5, 0.0)
    return min(1.0, 2 * normal_tail(distance / math.sqrt(variance)))


@lru_cache(maxsize=64)
def _u_counts(m: int, n: int) -> list[int]:
    """How many orders of m + n samples give each U: coefficients of the Gaussian binomial."""
    counts = [1] + [0] * (m * n)
    for i in range(1, m + 1):
        for k in range(m * n, n + i - 1, -1):  # times 1 - q^(n + i)
            counts[k] -= counts[k - n - i]
        for k in range(i, m * n + 1):  # over 1 - q^i
            counts[k] += counts[k - i]
    return counts
