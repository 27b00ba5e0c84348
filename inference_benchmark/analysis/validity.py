"""Whether a cell's numbers can be trusted, and if not, why and what to do about it.

A benchmark can be precise and wrong: the GPU throttled, a compiler ran again, another process
shared the GPU, the output was garbage. Each such cause is one small rule over plain numbers, which
answers with a reason (what was seen, and a remedy) or with nothing. "invalid" says that the numbers
do not measure what they claim to; "suspect" that they may be off by more than the precision they
are printed with; "unverified" that the session was too short to tell. A number that is unknown
(None) fires no rule, except where not knowing is itself the finding.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Literal

from inference_benchmark.statistics.intervals import printed_interval, relative_half_width
from inference_benchmark.statistics.stability import Step, fits_better_than_a_trend, trend_z
from inference_benchmark.statistics.stability import step as find_step

# Hardware slowdowns halve the clocks or worse, so 1 % of the time costs about the 1 % to which
# results are measured. Less is still worth a word.
MAX_THERMAL_SHARE = 0.01
# At a limit below its own a GPU sheds a few percent of its clocks. Up to a fifth of the time that
# moves a run by well under 1 %.
MAX_CAPPED_SHARE = 0.20
# Twice the 1 % within which two results count as the same: beyond it a trend or a step over the runs
# decides verdicts.
MAX_DRIFT = 0.02
# Two-sided 5 % for the tests of a trend and of a step. Each has to hold together with MAX_DRIFT, so
# a false alarm takes noise that is both ordered and large.
DRIFT_Z = 1.96
STEP_P = 0.05
# A median this uncertain can't be told to be the same as itself by the 2 % between sessions.
MAX_HALF_WIDTH = 0.02
MAX_FIRST_RUN_EXCESS = 0.05  # well over run-to-run noise; lazy initialisation costs more than that
FIRST_RUN_ERRORS = 4  # and as many robust standard deviations, where runs scatter by more than that
MAX_TIMER_DISAGREEMENT = 0.02
# A mode that keeps more of the GPU busy runs at lower clocks at the same power limit: 2 to 4 % were
# seen between modes of one session on an H200. More than this is another cause.
MAX_CLOCK_DIFFERENCE = 0.05
# Two runs in each third, the fewest of which trends and steps can be told, and from which on the
# median has an exact interval.
MIN_RUNS = 6
# Other processes that want a CPU at the start, as a share of the CPUs: one more than a quarter of
# them takes time from a run that uses all.
MAX_LOAD_PER_CPU = 0.25
# An idle Linux takes each CPU from a process some 20 times a second, for threads of its own; a
# competitor does it over 100 times (a scheduler's slice is 3 to 4 ms).
MAX_SWITCHES_PER_S = 50.0  # and CPU

HARD_THROTTLES = {
    "hardware_thermal": "hardware thermal slowdown",
    "hardware_power_brake": "hardware power brake",
    "software_thermal": "thermal limit",
}
SOFT_THROTTLES = {"software_power_cap": "power limit", "sync_boost": "sync boost"}

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
    total_s: Sequence[float] = ()
    ttft_s: Sequence[float] = ()
    tbot_s: Sequence[float] = ()
    gpu_state: Mapping[str, Any] | None = None  # as system.gpu_state.summarize_state gives it
    other_cells_sm_clock_hz: Sequence[float] = ()  # median of each other cell of the session
    recompilations: int | None = None  # after warm-up
    allocator_retries: int | None = None  # during the timed runs
    timer_disagreement: Sequence[float] | None = None  # per run: |steps - wall clock| / wall clock
    target_ci: float | None = None  # relative half-width asked for; None: a fixed number of runs
    achieved_ci: float | None = None  # the widest of the metrics it was asked for
    stop_reason: str | None = None
    agreement_passed: bool | None = None  # None: the output was not checked
    # Times of further metrics, such as a workload's own: {title: a time per run}.
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)
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
        named = {"total time": self.total_s, "TTFT": self.ttft_s, "TBOT": self.tbot_s}
        return {name: times for name, times in {**named, **self.samples}.items() if len(times)}

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


def judge(evidence: Evidence) -> dict[str, Any]:
    """The `validity` of a cell: the gravest verdict of all rules, and the reason of each."""
    return _judge(evidence, RULES)


def judge_estimate(evidence: Evidence, sources: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The `validity` of an estimate: what is wrong with the cells that it comes from, and what its
    own times show."""
    all_of_them = [_judge(evidence, SAMPLE_RULES), *sources]
    reasons = [reason for each in all_of_them for reason in each["reasons"]]
    unique = {tuple(reason.values()): reason for reason in reasons}
    verdict = _gravest(each["verdict"] for each in all_of_them)
    return {"verdict": verdict, "reasons": list(unique.values())}


