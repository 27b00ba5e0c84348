"""Statistics of runs: intervals, comparisons with a verdict, and the rules that end a session.

The sample is the run (one whole generation). Decode steps of one run are correlated, so an interval
over steps would be far too narrow; where steps are pooled for percentiles, whole runs are
resampled. Times are skewed to the right and compared as ratios, so that t statistics are taken on
their logarithms. Pure functions: samples in, numbers out, no torch; scipy.special alone, imported
where it is needed, because result files are compared in well under a second.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

CONFIDENCE = 0.95  # of every interval that is printed
VERDICT_ALPHA = 0.01  # significance that "faster" and "slower" need: see _verdict
BAND_WITHIN_SESSION = 0.01  # ratios this close to 1 are "same": interleaved cells of one session
BAND_ACROSS_SESSIONS = 0.02  # clocks, temperature and placement differ between two sessions

_RESAMPLES = 2000
_GRID_POINTS = 2048
_FAR_FENCE = 3.0
_SAMPLES_FOR_PERCENTILE = {50: 1, 95: 20, 99: 100}
_RUNS_FOR_INTERVAL = {50: 6, 95: 50, 99: 100}  # below, resampling whole runs covers too little
_RUNS_FOR_RANKS = 5  # 5 against 5 is the least at which Mann-Whitney can reach VERDICT_ALPHA
_EXACT_RANKS_UP_TO = 20
_MOST_RUNS_NEEDED = 999

Interval = tuple[float, float]


# Intervals and summaries ---------------------------------------------------------------------


def log_mean_interval(samples: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """Student t interval of the geometric mean, by way of log times; None below 2 samples."""
    logs = _logs(samples)
    half = _t_half_width(logs, confidence)
    if half is None:
        return None
    centre = float(logs.mean())
    return math.exp(centre - half), math.exp(centre + half)


def relative_half_width(samples: Sequence[float]) -> float | None:
    """Half the 95 % interval of `log_mean_interval` over its centre; None below 2 samples."""
    interval = log_mean_interval(samples)
    if interval is None:
        return None
    low, high = interval
    return (high - low) / (2 * math.sqrt(low * high))


def median_interval(samples: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """Exact interval of the median from order statistics, whatever the distribution.

    How many of n samples lie below the true median is binomial (n, 1/2); as many are cut off each
    end as keep the coverage. None where even the extremes don't reach it: below 6 at 95 %.
    """
    ordered = sorted(samples)
    n = len(ordered)
    tail = (1 - confidence) / 2
    cut, below = 0, math.comb(n, 0) / 2**n
    while below <= tail and cut < n // 2:
        cut += 1
        below += math.comb(n, cut) / 2**n
    return (float(ordered[cut - 1]), float(ordered[n - cut])) if cut else None


def summarize(samples: Sequence[float]) -> dict:
    """What the result file keeps of one metric; None where the sample is too small to say.

    `std` has n - 1 in its denominator, `mean_ci95` is Student's, p95 needs 20 samples and p99 100.
    `outliers` counts samples beyond Tukey's far fences, 3 interquartile ranges outside the
    quartiles (the near ones, 1.5, would name one run in 140 of a faultless normal sample); nothing
    is dropped.
    """
    values = np.asarray(samples, dtype=float)
    n = values.size
    half = _t_half_width(values, CONFIDENCE)
    mean = float(values.mean()) if n else None
    median_ci95 = median_interval(samples)
    return {
        "median": float(np.median(values)) if n else None,
        "median_ci95": list(median_ci95) if median_ci95 else None,
        "mean": mean,
        "mean_ci95": None if mean is None or half is None else [mean - half, mean + half],
        "std": float(values.std(ddof=1)) if n > 1 else None,
        "min": float(values.min()) if n else None,
        "max": float(values.max()) if n else None,
        "p95": _percentile(values, 95),
        "p99": _percentile(values, 99),
        "n": n,
        "outliers": _count_outliers(values),
    }


def step_percentiles(step_runs: Sequence[Sequence[float]], seed: int = 0) -> dict:
    """p50, p95, p99 of all steps, and their 95 % intervals ("p50_ci95", ...), over whole runs.

    A percentile needs as many steps as in `summarize`. Its interval needs runs, since these and not
    the steps are independent: 6, 50 and 100. Fewer leave the tail to a handful of runs: simulated
    intervals of p99 from 10 runs held the truth only 2 times in 3.
    """
    runs = [np.sort(np.asarray(run, dtype=float)) for run in step_runs if len(run)]
    pooled = np.sort(np.concatenate(runs)) if runs else np.empty(0)
    percentiles = {f"p{q}": _percentile(pooled, q) for q in _SAMPLES_FOR_PERCENTILE}
    intervals = dict.fromkeys(f"p{q}_ci95" for q in _SAMPLES_FOR_PERCENTILE)
    carried = [q for q, least in _RUNS_FOR_INTERVAL.items() if len(runs) >= least]
    if carried:
        intervals |= _resampled_percentiles(runs, pooled, carried, seed)
    return percentiles | intervals


def _resampled_percentiles(
    runs: list[np.ndarray], pooled: np.ndarray, percentiles: list[int], seed: int
) -> dict[str, list[float]]:
    """Bootstrap over runs. Each run becomes its cumulative counts on a grid of pooled steps, so
    that a resample is a weighted sum of rows instead of a sort of all steps."""
    ranks = np.unique(np.linspace(0, pooled.size - 1, _GRID_POINTS).astype(int))
    grid = pooled[ranks]
    counts = np.array([np.searchsorted(run, grid, side="right") for run in runs], dtype=float)
    weights = np.random.default_rng(seed).multinomial(
        len(runs), np.full(len(runs), 1 / len(runs)), size=_RESAMPLES
    )
    cumulative = weights @ counts  # [resample, grid point]
    lengths = weights @ np.array([run.size for run in runs])
    tail = _resampling_tail(len(runs))
    intervals = {}
    for q in percentiles:
        estimates = grid[(cumulative >= q / 100 * lengths[:, None]).argmax(axis=1)]
        intervals[f"p{q}_ci95"] = [float(x) for x in np.quantile(estimates, [tail, 1 - tail])]
    return intervals


def _percentile(values: np.ndarray, q: int) -> float | None:
    enough = values.size >= _SAMPLES_FOR_PERCENTILE[q]
    return float(np.percentile(values, q)) if enough else None


def _count_outliers(values: np.ndarray) -> int:
    if not values.size:
        return 0
    first, third = np.percentile(values, [25, 75])
    fence = _FAR_FENCE * (third - first)
    return int(np.count_nonzero((values < first - fence) | (values > third + fence)))


def _t_half_width(values: np.ndarray, confidence: float) -> float | None:
    n = values.size
    if n < 2:
        return None
    return float(_t_quantile(n - 1, confidence) * values.std(ddof=1) / math.sqrt(n))


def _t_quantile(degrees: float | np.ndarray, confidence: float) -> np.ndarray:
    """How many standard errors a two-sided t interval reaches to each side."""
    from scipy.special import stdtrit

    return stdtrit(degrees, (1 + confidence) / 2)


def _t_p_value(statistic: float, degrees: int) -> float:
    from scipy.special import stdtr

    return float(2 * stdtr(degrees, -abs(statistic)))


def _normal_tail(z: float) -> float:
    return math.erfc(z / math.sqrt(2)) / 2


def _resampling_tail(units: int) -> float:
    """What to cut off each end of a bootstrap distribution for a 95 % interval.

    With few units the plain 2.5 % is too narrow, by sqrt((n - 1) / n) and by the normal in place of
    t; this undoes both: the "expanded percentile interval" of T. Hesterberg, What Teachers Should
    Know About the Bootstrap, The American Statistician 69 (2015).
    """
    reach = float(_t_quantile(units - 1, CONFIDENCE)) * math.sqrt(units / (units - 1))
    return _normal_tail(reach)


def _logs(samples: Sequence[float]) -> np.ndarray:
    values = np.asarray(samples, dtype=float)
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError("times must be finite and above 0")
    return np.log(values)


# Comparisons ---------------------------------------------------------------------------------


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


@dataclass(frozen=True)
class _Estimate:
    log_ratio: float
    interval: Interval | None  # of the log ratio
    standard_error: float | None
    p_value: float | None
    least: int  # samples per side at which any verdict becomes possible


def compare(
    baseline: Sequence[float],
    candidate: Sequence[float],
    *,
    paired: bool,
    band: float = BAND_WITHIN_SESSION,
    seed: int = 0,
) -> Ratio:
    """Times of a baseline and of a candidate, with the verdict on their ratio.

    paired: entry i of both comes from the same round of an interleaved session; Student t on the
    log ratios of the rounds, in which a drift of the machine cancels. Otherwise Mann-Whitney for
    significance, and a bootstrap of the ratio of medians for size.

    Raises:
        ValueError: no samples, times that aren't above 0, or pairs of unequal length.
    """
    before, after = _logs(baseline), _logs(candidate)
    if not before.size or not after.size:
        raise ValueError("a comparison needs samples on both sides")
    if paired and before.size != after.size:
        raise ValueError(f"pairs need equal lengths, not {before.size} and {after.size}")
    estimate = _t_estimate(before - after) if paired else _rank_estimate(before, after, seed)
    return _judge(estimate, before.size, after.size, band)


def compare_sessions(
    baseline: Sequence[Sequence[float]],
    candidate: Sequence[Sequence[float]],
    *,
    band: float = BAND_ACROSS_SESSIONS,
    seed: int = 0,
) -> Ratio:
    """Compare sessions that were not interleaved, each given as the times of its runs.

    The unit is the session: Student's two-sample t on the logs of the sessions' medians, with one
    variance for both sides, so that a single session may face several. One session per side says
    nothing about differences between sessions; then the runs are the units, as in `compare`, and
    whoever prints the result has to say so.
    """
    if len(baseline) == len(candidate) == 1:
        return compare(baseline[0], candidate[0], paired=False, band=band, seed=seed)
    before, after = (_logs([np.median(runs) for runs in side]) for side in (baseline, candidate))
    return _judge(_two_sample_t_estimate(before, after), before.size, after.size, band)


def single_ratio(baseline: float, candidate: float) -> Ratio:
    """The ratio of two single numbers, such as peak memory: no interval and no verdict."""
    return Ratio(baseline / candidate, None, None, None, 1, 1)


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


def geometric_mean(ratios: Sequence[float]) -> float | None:
    return math.exp(float(_logs(ratios).mean())) if len(ratios) else None


def _t_estimate(log_ratios: np.ndarray) -> _Estimate:
    n = log_ratios.size
    spread = float(log_ratios.std(ddof=1)) if n > 1 else None
    return _estimate_from_t(float(log_ratios.mean()), spread, 1 / n, n - 1)


def _two_sample_t_estimate(before: np.ndarray, after: np.ndarray) -> _Estimate:
    squares = float(((before - before.mean()) ** 2).sum() + ((after - after.mean()) ** 2).sum())
    degrees = before.size + after.size - 2
    spread = math.sqrt(squares / degrees)
    log_ratio = float(before.mean() - after.mean())
    return _estimate_from_t(log_ratio, spread, 1 / before.size + 1 / after.size, degrees)


def _estimate_from_t(
    log_ratio: float, spread: float | None, variance_factor: float, degrees: int
) -> _Estimate:
    if spread is None:
        return _Estimate(log_ratio, None, None, None, least=2)
    error = spread * math.sqrt(variance_factor)
    half = float(_t_quantile(degrees, CONFIDENCE)) * error
    if error > 0:
        p_value = _t_p_value(log_ratio / error, degrees)
    else:  # a scripted clock repeats itself exactly
        p_value = 1.0 if log_ratio == 0 else 0.0
    interval = (log_ratio - half, log_ratio + half)
    return _Estimate(log_ratio, interval, error, p_value, least=2)


def _rank_estimate(before: np.ndarray, after: np.ndarray, seed: int) -> _Estimate:
    log_ratio = float(np.median(before) - np.median(after))
    p_value = _mann_whitney(before, after)
    fewest = min(before.size, after.size)
    if fewest < _RUNS_FOR_RANKS:
        return _Estimate(log_ratio, None, None, p_value, least=_RUNS_FOR_RANKS)
    generator = np.random.default_rng(seed)
    medians = [
        np.median(side[generator.integers(side.size, size=(_RESAMPLES, side.size))], axis=1)
        for side in (before, after)
    ]
    tail = _resampling_tail(fewest)
    low, high = (float(x) for x in np.quantile(medians[0] - medians[1], [tail, 1 - tail]))
    error = (high - low) / 2 / float(_t_quantile(fewest - 1, CONFIDENCE))
    return _Estimate(log_ratio, (low, high), error, p_value, least=_RUNS_FOR_RANKS)


def _mann_whitney(before: np.ndarray, after: np.ndarray) -> float:
    """Two-sided p: exact without ties up to 20 a side, else normal with a correction for ties."""
    m, n = before.size, after.size
    pooled = np.concatenate([before, after])
    _, group, sizes = np.unique(pooled, return_inverse=True, return_counts=True)
    mid_ranks = np.cumsum(sizes) - (sizes - 1) / 2
    u = float(mid_ranks[group[:m]].sum()) - m * (m + 1) / 2
    if sizes.max() == 1 and max(m, n) <= _EXACT_RANKS_UP_TO:
        counts = _u_counts(m, n)
        return min(1.0, 2 * sum(counts[: int(min(u, m * n - u)) + 1]) / math.comb(m + n, m))
    total = m + n
    ties = float((sizes**3 - sizes).sum()) / (total * (total - 1))
    variance = m * n / 12 * (total + 1 - ties)
    if variance <= 0:
        return 1.0
    distance = max(abs(u - m * n / 2) - 0.5, 0.0)
    return min(1.0, 2 * _normal_tail(distance / math.sqrt(variance)))


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


def _judge(estimate: _Estimate, n_baseline: int, n_candidate: int, band: float) -> Ratio:
    ratio = math.exp(estimate.log_ratio)
    ci95 = None
    if estimate.interval is not None:
        ci95 = (math.exp(estimate.interval[0]), math.exp(estimate.interval[1]))
    verdict = _verdict(ratio, ci95, estimate.p_value, band)
    judged = Ratio(
        ratio=ratio,
        ci95=ci95,
        p_value=estimate.p_value,
        verdict=verdict,
        n_baseline=n_baseline,
        n_candidate=n_candidate,
        band=band,
        standard_error=estimate.standard_error,
    )
    return _with_runs_needed(judged, estimate.least, VERDICT_ALPHA)


def _verdict(ratio: float, ci95: Interval | None, p_value: float | None, band: float) -> str:
    """faster or slower: p < 0.01, the interval excludes 1, and the ratio lies beyond the band.
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
    if p_value < VERDICT_ALPHA and low > 1 and ratio > edge:
        return "faster"
    if p_value < VERDICT_ALPHA and high < 1 and ratio < 1 / edge:
        return "slower"
    return "same" if 1 / edge <= low and high <= edge else "inconclusive"


