"""Rules of validity that look at the times of the runs alone: trends, steps, scatter, their number."""

from collections.abc import Sequence
from statistics import median

import numpy as np

from inference_benchmark.analysis.reason import MIN_RUNS, Evidence, Reason, Rule
from inference_benchmark.statistics.intervals import relative_half_width
from inference_benchmark.statistics.mann_whitney import mann_whitney
from inference_benchmark.statistics.stability import Step, fits_better_than_a_trend, trend_z
from inference_benchmark.statistics.stability import step as find_step
from inference_benchmark.statistics.stopping import stop_words

# Twice the 1 % within which two results count as the same: beyond it a trend, a step over the runs or
# their order decides verdicts.
MAX_DRIFT = 0.02
# Two-sided 5 % for the tests of a trend and of a step. Each has to hold together with MAX_DRIFT, so
# a false alarm takes noise that is both ordered and large.
DRIFT_Z = 1.96
STEP_P = 0.05
# A median this uncertain can't be told to be the same as itself by the 2 % between sessions.
MAX_HALF_WIDTH = 0.02
ORDER_P = 0.01  # by the rank test, which needs ten different times for it
MAX_FIRST_RUN_EXCESS = 0.05  # well over run-to-run noise; lazy initialisation costs more than that
FIRST_RUN_ERRORS = 4  # and as many robust standard deviations, where runs scatter by more than that


def drift(evidence: Evidence) -> Reason | None:
    """A trend over the runs that is both significant and large, in the metric where it is worst."""
    drifts = {name: _drift(times) for name, times in evidence.times.items()}
    name, worst = max(drifts.items(), key=lambda item: abs(item[1]), default=("", 0.0))
    if abs(worst) <= MAX_DRIFT:
        return None
    return Reason(
        "drift",
        "suspect",
        f"{name} drifted by {worst:+.1%} from the first to the last third of the runs "
        f"(at most {MAX_DRIFT:.0%}).",
        "Warm up for longer so that clocks and temperature settle, or lock the clocks.",
    )


def _drift(times: Sequence[float]) -> float:
    """Relative change from the median of the first third to that of the last; 0 if not a trend."""
    if len(times) < MIN_RUNS or abs(trend_z(times)) < DRIFT_Z or _step(times) is not None:
        return 0.0
    third = len(times) // 3
    return median(times[-third:]) / median(times[:third]) - 1


def step(evidence: Evidence) -> Reason | None:
    """A change from one level to another in the midst of the runs."""
    steps_by_metric = {name: _step(times) for name, times in evidence.times.items()}
    steps = {name: change for name, change in steps_by_metric.items() if change is not None}
    if not steps:
        return None
    name, worst = max(steps.items(), key=lambda item: abs(item[1].change))
    return Reason(
        "step",
        "suspect",
        f"{name} changed by {worst.change:+.1%} after run {worst.place} of {evidence.runs} and "
        f"stayed there (at most {MAX_DRIFT:.0%}).",
        "Look for what began or ended then (another process, clocks, temperature), and measure "
        "again.",
    )


def _step(times: Sequence[float]) -> Step | None:
    """The step in these runs, if it is significant, large, and no trend."""
    candidate = find_step(times)
    if candidate is None or candidate.p_value >= STEP_P or abs(candidate.change) <= MAX_DRIFT:
        return None
    return candidate if fits_better_than_a_trend(times, candidate) else None


def order(evidence: Evidence) -> Reason | None:
    """What ran before a cell changes its times: the order of the cells reverses from round to round."""
    effects = {name: _order_effect(times) for name, times in evidence.times.items()}
    name, worst = max(effects.items(), key=lambda item: item[1], default=("", 0.0))
    if not evidence.takes_turns or worst <= MAX_DRIFT:
        return None
    return Reason(
        "order",
        "suspect",
        f"{name} differs by {worst:.1%} between rounds of either order (at most "
        f"{MAX_DRIFT:.0%}): what runs before it changes it (power, clocks, caches).",
        "Measure longer runs (more output tokens, a larger batch), or this cell alone.",
    )


def _order_effect(times: Sequence[float]) -> float:
    """By how much the slower half of the rounds, one in two, is above the other; 0 if by chance."""
    halves = np.asarray(times[::2]), np.asarray(times[1::2])
    if len(times) < MIN_RUNS or mann_whitney(*halves) >= ORDER_P:
        return 0.0
    fast, slow = sorted(float(np.median(half)) for half in halves)
    return slow / fast - 1


def scatter(evidence: Evidence) -> Reason | None:
    """Runs that leave the median uncertain, where no precision was asked for."""
    if evidence.target_ci is not None or not evidence.is_long_enough:
        return None
    widths = {name: relative_half_width(times) or 0.0 for name, times in evidence.times.items()}
    name, worst = max(widths.items(), key=lambda item: item[1], default=("", 0.0))
    if worst <= MAX_HALF_WIDTH:
        return None
    return Reason(
        "scatter",
        "suspect",
        f"{name} scatters, its median is known to ±{worst:.1%} only (at most {MAX_HALF_WIDTH:.0%}).",
        "Measure more runs, or leave out --num-iterations to measure until ±1%.",
    )


def first_run_slow(evidence: Evidence) -> Reason | None:
    excesses = {
        name: _first_run_excess(times)
        for name, times in evidence.times.items()
        if len(times) >= MIN_RUNS
    }
    name, worst = max(excesses.items(), key=lambda item: item[1], default=("", 0.0))
    if worst <= MAX_FIRST_RUN_EXCESS:
        return None
    return Reason(
        "first_run_slow",
        "suspect",
        f"{name} of the first run is {worst:.1%} above the median of the others "
        f"(at most {MAX_FIRST_RUN_EXCESS:.0%}): the warm-up was too short.",
        "Raise --warmup-iterations.",
    )


def _first_run_excess(times: Sequence[float]) -> float:
    """Of the first run over the median of the others; 0 where they scatter as much themselves."""
    rest = times[1:]
    middle = median(rest)
    error = 1.4826 * median(abs(time - middle) for time in rest)  # as of a normal distribution
    excess = times[0] - middle
    return excess / middle if excess > FIRST_RUN_ERRORS * error else 0.0


def target_not_reached(evidence: Evidence) -> Reason | None:
    """Of a few runs too_few_runs says enough."""
    target, achieved = evidence.target_ci, evidence.achieved_ci
    if target is None or not evidence.is_long_enough:
        return None
    if achieved is not None and achieved <= target:
        return None
    reached = "is unknown" if achieved is None else f"is ±{achieved:.2%}"
    ended = stop_words(evidence.stop_reason)
    return Reason(
        "target_not_reached",
        "suspect",
        f"The 95% interval {reached}, the target ±{target:.2%} (stopped: {ended}).",
        "Allow more time (--max-seconds) or a wider --target-ci.",
    )


def too_few_runs(evidence: Evidence) -> Reason | None:
    if evidence.is_long_enough:
        return None
    return Reason(
        "too_few_runs",
        "unverified",
        f"{evidence.runs} run{'s' * (evidence.runs != 1)}: fewer than {MIN_RUNS} show neither scatter nor trends.",
        "Measure 10 (--num-iterations).",
    )


SAMPLE_RULES: tuple[Rule, ...] = (
    drift,
    step,
    order,
    scatter,
    first_run_slow,
    target_not_reached,
    too_few_runs,
)
