"""Cells of the full model that never ran, from the cells of two depths that did.

Both depths run in every round, so an estimate is a sample per round: its interval comes from the
same statistics as a measured one, the weight of the noise included, and is widened by how far such
estimates were off where the full model could be measured too. Outputs were checked at both depths,
or there is no estimate.
"""

from collections.abc import Sequence
from dataclasses import replace

from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.extrapolation import Extrapolation
from inference_benchmark.session.record import MEMORY, CellRecord, MeasuredCell
from inference_benchmark.workloads.base import Workload

_DEPTH = "EST"
_NOISE = (
    "no estimate: in some round the deeper model was faster than the shallow one, by so much that "
    "the full model would take no time; choose depths further apart, or measure with less noise"
)


def estimated_cells(
    cells: Sequence[MeasuredCell], extrapolation: Extrapolation, model: ModelConfig
) -> list[MeasuredCell]:
    """One for each mode and batch size of which both depths were measured soundly.

    model: the full one.
    """
    return [
        _estimate(small, large, extrapolation, model)
        for small in cells
        for large in cells
        if small.plan.model.num_layers == extrapolation.from_layers[0]
        and large.plan.model.num_layers == extrapolation.from_layers[1]
        and _same_mode(small, large)
        and small.record.is_sound
        and large.record.is_sound
    ]


def is_source(cell: MeasuredCell, estimate: MeasuredCell) -> bool:
    """Whether the estimate comes from this cell, among others."""
    depths = estimate.plan.extrapolation.from_layers
    return _same_mode(cell, estimate) and cell.plan.model.num_layers in depths


def errors_by_metric(workload: Workload | type[Workload]) -> dict[str, float]:
    """How far the straight line was off, relative, of each metric."""
    errors, default = workload.estimate_errors, workload.estimate_error
    return {metric.name: errors.get(metric.name, default) for metric in workload.metrics}


def widened(summary: dict, workload: Workload | type[Workload], metric: str) -> dict:
    """A metric's summary with intervals that hold the error of the straight line too."""
    error = errors_by_metric(workload)[metric]
    return summary | {
        name: [summary[name][0] * (1 - error), summary[name][1] * (1 + error)]
        for name in ("median_ci95", "mean_ci95")
        if summary[name] is not None
    }


def _same_mode(cell: MeasuredCell, other: MeasuredCell) -> bool:
    names = ("spec", "batch_size", "context_depth")
    return all(getattr(cell.plan, name) == getattr(other.plan, name) for name in names)


def _estimate(
    small: MeasuredCell, large: MeasuredCell, extrapolation: Extrapolation, model: ModelConfig
) -> MeasuredCell:
    plan = replace(large.plan, model=model, depth=_DEPTH, extrapolation=extrapolation)
    rounds = sorted(set(small.record.rounds) & set(large.record.rounds))
    times = _times(small, large, extrapolation, rounds)
    record = CellRecord(
        estimated_rounds=rounds,
        estimates=times,
        timer=large.record.timer,
        engine=large.record.engine,
        cold_start=None,
        memory=dict.fromkeys(MEMORY) | plan.planned_memory(),
        status="partial" if "partial" in (small.record.status, large.record.status) else "ok",
        stop_reason=large.record.stop_reason,
    )
    if min((value for values in times.values() for value in values), default=1.0) <= 0:
        nothing = {metric: [] for metric in times}
        record = replace(
            record, status="failed", error=_NOISE, estimated_rounds=[], estimates=nothing
        )
    return MeasuredCell(plan, record)


def _times(
    small: MeasuredCell, large: MeasuredCell, extrapolation: Extrapolation, rounds: list[int]
) -> dict[str, list[float]]:
    """Round by round, of the rounds that both depths finished: what slows a round slows both."""
    shallow, deep = (
        {
            metric: dict(zip(cell.record.rounds, values, strict=True)) if values else {}
            for metric, values in cell.times().items()
        }
        for cell in (small, large)
    )
    return {
        metric: [
            extrapolation.estimate(shallow[metric][number], deep[metric][number])
            for number in rounds
            if number in shallow[metric]
        ]
        for metric in shallow
    }
