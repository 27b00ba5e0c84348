"""After the timed runs: what bounds a cell, the hardware or the host that feeds it.

In a long loop the launch queue fills and hides the host; so one step is enqueued after a
synchronisation, and the time its launches take is held against the time its kernels take.
"""

import time
from collections.abc import Callable
from pathlib import Path

import torch

from inference_benchmark.session.cell import Cell
from inference_benchmark.system.kernel_profile import least_waiting, profile_engine
from inference_benchmark.workloads.metrics import tbot_samples

_ENQUEUES = 5
_BARE_STEPS = 200


def diagnose(
    cell: Cell, tokens, trace_path: Path | None, all_gather: Callable[[dict], list[dict]]
) -> None:
    """Fill cell.host and cell.profile. Costs one prefill and a few decode steps.

    all_gather gives what each rank found.
    """
    engine = cell.engine
    free_slots = cell.work.output_length  # after the prompt; a step beyond them has no position
    found = profile_engine(engine, tokens, free_slots, trace_path)
    cell.profile = least_waiting(all_gather(found))
    engine.prefill(tokens)
    enqueue_s = _median([_enqueue_s(engine) for _ in range(min(_ENQUEUES, free_slots))])
    kernel_s = cell.profile["decode"]["kernel_s"]
    steps = tbot_samples([run.decode_s for run in cell.runs], cell.work.output_length)
    tbot_s = _median(steps) if steps else None
    prefill_s = _median([run.ttft_s for run in cell.runs]) if cell.runs else None
    cell.host = {
        "enqueue_s": enqueue_s,
        "kernel_s": kernel_s,
        "enqueue_over_kernel": enqueue_s / kernel_s if kernel_s else None,
        "decode_busy_share": min(1.0, kernel_s / tbot_s) if tbot_s else None,
        "prefill_busy_share": _share(cell.profile["prefill"]["kernel_s"], prefill_s),
        "loop_overhead": _loop_overhead(cell, tokens),
    }


def _loop_overhead(cell: Cell, tokens) -> float | None:
    """What the timed loop adds to its bare steps, as a share; from the same positions on."""
    count = min(_BARE_STEPS, cell.work.output_length - 1)
    if not count or not cell.runs:
        return None
    cell.engine.prefill(tokens)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(count):
        cell.engine.decode()
    end.record()
    torch.cuda.synchronize()
    bare_s = start.elapsed_time(end) * 1e-3
    return _median([sum(run.step_s[:count]) for run in cell.runs]) / bare_s - 1


def _share(part: float, whole: float | None) -> float | None:
    return min(1.0, part / whole) if whole else None


def _enqueue_s(engine) -> float:
    torch.cuda.synchronize()
    started = time.perf_counter()
    engine.decode()
    spent = time.perf_counter() - started
    torch.cuda.synchronize()
    return spent


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
