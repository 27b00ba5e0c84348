"""What the result file keeps of a metric, and of the steps of all runs pooled.

A number is given only where the sample carries it; nothing is dropped, outliers are counted. Steps
of one run are correlated: the intervals of their percentiles resample whole runs.
"""

from collections.abc import Sequence

import numpy as np

from inference_benchmark.statistics.intervals import (
    RESAMPLES,
    printed_interval,
    resampling_tail,
    t_half_width,
)

_GRID_POINTS = 2048
_FAR_FENCE = 3.0
_SAMPLES_FOR_PERCENTILE = {50: 1, 95: 20, 99: 100}
_RUNS_FOR_INTERVAL = {50: 6, 95: 50, 99: 100}  # below, resampling whole runs covers too little


def summarize(samples: Sequence[float]) -> dict:
    """What the result file keeps of one metric; None where the sample is too small to say.

    `median_ci95` is `printed_interval`, the one that the stopping rule watches. `std` has n - 1 in
    its denominator, `mean_ci95` is Student's, p95 needs 20 samples and p99 100.
    `outliers` counts samples beyond Tukey's far fences, 3 interquartile ranges outside the
    quartiles (the near ones, 1.5, would name one run in 140 of a faultless normal sample); nothing
    is dropped.
    """
    values = np.asarray(samples, dtype=float)
    n = values.size
    half = t_half_width(values)
    mean = float(values.mean()) if n else None
    median_ci95 = printed_interval(samples)
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


def step_percentiles(step_runs: Sequence[Sequence[float]]) -> dict:
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
        intervals |= _resampled_percentiles(runs, pooled, carried)
    return percentiles | intervals


def _resampled_percentiles(
    runs: list[np.ndarray], pooled: np.ndarray, percentiles: list[int]
) -> dict[str, list[float]]:
    """Bootstrap over runs. Each run becomes its cumulative counts on a grid of pooled steps, so
    that a resample is a weighted sum of rows instead of a sort of all steps."""
    ranks = np.unique(np.linspace(0, pooled.size - 1, _GRID_POINTS).astype(int))
    grid = pooled[ranks]
    counts = np.array([np.searchsorted(run, grid, side="right") for run in runs], dtype=float)
    weights = np.random.default_rng(0).multinomial(
        len(runs), np.full(len(runs), 1 / len(runs)), size=RESAMPLES
    )
    cumulative = weights @ counts  # [resample, grid point]
    lengths = weights @ np.array([run.size for run in runs])
    tail = resampling_tail(len(runs))
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