def _judge(evidence: Evidence, rules: Sequence[Rule]) -> dict[str, Any]:
    found = [reason for rule in rules if (reason := rule(evidence)) is not None]
    reasons = [asdict(reason) for reason in found]
    return {"verdict": _gravest(reason.severity for reason in found), "reasons": reasons}


def _gravest(verdicts: Iterable[str]) -> str:
    found = set(verdicts)
    return next((each for each in GRAVITY if each in found), "valid")


def wrong_output(evidence: Evidence) -> Reason | None:
    if evidence.agreement_passed is not False:
        return None
    return Reason(
        "wrong_output",
        "invalid",
        "The output differs from the reference by more than the tolerance.",
        "Look at the cell's agreement figures; its speed means nothing until they pass.",
    )


def over_limit(evidence: Evidence) -> Reason | None:
    """Faster than the hardware allows, by more than the times are uncertain."""
    over = {name: each for name, each in evidence.limit_shares.items() if each and each.low > 1}
    if not over:
        return None
    name, worst = max(over.items(), key=lambda item: item[1].share)
    return Reason(
        "over_limit",
        "invalid",
        f"{name} reaches {worst.share:.0%} of its limit ({worst.basis}), at least {worst.low:.0%} "
        "with its uncertainty: the limit or the time is wrong.",
        "Check that the GPU is the one the limit is for (--gpu-bandwidth, --gpu-peak, "
        "--measure-ceilings), that the clock spans all of the work, and that no work is left out "
        "(a cache that serves repeated inputs, fewer layers or tokens than claimed).",
    )


def output_not_checked(evidence: Evidence) -> Reason | None:
    if evidence.agreement_passed is not None:
        return None
    return Reason(
        "output_not_checked",
        "suspect",
        "The output was not compared with the reference.",
        "Run with the output check on.",
    )


def throttled(evidence: Evidence) -> Reason | None:
    """Heat or the power supply held the clocks down."""
    shares = _shares(evidence, HARD_THROTTLES)
    worst = max(shares.values(), default=0.0)
    if worst <= 0:
        return None
    return Reason(
        "throttled",
        "invalid" if worst > MAX_THERMAL_SHARE else "suspect",
        f"The GPU was slowed down for part of the run time: {_list_shares(shares)} "
        f"(at most {MAX_THERMAL_SHARE:.0%} is tolerable).",
        "Improve the cooling or power supply, or lock lower clocks, and measure again.",
    )


def power_capped(evidence: Evidence) -> Reason | None:
    """A limit below the board's own held the clocks down. At its own limit a GPU under full load
    always sheds some clocks: that is how fast it is, and no fault of the measurement."""
    shares = _shares(evidence, SOFT_THROTTLES)
    state = evidence.gpu_state or {}
    limit_w, own_w = state.get("power_limit_w"), state.get("default_power_limit_w")
    if limit_w is not None and own_w is not None and limit_w >= own_w:
        shares.pop(SOFT_THROTTLES["software_power_cap"], None)
    if max(shares.values(), default=0.0) <= MAX_CAPPED_SHARE:
        return None
    limit = "" if limit_w is None else f" The power limit is {limit_w:.0f} W."
    return Reason(
        "power_capped",
        "suspect",
        f"The clocks were capped for part of the run time: {_list_shares(shares)} "
        f"(expected: at most {MAX_CAPPED_SHARE:.0%}).{limit}",
        "Raise the power limit, or lock the clocks below the point where it caps them; compare "
        "only with results at the same limit.",
    )


