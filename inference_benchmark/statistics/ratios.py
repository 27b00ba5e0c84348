"""Speed-ups: two samples of times in, their ratio with its interval and verdict out.

Three estimates, by how the times were taken: pairs of interleaved rounds, runs of two sessions that
were not interleaved, and whole sessions.
"""

import math
from collections.abc import Sequence

import numpy as np

from inference_benchmark.statistics.intervals import (
    RESAMPLES,
    log_times,
    resampling_tail,
    t_quantile,
)
from inference_benchmark.statistics.mann_whitney import mann_whitney
from inference_benchmark.statistics.verdicts import (
    BAND_ACROSS_SESSIONS,
    BAND_WITHIN_SESSION,
    Estimate,
    Ratio,
    judge,
)

# 5 against 5 is the least at which Mann-Whitney can reach the significance a verdict needs
_RUNS_FOR_RANKS = 5


def compare(
    baseline: Sequence[float],
    candidate: Sequence[float],
    *,
    paired: bool,
    band: float = BAND_WITHIN_SESSION,
) -> Ratio:
    """Times of a baseline and of a candidate, with the verdict on their ratio.

    paired: entry i of both comes from the same round of an interleaved session; Student t on the
    log ratios of the rounds, in which a drift of the machine cancels. Otherwise Mann-Whitney for
    significance, and a bootstrap of the ratio of medians for size.

    Raises:
        ValueError: no samples, times that aren't above 0, or pairs of unequal length.
    """
    before, after = log_times(baseline), log_times(candidate)
    if not before.size or not after.size:
        raise ValueError("a comparison needs samples on both sides")
    if paired and before.size != after.size:
        raise ValueError(f"pairs need equal lengths, not {before.size} and {after.size}")
    estimate = _t_estimate(before - after) if paired else _rank_estimate(before, after)
    return judge(estimate, before.size, after.size, band)


def compare_sessions(
    baseline: Sequence[Sequence[float]],
    candidate: Sequence[Sequence[float]],
    *,
    band: float = BAND_ACROSS_SESSIONS,
) -> Ratio:
    """Compare sessions that were not interleaved, each given as the times of its runs.

    The unit is the session: Student's two-sample t on the logs of the sessions' medians, with one
    variance for both sides, so that a single session may face several. One session per side says
    nothing about differences between sessions; then the runs are the units, as in `compare`, and
    whoever prints the result has to say so.
    """
    if len(baseline) == len(candidate) == 1:
        return compare(baseline[0], candidate[0], paired=False, band=band)
    before, after = (
        log_times([np.median(runs) for runs in side]) for side in (baseline, candidate)
    )
    return judge(_two_sample_t_estimate(before, after), before.size, after.size, band)


def single_ratio(baseline: float, candidate: float) -> Ratio:
    """The ratio of two single numbers, such as peak memory: no interval and no verdict."""
    return Ratio(baseline / candidate, None, None, None, 1, 1)


def geometric_mean(ratios: Sequence[float]) -> float | None:
    return math.exp(float(log_times(ratios).mean())) if len(ratios) else None


def _t_estimate(log_ratios: np.ndarray) -> Estimate:
    n, log_ratio = log_ratios.size, float(log_ratios.mean())
    if n < 2:
        return Estimate(log_ratio, least=2)
    return _estimate_from_t(log_ratio, float(log_ratios.std(ddof=1)), 1 / n, n - 1)


def _two_sample_t_estimate(before: np.ndarray, after: np.ndarray) -> Estimate:
    squares = float(((before - before.mean()) ** 2).sum() + ((after - after.mean()) ** 2).sum())
    degrees = before.size + after.size - 2
    spread = math.sqrt(squares / degrees)
    log_ratio = float(before.mean() - after.mean())
    return _estimate_from_t(log_ratio, spread, 1 / before.size + 1 / after.size, degrees)


def _estimate_from_t(
    log_ratio: float, spread: float, variance_factor: float, degrees: int
) -> Estimate:
    error = spread * math.sqrt(variance_factor)
    half = float(t_quantile(degrees)) * error
    if error > 0:
        p_value = _t_p_value(log_ratio / error, degrees)
    else:  # a scripted clock repeats itself exactly
        p_value = 1.0 if log_ratio == 0 else 0.0
    return Estimate(log_ratio, 2, (log_ratio - half, log_ratio + half), error, p_value)


def _t_p_value(statistic: float, degrees: int) -> float:
    from scipy.special import stdtr

    return float(2 * stdtr(degrees, -abs(statistic)))


def _rank_estimate(before: np.ndarray, after: np.ndarray) -> Estimate:
    log_ratio = float(np.median(before) - np.median(after))
    p_value = mann_whitney(before, after)
    fewest = min(before.size, after.size)
    if fewest < _RUNS_FOR_RANKS:
        return Estimate(log_ratio, _RUNS_FOR_RANKS, p_value=p_value)
    generator = np.random.default_rng(0)
    medians = [
        np.median(side[generator.integers(side.size, size=(RESAMPLES, side.size))], axis=1)
        for side in (before, after)
    ]
    tail = resampling_tail(fewest)
    low, high = (float(x) for x in np.quantile(medians[0] - medians[1], [tail, 1 - tail]))
    error = (high - low) / 2 / float(t_quantile(fewest - 1))
    return Estimate(log_ratio, _RUNS_FOR_RANKS, (low, high), error, p_value)
