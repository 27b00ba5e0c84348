"""Whether a cell's numbers can be trusted, and if not, why and what to do about it.

A benchmark can be precise and wrong: the GPU throttled, a compiler ran again, another process
shared the GPU, the output was garbage. Each such cause is one small rule over plain numbers, which
answers with a reason (what was seen, and a remedy) or with nothing. "invalid" says that the numbers
do not measure what they claim to; "suspect" that they may be off by more than the precision they
are printed with. A number that is unknown (None) fires no rule, except where not knowing is itself
the finding.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import sqrt
from statistics import median
from typing import Any, Literal

# Hardware slowdowns halve the clocks or worse, so 1 % of the time costs about the 1 % to which
# results are measured. Less is still worth a word.
MAX_THERMAL_SHARE = 0.01
# At a limit below its own a GPU sheds a few percent of its clocks. Up to a fifth of the time that
# moves a run by well under 1 %.
MAX_CAPPED_SHARE = 0.20
# Twice the 1 % within which two results count as the same: beyond it a trend over the runs decides
# verdicts.
MAX_DRIFT = 0.02
# Two-sided 5 % for the trend test. It has to hold together with MAX_DRIFT, so a false alarm takes
# noise that is both ordered and large.
DRIFT_Z = 1.96
MIN_RUNS_FOR_DRIFT = 6  # two per third, and what the normal approximation needs
MAX_FIRST_RUN_EXCESS = 0.05  # well over run-to-run noise; lazy initialisation costs more than that
MAX_TIMER_DISAGREEMENT = 0.02
# A mode that keeps more of the GPU busy runs at lower clocks at the same power limit: 2 to 4 % were
# seen between modes of one session on an H200. More than this is another cause.
MAX_CLOCK_DIFFERENCE = 0.05
MIN_RUNS = 3

HARD_THROTTLES = {
    "hardware_thermal": "hardware thermal slowdown",
    "hardware_power_brake": "hardware power brake",
    "software_thermal": "thermal limit",
}
SOFT_THROTTLES = {"software_power_cap": "power limit", "sync_boost": "sync boost"}

Severity = Literal["suspect", "invalid"]


@dataclass(frozen=True)
class Reason:
    code: str
    severity: Severity
    message: str
    remedy: str


@dataclass(frozen=True)
class Evidence:
    """What is known of a cell. None: unknown.

    times: of each metric, by its title, one per run in the order of the runs.
    """

    device: Literal["cuda", "cpu"]
    times: Mapping[str, Sequence[float]] = field(default_factory=dict)
    gpu_state: Mapping[str, Any] | None = None  # as measurement.gpu_state.summarize_state gives it
    other_cells_sm_clock_hz: Sequence[float] = ()  # median of each other cell of the session
    recompilations: int | None = None  # after warm-up
    allocator_retries: int | None = None  # during the timed runs
    timer_disagreement: Sequence[float] | None = None  # per run: |steps - wall clock| / wall clock
    target_ci: float | None = None  # relative half-width asked for
    achieved_ci: float | None = None  # the widest of the metrics it was asked for
    stop_reason: str | None = None
    agreement_passed: bool | None = None  # None: the output was not checked

    @property
    def runs(self) -> int:
        return max(map(len, self.times.values()), default=0)


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
    return next((grave for grave in ("invalid", "suspect") if grave in found), "valid")


def wrong_output(evidence: Evidence) -> Reason | None:
    if evidence.agreement_passed is not False:
        return None
    return Reason(
        "wrong_output",
        "invalid",
        "The output differs from the reference by more than the tolerance.",
        "Look at the cell's agreement figures; its speed means nothing until they pass.",
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
    if len(times) < MIN_RUNS_FOR_DRIFT or abs(_mann_kendall_z(times)) < DRIFT_Z:
        return 0.0
    third = len(times) // 3
    return median(times[-third:]) / median(times[:third]) - 1


def _mann_kendall_z(values: Sequence[float]) -> float:
    """Standard score of the Mann-Kendall trend test: pairs in rising order less pairs in falling.

    Without the correction for ties, which errs towards no trend.
    """
    n = len(values)
    score = sum(
        (values[j] > values[i]) - (values[j] < values[i]) for i in range(n) for j in range(i + 1, n)
    )
    continuity = (score > 0) - (score < 0)
    return (score - continuity) / sqrt(n * (n - 1) * (2 * n + 5) / 18)


def first_run_slow(evidence: Evidence) -> Reason | None:
    excesses = {
        name: times[0] / median(times[1:]) - 1
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


def timers_disagree(evidence: Evidence) -> Reason | None:
    runs = evidence.timer_disagreement or ()
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
    runs = evidence.runs
    if runs >= MIN_RUNS:
        return None
    return Reason(
        "too_few_runs",
        "suspect",
        f"{runs} run(s) were measured; below {MIN_RUNS} there is no telling how much they vary.",
        f"Measure at least {MIN_RUNS} runs, better 10 (--num-iterations).",
    )


def cpu_smoke(evidence: Evidence) -> Reason | None:
    if evidence.device != "cpu":
        return None
    return Reason(
        "cpu_smoke",
        "suspect",
        "These numbers measure a CPU smoke run: they show that the tool works, not how fast a "
        "GPU is.",
        "Run on a machine with a CUDA GPU for numbers that mean something.",
    )


# Those that look at the times alone.
SAMPLE_RULES: tuple[Rule, ...] = (drift, first_run_slow, target_not_reached, too_few_runs)
RULES: tuple[Rule, ...] = (
    wrong_output,
    output_not_checked,
    throttled,
    power_capped,
    gpu_state_unknown,
    other_process,
    clocks_differ,
    recompiled,
    allocator_retries,
    drift,
    first_run_slow,
    timers_disagree,
    target_not_reached,
    too_few_runs,
    cpu_smoke,
)