def _with_p(ratio: Ratio, p_value: float, p_adjusted: float) -> Ratio:
    verdict = _verdict(ratio.ratio, ratio.ci95, p_adjusted, ratio.band)
    judged = replace(ratio, p_adjusted=p_adjusted, verdict=verdict)
    if verdict == ratio.verdict:
        return judged
    return _with_runs_needed(judged, 0, VERDICT_ALPHA * p_value / p_adjusted)


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
    sizes = np.arange(n + fewest, n + _MOST_RUNS_NEEDED + 1)
    errors = ratio.standard_error * math.sqrt(n) / np.sqrt(sizes)
    distance, edge = abs(math.log(ratio.ratio)), math.log1p(ratio.band)
    if distance > edge:  # tends to a difference
        enough = _t_quantile(sizes - 1, 1 - alpha) * errors < distance
    else:
        enough = _t_quantile(sizes - 1, CONFIDENCE) * errors <= edge - distance
    return int(sizes[enough.argmax()]) - n if enough.any() else _MOST_RUNS_NEEDED


# When to stop --------------------------------------------------------------------------------


@dataclass(frozen=True)
class StoppingRule:
    """Ends a session between two rounds. Without a target it makes exactly max_runs."""

    min_runs: int
    max_runs: int
    target_ci: float | None  # relative half-width of the 95 % interval that is enough
    max_seconds: float | None
    floor_runs: int = 3  # not even a timeout ends a session before these

    @classmethod
    def adaptive(
        cls, device: str, target_ci: float | None = None, max_seconds: float | None = None
    ) -> "StoppingRule":
        """10 to 100 runs, until every interval is within 1 %; 600 s on a GPU, 60 s on the CPU."""
        seconds = 60.0 if str(device).startswith("cpu") else 600.0
        return cls(
            min_runs=10,
            max_runs=100,
            target_ci=0.01 if target_ci is None else target_ci,
            max_seconds=seconds if max_seconds is None else max_seconds,
        )

    @classmethod
    def fixed(cls, runs: int) -> "StoppingRule":
        return cls(runs, runs, target_ci=None, max_seconds=None)

    def decide(
        self, samples_by_cell: Sequence[Mapping[str, Sequence[float]]], elapsed_s: float
    ) -> str | None:
        """Why to stop now, in the words of the result file's stop_reason; None to go on.

        samples_by_cell holds one {metric: a time per run} for each cell that is still running; a
        metric without samples, such as the TBOT of a single token, sets no target.

        Raises:
            ValueError: no cell is running.
        """
        if not samples_by_cell:
            raise ValueError("no cell is left to decide on")
        runs = min(max(map(len, cell.values()), default=0) for cell in samples_by_cell)
        if self.target_ci is None and runs >= self.max_runs:
            return "fixed"
        if runs >= self.min_runs and self._is_precise(samples_by_cell):
            return "converged"
        if runs >= self.max_runs:
            return "max_iterations"
        is_late = self.max_seconds is not None and elapsed_s >= self.max_seconds
        return "timeout" if is_late and runs >= self.floor_runs else None

    def _is_precise(self, samples_by_cell: Sequence[Mapping[str, Sequence[float]]]) -> bool:
        if self.target_ci is None:
            return False
        widths = [
            relative_half_width(samples)
            for cell in samples_by_cell
            for samples in cell.values()
            if len(samples)
        ]
        return all(width is not None and width <= self.target_ci for width in widths)


@dataclass(frozen=True)
class WarmupRule:
    """Ends the warm-up of a cell: at max_runs, or once it has settled."""

    max_runs: int = 10
    agreement: float | None = 0.01  # of the last two runs; None: exactly max_runs

    @classmethod
    def fixed(cls, runs: int) -> "WarmupRule":
        return cls(runs, agreement=None)

    def decide(self, run_times: Sequence[float], compile_counts: Sequence[int]) -> bool:
        """True when the warm-up is done.

        run_times holds the seconds of each warm-up run, compile_counts what the compile counter
        (which never falls) showed after each; empty where the mode has no counter.
        """
        if len(run_times) >= self.max_runs:
            return True
        if self.agreement is None or len(run_times) < 2:
            return False
        is_still = len(set(compile_counts[-2:])) < 2
        previous, last = run_times[-2:]
        return is_still and abs(last - previous) <= self.agreement * min(previous, last)
