"""Rules of validity that look at the machine and the process: clocks, company, compilers, CPUs."""

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

from inference_benchmark.analysis.reason import Evidence, Reason, Rule

# Hardware slowdowns halve the clocks or worse, so 1 % of the time costs about the 1 % to which
# results are measured. Less is still worth a word.
MAX_THERMAL_SHARE = 0.01
# At a limit below its own a GPU sheds a few percent of its clocks. Up to a fifth of the time that
# moves a run by well under 1 %.
MAX_CAPPED_SHARE = 0.20
MAX_TIMER_DISAGREEMENT = 0.02
# More than this apart, clocks have a cause that has to be named. One is known: under full load a GPU
# sheds clocks until it draws no more than its limit, a mode that keeps more of it busy sheds more (7 %
# between two modes of one session of training on an H200), and that is how fast it is in that mode.
MAX_CLOCK_DIFFERENCE = 0.05
MIN_SHARE_AT_LIMIT = 0.90  # of the run time, of a mode whose clocks the power limit sets
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
    if _has_own_limit(state):
        shares.pop(SOFT_THROTTLES["software_power_cap"], None)
    if max(shares.values(), default=0.0) <= MAX_CAPPED_SHARE:
        return None
    limit_w = state.get("power_limit_w")
    limit = "" if limit_w is None else f" The power limit is {limit_w:.0f} W."
    return Reason(
        "power_capped",
        "suspect",
        f"The clocks were capped for part of the run time: {_list_shares(shares)} "
        f"(expected: at most {MAX_CAPPED_SHARE:.0%}).{limit}",
        "Raise the power limit, or lock the clocks below the point where it caps them; compare "
        "only with results at the same limit.",
    )


def _has_own_limit(state: Mapping[str, Any]) -> bool:
    """Whether nobody set a lower power limit than the board's."""
    limit_w, own_w = state.get("power_limit_w"), state.get("default_power_limit_w")
    return limit_w is not None and own_w is not None and limit_w >= own_w


def _is_at_own_limit(state: Mapping[str, Any]) -> bool:
    share = (state.get("throttled_share") or {}).get("software_power_cap") or 0.0
    return _has_own_limit(state) and share >= MIN_SHARE_AT_LIMIT


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
    """Cells at different clocks: part of a speed-up between them is the clocks'. Where the slower
    clock is what the board's power limit leaves a mode, it is the mode's."""
    state, others = evidence.gpu_state or {}, evidence.other_cells_gpu_state
    if not state.get("sm_clock_hz") or not others:
        return None
    own_hz = _clock_hz(state)
    usual_hz = median([own_hz, *map(_clock_hz, others)])
    unexplained = [
        _clock_hz(other)
        for other in others
        if not _is_at_own_limit(min(state, other, key=_clock_hz))
    ]
    farthest_hz = max(unexplained, key=lambda hz: abs(hz - own_hz), default=own_hz)
    difference = abs(farthest_hz - own_hz) / usual_hz
    if difference <= MAX_CLOCK_DIFFERENCE:
        return None
    return Reason(
        "clocks_differ",
        "suspect",
        f"The SM clock was {own_hz / 1e6:.0f} MHz here and {farthest_hz / 1e6:.0f} MHz in another "
        f"cell, {difference:.1%} apart (at most {MAX_CLOCK_DIFFERENCE:.0%}).",
        "Lock the clocks (nvidia-smi --lock-gpu-clocks) and measure all cells again.",
    )


def _clock_hz(state: Mapping[str, Any]) -> float:
    return state["sm_clock_hz"]["median"]


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
        f"The CPUs were busy: {'; '.join(seen)}.",
        "Stop what else runs, or keep to free CPUs (taskset).",
    )


def _load_at_start(evidence: Evidence) -> Iterable[str]:
    load, cpus = evidence.load_average, evidence.cpus
    if load is not None and cpus and load / cpus > MAX_LOAD_PER_CPU:
        yield f"a load of {load:.1f} on {cpus} at the start"


def _taken_away(evidence: Evidence) -> Iterable[str]:
    seconds = sum(next(iter(evidence.times.values()), ()))
    if not evidence.involuntary_switches or seconds <= 0:
        return
    rate = evidence.involuntary_switches / seconds / (evidence.cpus or 1)
    if rate > MAX_SWITCHES_PER_S:
        yield f"each taken away {rate:,.0f} times a second (at most {MAX_SWITCHES_PER_S:.0f})"


MACHINE_RULES: tuple[Rule, ...] = (
    throttled,
    power_capped,
    gpu_state_unknown,
    other_process,
    clocks_differ,
    recompiled,
    allocator_retries,
    timers_disagree,
    busy_cpus,
)
