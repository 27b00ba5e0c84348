"""After the timed runs: what bounds a cell, the hardware or the host that feeds it.

In a long loop the launch queue fills and hides the host; so one step is enqueued after a
synchronisation, and the time its launches take is held against the time its kernels take.
"""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from inference_benchmark.hardware import Ceilings
from inference_benchmark.session.live import LiveCell
from inference_benchmark.system.kernel_profile import least_waiting, record_steps, write_trace
from inference_benchmark.workloads.base import ProfiledPhase

_ENQUEUES = 5
_BARE_STEPS = 200


def diagnose(
    cell: LiveCell,
    inputs,
    trace_path: Path | None,
    all_gather: Callable[[dict], list[dict]],
    ceilings: Ceilings | None = None,
) -> None:
    """Fill the record's host and profile. Costs a few runs' first steps.

    Each phase is held against the limit of the very steps that were profiled. all_gather gives what
    each rank found.
    """
    plan, record = cell.plan, cell.record
    phases = plan.workload.profiled(
        cell.engine, inputs, plan.share, plan.precision, plan.batch_size
    )
    profiles = {phase.name: _profile(phase) for phase in phases}
    if trace_path is not None:
        write_trace(phases, trace_path)
    profile = least_waiting(all_gather(profiles))
    for phase in phases:
        profile[phase.name] |= _limits(phase, ceilings)
    record.profile = profile
    record.host = _host(cell, phases)


def _profile(phase: ProfiledPhase) -> dict:
    phase.prepare()
    return record_steps(phase.step, phase.repeats)


def _limits(phase: ProfiledPhase, ceilings: Ceilings | None) -> dict:
    contexts = phase.contexts
    return {
        "metric": phase.metric,
        "contexts": None if contexts is None else [contexts[0], contexts[-1]],
        "limit_s": None if ceilings is None else phase.work.least_s(ceilings),
        "limit_by_kind": None if ceilings is None else phase.work.by_kind(ceilings),
    }


def _host(cell: LiveCell, phases: list[ProfiledPhase]) -> dict:
    """How the host keeps up in the phase that is repeated, the last one."""
    repeated = phases[-1]
    repeated.prepare()
    repeats = min(_ENQUEUES, repeated.repeats) if repeated.contexts is not None else _ENQUEUES
    enqueue_s = median(_enqueue_s(repeated.step) for _ in range(repeats))
    kernel_s = cell.record.profile[repeated.name]["kernel_s"]
    times = cell.times()
    busy = {
        f"{phase.name}_busy_share": _share(
            cell.record.profile[phase.name]["kernel_s"], times[phase.metric]
        )
        for phase in phases
    }
    return {
        "enqueue_s": enqueue_s,
        "kernel_s": kernel_s,
        "enqueue_over_kernel": enqueue_s / kernel_s if kernel_s else None,
        **busy,
        "loop_overhead": _loop_overhead(cell, phases),
    }


def _loop_overhead(cell: LiveCell, phases: list[ProfiledPhase]) -> float | None:
    """What the timed loop adds to its bare steps, as a share; from the same positions on."""
    steps_of = cell.plan.workload.steps
    steps = [step_s for run in cell.record.runs for step_s in steps_of(run).values()]
    count = min(_BARE_STEPS, len(steps[0])) if steps else 0
    if not count:
        return None
    repeated = phases[-1]
    if repeated.contexts is None:  # a run is no loop of it
        return None
    repeated.prepare()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(count):
        repeated.step()
    end.record()
    torch.cuda.synchronize()
    bare_s = start.elapsed_time(end) * 1e-3
    return median(sum(step_s[:count]) for step_s in steps) / bare_s - 1


def _share(part: float, times: list[float]) -> float | None:
    return min(1.0, part / median(times)) if times else None


def _enqueue_s(step: Callable[[], None]) -> float:
    torch.cuda.synchronize()
    started = time.perf_counter()
    step()
    spent = time.perf_counter() - started
    torch.cuda.synchronize()
    return spent
