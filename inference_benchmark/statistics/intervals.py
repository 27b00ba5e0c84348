"""Confidence intervals of one sample of runs, and the quantiles they are made of.

The sample is the run (one whole generation). Decode steps of one run are correlated, so an interval
over steps would be far too narrow. Times are skewed to the right and compared as ratios, so that t
statistics are taken on their logarithms. Pure functions without torch; of scipy scipy.special
alone, imported where it is needed, because result files are compared in well under a second.
"""

import math
from collections.abc import Sequence

import numpy as np

CONFIDENCE = 0.95  # of every interval that is printed
RESAMPLES = 2000  # of a bootstrap

Interval = tuple[float, float]


def printed_interval(samples: Sequence[float]) -> Interval | None:
    """The 95 % interval that is printed beside a median, and that the stopping rule watches.

    Order statistics from 6 samples on; Student's t on log times for 2 to 5, which have no exact
    interval; None for a single one, and for few of which one is not above 0.
    """
    exact = median_interval(samples)
    if exact is None and len(samples) > 1 and min(samples) > 0:
        return log_mean_interval(samples)
    return exact


def relative_half_width(samples: Sequence[float]) -> float | None:
    """Half of `printed_interval` over the median; None below 2 samples."""
    interval = printed_interval(samples)
    if interval is None:
        return None
    low, high = interval
    return (high - low) / (2 * float(np.median(samples)))


def log_mean_interval(samples: Sequence[float]) -> Interval | None:
    """Student t interval of the geometric mean, by way of log times; None below 2 samples."""
    logs = log_times(samples)
    half = t_half_width(logs)
    if half is None:
        return None
    centre = float(logs.mean())
    return math.exp(centre - half), math.exp(centre + half)


def median_interval(samples: Sequence[float]) -> Interval | None:
    """Exact interval of the median from order statistics, whatever the distribution.

    How many of n samples lie below the true median is binomial (n, 1/2); as many are cut off each
    end as keep the coverage. None where even the extremes don't reach it: below 6.
    """
    ordered = sorted(samples)
    n = len(ordered)
    tail = (1 - CONFIDENCE) / 2
    cut, below = 0, math.comb(n, 0) / 2**n
    while below <= tail and cut < n // 2:
        cut += 1
        below += math.comb(n, cut) / 2**n
    return (float(ordered[cut - 1]), float(ordered[n - cut])) if cut else None


def t_half_width(values: np.ndarray) -> float | None:
    """How far Student's interval of the mean reaches to each side; None below 2 values."""
    n = values.size
    if n < 2:
        return None
    return float(t_quantile(n - 1) * values.std(ddof=1) / math.sqrt(n))


def t_quantile(degrees: float | np.ndarray, confidence: float = CONFIDENCE) -> np.ndarray:
    """How many standard errors a two-sided t interval reaches to each side."""
    from scipy.special import stdtrit

    return stdtrit(degrees, (1 + confidence) / 2)


def normal_tail(z: float) -> float:
    """How much of the standard normal distribution lies above z."""
    return math.erfc(z / math.sqrt(2)) / 2


def resampling_tail(units: int) -> float:
    """What to cut off each end of a bootstrap distribution for a 95 % interval.

    With few units the plain 2.5 % is too narrow, by sqrt((n - 1) / n) and by the normal in place of
    t; this undoes both: the "expanded percentile interval" of T. Hesterberg, What Teachers Should
    Know About the Bootstrap, The American Statistician 69 (2015).
    """
    reach = float(t_quantile(units - 1)) * math.sqrt(units / (units - 1))
    return normal_tail(reach)


def log_times(samples: Sequence[float]) -> np.ndarray:
    """Raises ValueError where a time isn't finite and above 0."""
    values = np.asarray(samples, dtype=float)
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError("times must be finite and above 0")
    return np.log(values)
