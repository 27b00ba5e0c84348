"""What the rules of validity are given to look at. No torch."""

from collections.abc import Sequence

from inference_benchmark.analysis.facts import SessionFacts
from inference_benchmark.analysis.validity import Evidence, LimitShare, limit_share
from inference_benchmark.session.record import MeasuredCell
from inference_benchmark.statistics.intervals import relative_half_width

# Measured ceilings are medians of repeats that scatter by about a percent.
_LIMIT_UNCERTAINTY = {"measured": 0.02}


def evidence_of(
    cell: MeasuredCell,
    result: dict,
    alike: Sequence[dict],
    facts: SessionFacts,
    takes_turns: bool = False,
) -> Evidence:
    """alike: results of the other cells that do the same work, which this one is held against.
    takes_turns: whether its rounds have other cells too."""
    record, workload, request = cell.record, cell.plan.workload, facts.request
    times = cell.times()
    others = [other["gpu_state"] for other in alike if _has_clock(other)]
    widths = [relative_half_width(values) for values in workload.watched(times).values() if values]
    known = [width for width in widths if width is not None]
    # The rule that stops a session looks at what is measured, not at estimates.
    is_adaptive = request.num_iterations is None and not cell.plan.is_estimate
    shown = [m for m in workload.metrics if m.headline or m.name == workload.run_metric]
    return Evidence(
        device=request.device,
        samples={metric.title: tuple(times[metric.name]) for metric in shown},
        gpu_state=result["gpu_state"],
        other_cells_gpu_state=tuple(others),
        takes_turns=takes_turns,
        recompilations=record.recompilations,
        allocator_retries=record.memory.get("allocator_retries"),
        timer_disagreement=_timer_disagreement(cell),
        target_ci=(request.target_ci or 0.01) if is_adaptive else None,
        achieved_ci=max(known) if known else None,
        stop_reason=record.stop_reason,
        output_check_passed=record.output_check and record.output_check["passed"],
        limit_shares={metric.title: _limit_share(cell, result, metric.name) for metric in shown},
        timer=result["timer"],
        load_average=facts.load_average,
        cpus=facts.cpus,
        involuntary_switches=record.involuntary_switches,
    )


def _limit_share(cell: MeasuredCell, result: dict, metric: str) -> LimitShare | None:
    """Of what was measured; an estimate shows its sources' faults."""
    limit, times = result["limit"], cell.times()[metric]
    if limit is None or not times or cell.plan.is_estimate:
        return None
    basis = limit["basis"]
    uncertainty = _LIMIT_UNCERTAINTY.get(basis, 0.0)
    return limit_share(limit["metrics"].get(metric), times, basis, uncertainty)


def _has_clock(result: dict) -> bool:
    state = result["gpu_state"]
    return bool(state and state.get("sm_clock_hz"))


def _timer_disagreement(cell: MeasuredCell) -> tuple[float, ...] | None:
    """Where the device's clock timed the run, how far the host's is from it."""
    if cell.record.timer != "cuda_event":
        return None
    known = [run for run in cell.record.runs if run.wall_s is not None]
    return tuple(abs(run.wall_s / run.total_s - 1) for run in known)
