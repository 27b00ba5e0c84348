"""Speed-ups: two samples of times in, their ratio with its interval and verdict out.

Three estimates, by how the times were taken: pairs of interleaved rounds, runs of two sessions that
were not interleaved, and whole sessions.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from inference_benchmark.statistics.deviation import (
    Deviation,
    Spread,
    choose_deviation,
    median_variance,
    spread_of,
)
from inference_benchmark.statistics.intervals import (
    RESAMPLES,
    log_times,
    resampling_tail,
    t_quantile,
)
from inference_benchmark.statistics.mann_whitney import mann_whitney
from inference_benchmark.statistics.verdicts import (
    ALPHA,
    ALPHA_ACROSS_SESSIONS,
    BAND_ACROSS_SESSIONS,
    BAND_WITHIN_SESSION,
    Ratio,
    RatioEstimate,
    judge,
)

# 5 against 5 is the least at which Mann-Whitney can reach the significance a verdict needs
_RUNS_FOR_RANKS = 5
_SESSIONS_FOR_T = 3  # on each side
NOTHING_SAVED = Spread()


def compare(
    baseline: Sequence[float],
    candidate: Sequence[float],
    *,
    paired: bool,
    band: float = BAND_WITHIN_SESSION,
    alpha: float = ALPHA,
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
    return judge(replace(estimate, alpha=alpha), before.size, after.size, band)


def compare_sessions(
    baseline: Sequence[Sequence[float]],
    candidate: Sequence[Sequence[float]],
    *,
    saved: Spread = NOTHING_SAVED,
    band: float = BAND_ACROSS_SESSIONS,
) -> Ratio:
    """Compare sessions that were not interleaved, each given as the times of its runs.

    The unit is the session: Student's t on the logs of the sessions' medians, with one variance
    for both sides. Where these are too few to tell it, the deviation between sessions comes from
    sets that were `saved` before, or is the default; `Ratio.deviation` says which.

    Raises:
        ValueError: a side without sessions, a session without runs, times that aren't above 0.
    """
    if not len(baseline) or not len(candidate) or not all(map(len, (*baseline, *candidate))):
        raise ValueError("a comparison needs samples on both sides")
    before, after = (
        log_times([np.median(runs) for runs in side]) for side in (baseline, candidate)
    )
    of_these = spread_of([baseline, candidate])
    deviation = choose_deviation(of_these, saved)
    log_ratio = float(before.mean() - after.mean())
    variances = [
        (deviation.share**2 * (1 / before.size + 1 / after.size), deviation.degrees),
        *_excess(baseline, deviation, of_these, saved),
        *_excess(candidate, deviation, of_these, saved),
    ]
    estimate = _estimate_from_t(
        log_ratio, math.sqrt(sum(variance for variance, _ in variances)), _joint_degrees(variances)
    )
    if deviation.degrees != of_these.degrees and any(
        len(runs) < 2 for runs in (*baseline, *candidate)
    ):
        estimate = RatioEstimate(log_ratio, 2)  # nobody knows how much a single run is off
    estimate = replace(
        estimate,
        least=_SESSIONS_FOR_T,
        alpha=ALPHA_ACROSS_SESSIONS,
        deviation=deviation,
        is_paired=False,
    )
    return judge(estimate, before.size, after.size, band)


def _excess(
    sessions: Sequence[Sequence[float]], deviation: Deviation, of_these: Spread, saved: Spread
) -> list[tuple[float, int | None]]:
    """(variance, degrees) that the noise of a side's runs adds to the deviation between sessions.

    A deviation seen between medians holds the noise of the runs behind them already: only what
    these sessions are noisier than those is added.
    """
    held = 0.0 if deviation.degrees is None else (of_these + saved).median_variance
    if deviation.degrees is not None and deviation.degrees == of_these.degrees:
        return []
    noises = [median_variance(runs) for runs in sessions]
    added = max(0.0, sum(noises) / len(noises) - held) / len(noises)
    return [(added, sum(len(runs) - 1 for runs in sessions) or 1)]


def _joint_degrees(variances: Sequence[tuple[float, int | None]]) -> float:
    """Of a sum of estimated variances (Welch and Satterthwaite); infinite where all are known."""
    total = sum(variance for variance, _ in variances)
    parts = sum(variance**2 / degrees for variance, degrees in variances if degrees)
    return total**2 / parts if parts else math.inf


def single_ratio(baseline: float, candidate: float) -> Ratio:
    """The ratio of two single numbers, such as peak memory: no interval and no verdict."""
    return Ratio(baseline / candidate, None, None, None, 1, 1)


def geometric_mean(ratios: Sequence[float]) -> float | None:
    return math.exp(float(log_times(ratios).mean())) if len(ratios) else None


def _t_estimate(log_ratios: np.ndarray) -> RatioEstimate:
    n, log_ratio = log_ratios.size, float(log_ratios.mean())
    if n < 2:
        return RatioEstimate(log_ratio, least=2)
    error = float(log_ratios.std(ddof=1)) / math.sqrt(n)
    return _estimate_from_t(log_ratio, error, n - 1)


def _estimate_from_t(log_ratio: float, error: float, degrees: float) -> RatioEstimate:
    half = float(t_quantile(degrees)) * error
    if error > 0:
        p_value = _t_p_value(log_ratio / error, degrees)
    else:  # a scripted clock repeats itself exactly
        p_value = 1.0 if log_ratio == 0 else 0.0
    return RatioEstimate(log_ratio, 2, (log_ratio - half, log_ratio + half), error, p_value)


def _t_p_value(statistic: float, degrees: float) -> float:
    from scipy.special import stdtr

    return float(2 * stdtr(degrees, -abs(statistic)))


def _rank_estimate(before: np.ndarray, after: np.ndarray) -> RatioEstimate:
    log_ratio = float(np.median(before) - np.median(after))
    p_value = mann_whitney(before, after)
    fewest = min(before.size, after.size)
    if fewest < _RUNS_FOR_RANKS:
        return RatioEstimate(log_ratio, _RUNS_FOR_RANKS, p_value=p_value)
    generator = np.random.default_rng(0)
    medians = [
        np.median(side[generator.integers(side.size, size=(RESAMPLES, side.size))], axis=1)
        for side in (before, after)
    ]
    tail = resampling_tail(fewest)
    low, high = (float(x) for x in np.quantile(medians[0] - medians[1], [tail, 1 - tail]))
    error = (high - low) / 2 / float(t_quantile(fewest - 1))
    return RatioEstimate(log_ratio, _RUNS_FOR_RANKS, (low, high), error, p_value)