def _shares(evidence: Evidence, causes: Mapping[str, str]) -> dict[str, float]:
    """The share of the run time for each cause that took any, by its readable name."""
    shares = (evidence.gpu_state or {}).get("throttled_share") or {}
    return {name: shares[cause] for cause, name in causes.items() if shares.get(cause)}


def _list_shares(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:.2%}" for name, share in shares.items())


def gpu_state_unknown(evidence: Evidence) -> Reason | None:
    if evidence.device == "cpu" or evidence.gpu_state is not None:
        return None
    return Reason(
        "gpu_state_unknown",
        "suspect",
        "The GPU's clocks, throttling and other processes could not be read.",
        "Install nvidia-ml-py and make the driver's NVML library visible to this process.",
    )


def other_process(evidence: Evidence) -> Reason | None:
    others = (evidence.gpu_state or {}).get("other_processes")
    if not others:
        return None
    listed = ", ".join(_describe_process(process) for process in others)
    return Reason(
        "other_process",
        "suspect",
        f"{len(others)} other process(es) held the GPU during the runs: {listed}.",
        "Stop them or choose an idle GPU with CUDA_VISIBLE_DEVICES, and measure again.",
    )


def _describe_process(process: Mapping[str, Any]) -> str:
    used_bytes = process.get("used_memory_bytes")
    used = "unknown memory" if used_bytes is None else f"{used_bytes / 1e9:.2f} GB"
    return f"pid {process['pid']} ({used})"


def clocks_differ(evidence: Evidence) -> Reason | None:
    """Cells at different clocks: part of a speed-up between them is the clocks'."""
    clock = (evidence.gpu_state or {}).get("sm_clock_hz")
    if not clock or not evidence.other_cells_sm_clock_hz:
        return None
    own_hz = clock["median"]
    farthest_hz = max(evidence.other_cells_sm_clock_hz, key=lambda hz: abs(hz - own_hz))
    difference = abs(farthest_hz - own_hz) / median([own_hz, *evidence.other_cells_sm_clock_hz])
    if difference <= MAX_CLOCK_DIFFERENCE:
        return None
    return Reason(
        "clocks_differ",
        "suspect",
        f"The SM clock was {own_hz / 1e6:.0f} MHz here and {farthest_hz / 1e6:.0f} MHz in another "
        f"cell, {difference:.1%} apart (at most {MAX_CLOCK_DIFFERENCE:.0%}).",
        "Lock the clocks (nvidia-smi --lock-gpu-clocks) and measure all cells again.",
    )


def recompiled(evidence: Evidence) -> Reason | None:
    if not evidence.recompilations:
        return None
    return Reason(
        "recompiled",
        "suspect",
        f"The compiler ran {evidence.recompilations} time(s) after the warm-up.",
        "Add warm-up runs; if it persists, find the changing shape (TORCH_LOGS=recompiles).",
    )


def allocator_retries(evidence: Evidence) -> Reason | None:
    if not evidence.allocator_retries:
        return None
    return Reason(
        "allocator_retries",
        "suspect",
        f"The memory allocator ran out and retried {evidence.allocator_retries} time(s) during "
        "the runs, which stalls the GPU.",
        "Free memory on the GPU: a smaller batch, shorter lengths, or fewer modes per session.",
    )


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
    found = {name: _step(times) for name, times in evidence.times.items()}
    steps = {name: each for name, each in found.items() if each is not None}
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
    found = find_step(times)
    if found is None or found.p_value >= STEP_P or abs(found.change) <= MAX_DRIFT:
        return None
    return found if fits_better_than_a_trend(times, found) else None


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
        f"{name} scatters: the 95 % interval of its median is ±{worst:.1%} wide "
        f"(at most {MAX_HALF_WIDTH:.0%}).",
        "Measure more runs, or leave --num-iterations out: then runs are added until ±1 %.",
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


