"""What is known of a cell, and what a rule of validity says where that is a reason for doubt."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

from inference_benchmark.statistics.intervals import printed_interval

# Two runs in each third, the fewest of which trends and steps can be told, and from which on the
# median has an exact interval.
MIN_RUNS = 6

Severity = Literal["unverified", "suspect", "invalid"]
GRAVITY: tuple[Severity, ...] = ("invalid", "suspect", "unverified")


@dataclass(frozen=True)
class Reason:
    code: str
    severity: Severity
    message: str
    remedy: str


@dataclass(frozen=True)
class Evidence:
    """What is known of a cell. None: unknown. Times are per run, in the order of the runs."""

    device: Literal["cuda", "cpu"]
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)  # by the metric's title
    gpu_state: Mapping[str, Any] | None = None  # as system.gpu_summary.summarize_state gives it
    other_cells_gpu_state: Sequence[
        Mapping[str, Any]
    ] = ()  # of those that do the same work, where known
    takes_turns: bool = False  # with other cells, in an order that reverses from round to round
    recompilations: int | None = None  # after warm-up
    allocator_retries: int | None = None  # during the timed runs
    timer_disagreement: Sequence[float] | None = None  # per run: |steps - wall clock| / wall clock
    target_ci: float | None = None  # relative half-width asked for; None: a fixed number of runs
    achieved_ci: float | None = None  # the widest of the metrics it was asked for
    stop_reason: str | None = None
    output_check_passed: bool | None = None  # None: the output was not checked
    # {metric's title: the share of its limit that was reached, as `limit_share` gives it}
    limit_shares: Mapping[str, "LimitShare | None"] = field(default_factory=dict)
    timer: Literal["cuda_event", "wall"] = "cuda_event"  # wall: there is no second clock
    # Where the CPU computes. Other processes that wanted a CPU before anything was run (as
    # system.host_load.load_average gives it), and how many CPUs there are for this process.
    load_average: float | None = None
    cpus: int | None = None
    # How often the CPU was taken from this process (all threads) during the timed runs, together.
    involuntary_switches: int | None = None

    @property
    def times(self) -> dict[str, Sequence[float]]:
        """The samples of metrics that have any."""
        return {title: times for title, times in self.samples.items() if len(times)}

    @property
    def runs(self) -> int:
        return max(map(len, self.times.values()), default=0)

    @property
    def is_long_enough(self) -> bool:
        return self.runs >= MIN_RUNS


@dataclass(frozen=True)
class LimitShare:
    """The limit over the measured time: 1 is as fast as the hardware allows."""

    share: float  # of the median
    low: float  # at the slow end of the median's interval, the limit's own uncertainty included
    basis: str  # what the limit refers to: "datasheet", "measured", "given"


def limit_share(
    limit_s: float | None, times: Sequence[float], basis: str, limit_uncertainty: float = 0.0
) -> LimitShare | None:
    """Of a metric's times; None where there is no limit or no time.

    Args:
        limit_uncertainty: by which share the limit itself may be too long, as that of a bandwidth
            that was measured on the spot.
    """
    if limit_s is None or not len(times) or median(times) <= 0:
        return None
    slowest = (printed_interval(times) or (0.0, median(times)))[1]
    low = limit_s * (1 - limit_uncertainty) / slowest
    return LimitShare(limit_s / median(times), low, basis)


Rule = Callable[[Evidence], Reason | None]
