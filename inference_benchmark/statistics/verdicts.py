"""When an estimated ratio counts as faster, slower or the same, alone and among many."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from inference_benchmark.statistics.deviation import Deviation
from inference_benchmark.statistics.intervals import CONFIDENCE, Interval, t_quantile

ALPHA = 0.01  # significance that "faster" and "slower" need: see _verdict
# Between sessions, of which there are few. Where they scatter by 1 % (standard deviation), three a
# side show a difference of 5 % in 81 % of comparisons at p < 0.01, and in 95 % at this level. Of equal
# things one comparison in 40 is called different, however much sessions scatter.
ALPHA_ACROSS_SESSIONS = 0.025
BAND_WITHIN_SESSION = 0.01  # ratios this close to 1 are "same": interleaved cells of one session
BAND_ACROSS_SESSIONS = 0.02  # clocks, temperature and placement differ between two sessions

ADJUSTMENT = "verdicts adjusted for their number (Benjamini-Hochberg: p_adjusted)"

_MOST_RUNS_NEEDED = 999


@dataclass(frozen=True)
class Ratio:
    """A speed-up: baseline time over candidate time, above 1 where the candidate is faster."""

    ratio: float
    ci95: Interval | None
    p_value: float | None
    verdict: str | None  # None for `single_ratio`: one number on each side can't have any
    n_baseline: int
    n_candidate: int
    runs_needed: int | None = None  # about how many more per side; only where inconclusive
    band: float = BAND_WITHIN_SESSION
    standard_error: float | None = None  # of the logarithm of the ratio
    p_adjusted: float | None = None  # among other comparisons: see adjust_for_many
    alpha: float = ALPHA  # the significance that its verdict needed
    deviation: Deviation | None = None  # between sessions; None: compared within one
    is_paired: bool = True  # each sample of one side with one of the other


@dataclass(frozen=True)
class RatioEstimate:
    """A ratio that has not been judged yet."""

    log_ratio: float
    least: int  # samples per side at which any verdict becomes possible
    interval: Interval | None = None  # of the log ratio
    standard_error: float | None = None
    p_value: float | None = None
    alpha: float = ALPHA
    deviation: Deviation | None = None
    is_paired: bool = True


def judge(estimate: RatioEstimate, n_baseline: int, n_candidate: int, band: float) -> Ratio:
    ratio, interval = math.exp(estimate.log_ratio), estimate.interval
    ci95 = None if interval is None else (math.exp(interval[0]), math.exp(interval[1]))
    judged = Ratio(
        ratio=ratio,
        ci95=ci95,
        p_value=estimate.p_value,
        verdict=_verdict(ratio, ci95, estimate.p_value, band, estimate.alpha),
        n_baseline=n_baseline,
        n_candidate=n_candidate,
        band=band,
        standard_error=estimate.standard_error,
        alpha=estimate.alpha,
        deviation=estimate.deviation,
        is_paired=estimate.is_paired,
    )
    return _with_runs_needed(judged, estimate.least, estimate.alpha)


def adjust_for_many(ratios: Sequence[Ratio]) -> list[Ratio]:
    """The same comparisons with verdicts that allow for their number (Benjamini-Hochberg)."""
    p_values = [ratio.p_value for ratio in ratios if ratio.p_value is not None]
    adjusted = iter(benjamini_hochberg(p_values))
    return [
        ratio if ratio.p_value is None else _with_p(ratio, ratio.p_value, next(adjusted))
        for ratio in ratios
    ]


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values, in the given order: below x, at most a share x is expected to be false.

    Y. Benjamini, Y. Hochberg, J. R. Statist. Soc. B 57 (1995).
    """
    p = np.asarray(p_values, dtype=float)
    descending = np.argsort(-p, kind="stable")
    ranks = np.arange(p.size, 0, -1)
    adjusted = np.empty(p.size)
    adjusted[descending] = np.minimum.accumulate(np.minimum(p[descending] * p.size / ranks, 1.0))
    return [float(x) for x in adjusted]


def _verdict(
    ratio: float, ci95: Interval | None, p_value: float | None, band: float, alpha: float
) -> str:
    """faster or slower: p < alpha, the interval excludes 1, and the ratio lies beyond the band.
    same: the whole interval lies within the band. inconclusive: anything else.

    An A/A comparison with much noise leaves the band by chance, so that only the test guards it:
    at p < 0.05 one in 20 would be called different, at p < 0.01 less than one in 100 is, at any
    noise. The interval need not exclude the edge of the band: a true gain of 1.5 % would then stay
    inconclusive until its interval is half a percent wide, and that a difference is real and that
    our best estimate of it matters are two questions. The band is symmetric in the logarithm, so
    that exchanging the sides mirrors the verdict.
    """
    if ci95 is None or p_value is None:
        return "inconclusive"
    low, high = ci95
    edge = 1 + band
    if p_value < alpha and low > 1 and ratio > edge:
        return "faster"
    if p_value < alpha and high < 1 and ratio < 1 / edge:
        return "slower"
    return "same" if 1 / edge <= low and high <= edge else "inconclusive"


def _with_p(ratio: Ratio, p_value: float, p_adjusted: float) -> Ratio:
    verdict = _verdict(ratio.ratio, ratio.ci95, p_adjusted, ratio.band, ratio.alpha)
    judged = replace(ratio, p_adjusted=p_adjusted, verdict=verdict)
    if verdict == ratio.verdict:
        return judged
    return _with_runs_needed(judged, 0, ratio.alpha * p_value / p_adjusted)


def _with_runs_needed(ratio: Ratio, least: int, alpha: float) -> Ratio:
    if ratio.verdict != "inconclusive":
        return ratio
    return replace(ratio, runs_needed=_runs_needed(ratio, least, alpha))


def _runs_needed(ratio: Ratio, least: int, alpha: float) -> int:
    """How many more per side should settle it, if ratio and spread stay what they are now."""
    n = min(ratio.n_baseline, ratio.n_candidate)
    fewest = max(1, least - n)
    if ratio.standard_error is None:
        return fewest
    first, last = n + fewest, n + _MOST_RUNS_NEEDED
    sizes = np.arange(first, last + 1)
    errors = ratio.standard_error * math.sqrt(n) / np.sqrt(sizes)
    samples = 1 if ratio.is_paired else 2
    distance, edge = abs(math.log(ratio.ratio)), math.log1p(ratio.band)
    if distance > edge:  # tends to a difference
        enough = _reach(first, last, samples, 1 - alpha) * errors < distance
    else:
        enough = _reach(first, last, samples, CONFIDENCE) * errors <= edge - distance
    return int(sizes[enough.argmax()]) - n if enough.any() else _MOST_RUNS_NEEDED


@functools.lru_cache(maxsize=64)  # a thousand quantiles, for each cell of each round
def _reach(first: int, last: int, samples: int, confidence: float) -> np.ndarray:
    """t quantiles of one sample or of two, of `first` to `last` runs each: [last - first + 1]."""
    return t_quantile((np.arange(first, last + 1) - 1) * samples, confidence)