def timers_disagree(evidence: Evidence) -> Reason | None:
    """Two clocks are compared where there are two: the device's, and the host's around it."""
    runs = () if evidence.timer == "wall" else evidence.timer_disagreement or ()
    off = [share for share in runs if share > MAX_TIMER_DISAGREEMENT]
    if not off:
        return None
    return Reason(
        "timers_disagree",
        "suspect",
        f"The sum of the steps and the wall clock disagree in {len(off)} of {len(runs)} run(s), "
        f"by up to {max(off):.1%} (at most {MAX_TIMER_DISAGREEMENT:.0%}).",
        "Leave the host idle while measuring; if it persists, profile what runs between the steps.",
    )


def target_not_reached(evidence: Evidence) -> Reason | None:
    target, achieved = evidence.target_ci, evidence.achieved_ci
    if target is None or (achieved is not None and achieved <= target):
        return None
    reached = "is unknown" if achieved is None else f"is ±{achieved:.2%}"
    stop = evidence.stop_reason or "unknown"
    return Reason(
        "target_not_reached",
        "suspect",
        f"The 95 % interval {reached}, the target ±{target:.2%} (stopped by: {stop}).",
        "Allow more time or runs (--max-seconds, --num-iterations), or accept a wider --target-ci.",
    )


def too_few_runs(evidence: Evidence) -> Reason | None:
    if evidence.is_long_enough:
        return None
    return Reason(
        "too_few_runs",
        "unverified",
        f"{evidence.runs} run(s) were measured; below {MIN_RUNS} there is no telling scatter, "
        "trends and slow first runs.",
        f"Measure at least {MIN_RUNS} runs, better 10 (--num-iterations).",
    )


def busy_cpus(evidence: Evidence) -> Reason | None:
    """Where the CPU computes, others that want it at the start or take it away during the runs."""
    if evidence.device != "cpu":
        return None
    seen = [*_load_at_start(evidence), *_taken_away(evidence)]
    if not seen:
        return None
    return Reason(
        "busy_cpus",
        "suspect",
        f"The CPUs were shared: {'; '.join(seen)}.",
        "Stop what else is running, or keep to CPUs of your own (taskset), and measure again.",
    )


def _load_at_start(evidence: Evidence) -> Iterable[str]:
    load, cpus = evidence.load_average, evidence.cpus
    if load is not None and cpus and load / cpus > MAX_LOAD_PER_CPU:
        yield f"{load:.1f} other process(es) wanted one of {cpus} at the start"


def _taken_away(evidence: Evidence) -> Iterable[str]:
    seconds = sum(next(iter(evidence.times.values()), ()))
    if not evidence.involuntary_switches or seconds <= 0:
        return
    rate = evidence.involuntary_switches / seconds / (evidence.cpus or 1)
    if rate > MAX_SWITCHES_PER_S:
        yield (
            f"each was taken from this process {rate:,.0f} times a second "
            f"(at most {MAX_SWITCHES_PER_S:.0f})"
        )


# Those that look at the times alone.
SAMPLE_RULES: tuple[Rule, ...] = (
    drift,
    step,
    scatter,
    first_run_slow,
    target_not_reached,
    too_few_runs,
)
RULES: tuple[Rule, ...] = (
    wrong_output,
    over_limit,
    output_not_checked,
    throttled,
    power_capped,
    gpu_state_unknown,
    other_process,
    clocks_differ,
    recompiled,
    allocator_retries,
    drift,
    step,
    scatter,
    first_run_slow,
    timers_disagree,
    target_not_reached,
    too_few_runs,
    busy_cpus,
)
