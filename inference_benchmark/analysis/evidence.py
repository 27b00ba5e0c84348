"""What the rules of validity are given to look at. No torch."""

from collections.abc import Sequence

from inference_benchmark.analysis.validity import Evidence
from inference_benchmark.options.request import Request
from inference_benchmark.session.record import MeasuredCell
from inference_benchmark.statistics.intervals import relative_half_width


def evidence_of(
    cell: MeasuredCell, result: dict, results: Sequence[dict], request: Request
) -> Evidence:
    """results: of all cells of the session."""
    record, workload = cell.record, cell.plan.workload
    times = cell.times()
    clocks = [
        other["gpu_state"]["sm_clock_hz"]["median"]
        for other in results
        if other is not result and _has_clock(other)
    ]
    watched = [times[metric.name] for metric in workload.metrics if metric.watched]
    widths = [relative_half_width(values) for values in watched if values]
    known = [width for width in widths if width is not None]
    # The rule that stops a session looks at what is measured, not at estimates.
    is_adaptive = request.num_iterations is None and not cell.plan.is_estimate
    shown = [m for m in workload.metrics if m.headline or m.name == workload.run_metric]
    return Evidence(
        device=request.device,
        times={metric.title: tuple(times[metric.name]) for metric in shown},
        gpu_state=result["gpu_state"],
        other_cells_sm_clock_hz=tuple(clocks),
        recompilations=record.recompilations,
        allocator_retries=record.memory.get("allocator_retries"),
        timer_disagreement=_timer_disagreement(cell),
        target_ci=(request.target_ci or 0.01) if is_adaptive else None,
        achieved_ci=max(known) if known else None,
        stop_reason=record.stop_reason,
        agreement_passed=record.output_check and record.output_check["passed"],
    )


def _has_clock(result: dict) -> bool:
    state = result["gpu_state"]
    return bool(state and state.get("sm_clock_hz"))


def _timer_disagreement(cell: MeasuredCell) -> tuple[float, ...] | None:
    """Where the device's clock timed the run, how far the host's is from it."""
    if cell.record.timer != "cuda_event":
        return None
    return tuple(abs(run.wall_s / run.total_s - 1) for run in cell.record.runs)
