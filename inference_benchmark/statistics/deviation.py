"""By how much sessions of one thing differ: what a verdict between two sessions has to allow for.

Two sessions of equal code differ by more than the runs inside each tell: another GPU of its kind,
another placement in memory, another temperature. That deviation is estimated from several sessions,
those that are compared or sets that were saved before; without any, one is assumed.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from inference_benchmark.statistics.intervals import log_times

DEFAULT_DEVIATION = 0.013
"""Standard deviation between sessions, as a share of the time, where none is known.

results/published holds three sessions of equal code and conditions, Llama 3.1 8B under
inductor+graphs on two H200 (main_job and same_twice). The medians of their TTFT differ by 0.29 %
(standard deviation), those of their TBOT by 0.02 %. Three sessions leave room for 1.3 %: the upper
end of a one-sided 95 % interval, 0.29 % x sqrt(2 / 0.1026), the 5 % quantile of chi-squared of 2
degrees. A later set (three_sessions, on two H200s again) lies within it, 0.06 to 0.74 %, but for
the TTFT of thunder, 2.4 %, whose runs scatter: for such a cell a saved set of its own is needed."""

_ENOUGH_DEGREES = 4  # five sessions of one thing: Student's t is then 2.8 at 95 %, not 12.7
_OWN_DEGREES = 2


@dataclass(frozen=True)
class Deviation:
    """Between sessions, as a standard deviation of log times, which is a share of the time."""

    share: float
    degrees: int | None  # of freedom of its estimate; None: taken as known
    source: str  # where it comes from, in words


@dataclass(frozen=True)
class Spread:
    """The squares that sets of sessions add up to: sum over sessions of (log median - mean)^2."""

    squares: float = 0.0
    degrees: int = 0
    sessions: int = 0
    median_variance: float = (
        0.0  # what a session's own runs leave uncertain of its median, averaged
    )

    def __add__(self, other: "Spread") -> "Spread":
        sessions = self.sessions + other.sessions
        summed = sum(spread.median_variance * spread.sessions for spread in (self, other))
        return Spread(
            self.squares + other.squares,
            self.degrees + other.degrees,
            sessions,
            summed / sessions if sessions else 0.0,
        )

    @property
    def share(self) -> float:
        return math.sqrt(self.squares / self.degrees) if self.degrees else 0.0


def spread_of(sets: Iterable[Sequence[Sequence[float]]]) -> Spread:
    """Of sets of sessions of one thing each, a session given as the times of its runs.

    A set has a mean of its own, so that sets of different models may be pooled. One that holds a
    single session says nothing.
    """
    total = Spread()
    for sessions in sets:
        if len(sessions) < 2:
            continue
        logs = log_times([np.median(runs) for runs in sessions])
        squares = float(((logs - logs.mean()) ** 2).sum())
        noise = float(np.mean([median_variance(runs) for runs in sessions]))
        total += Spread(squares, logs.size - 1, logs.size, noise)
    return total


def median_variance(runs: Sequence[float]) -> float:
    """Of the log of the median of these runs, by the runs alone; 0 of a single run.

    pi / 2 times that of the mean, as for a normal distribution.
    """
    if len(runs) < 2:
        return 0.0
    return math.pi / 2 * float(log_times(runs).var(ddof=1)) / len(runs)


def choose_deviation(of_these: Spread, saved: Spread) -> Deviation:
    """What to judge two sides by: of_these is their spread, saved that of sets saved before.

    The sides' own where it rests on 4 degrees of freedom (three sessions a side), with the saved
    ones where they reach that together. Two sessions a side make do with 2. Less than that is no
    estimate: the default holds then, unless what was seen is larger.
    """
    if of_these.degrees >= _ENOUGH_DEGREES:
        return Deviation(of_these.share, of_these.degrees, "the sessions compared")
    both = of_these + saved
    if both.degrees >= _ENOUGH_DEGREES:
        source = f"{saved.sessions} saved sessions"
        return Deviation(
            both.share, both.degrees, f"{source} and these" if of_these.degrees else source
        )
    if of_these.degrees >= _OWN_DEGREES:
        return Deviation(of_these.share, of_these.degrees, "the sessions compared")
    if both.share > DEFAULT_DEVIATION:
        source = f"{both.sessions} sessions, more than the default"
        return Deviation(both.share, both.degrees, source)
    return Deviation(DEFAULT_DEVIATION, None, "default: no saved set of 5 sessions")
