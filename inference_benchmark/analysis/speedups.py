"""Each cell against its baseline, metric by metric, with one adjustment for all of a session's
comparisons. No torch."""

from collections.abc import Sequence
from dataclasses import replace

from inference_benchmark.engines.spec import ModeSpec, baseline_at
from inference_benchmark.model.implementation import Implementation
from inference_benchmark.session.record import MeasuredCell
from inference_benchmark.statistics.intervals import Interval
from inference_benchmark.statistics.ratios import compare
from inference_benchmark.statistics.verdicts import Ratio, adjust_for_many

Key = tuple[int, str, str]  # (cell, name of the reference, metric)


def speedups(cells: Sequence[MeasuredCell], wanted: str | None) -> list[dict | None]:
    """The result file's `speedup` of each cell; None where it has no baseline or no sound times.

    wanted: label of the mode that is the baseline; None: PyTorch as shipped at the same graph
        setting, for quantised weights the same mode without them.
    Of another implementation than the first one: the same mode of that.
    Cells that were interleaved are compared round by round, others as two samples.
    """
    references = [_references(cell, cells, wanted) for cell in cells]
    ratios: dict[Key, Ratio] = {}
    for number, cell in enumerate(cells):
        for name, other in references[number].items():
            for metric, ratio in _ratios(other, cell).items():
                ratios[number, name, metric] = ratio
    ratios = dict(zip(ratios, adjust_for_many(list(ratios.values())), strict=True))
    return [_speedup(number, cell, references[number], ratios) for number, cell in enumerate(cells)]


def find_plain(cell: MeasuredCell, cells: Sequence[MeasuredCell]) -> MeasuredCell | None:
    """The sound cell of unmodified PyTorch that does the same work."""
    spec = cell.plan.spec
    return _find_spec(baseline_at(False, workload=spec.workload), cell, cells)


def _baseline(
    cell: MeasuredCell, cells: Sequence[MeasuredCell], wanted: str | None
) -> MeasuredCell | None:
    spec, reference = cell.plan.spec, cells[0].plan.implementation
    if cell.plan.implementation != reference:  # whose gain is over the same mode of the first one
        baseline = _find(spec.label, cell, cells, reference)
    elif wanted is not None:
        baseline = _find(wanted, cell, cells)
    else:
        default = baseline_at(spec.cuda_graphs, workload=spec.workload)
        baseline = _unquantized(cell, cells) or _find_spec(default, cell, cells)
    return None if baseline is cell or not cell.record.is_sound else baseline


def _references(
    cell: MeasuredCell, cells: Sequence[MeasuredCell], wanted: str | None
) -> dict[str, MeasuredCell]:
    """What a cell is held against, by name; nothing where it has no baseline.

    plain_eager: PyTorch as shipped without CUDA graphs, where it was measured too.
    eager_kernels: of a mode with this project's kernels, PyTorch with the same ones.
    """
    baseline = _baseline(cell, cells, wanted)
    if baseline is None:
        return {}
    spec, references = cell.plan.spec, {"baseline": baseline}
    further = {"plain_eager": find_plain(cell, cells)}
    if spec.kernels:
        with_ours = baseline_at(spec.cuda_graphs, True, spec.workload)
        further["eager_kernels"] = _find_spec(with_ours, cell, cells)
    for name, other in further.items():
        if other is not None and other is not cell and other is not baseline:
            references[name] = other
    return references


def _unquantized(cell: MeasuredCell, cells: Sequence[MeasuredCell]) -> MeasuredCell | None:
    """Of quantised weights, the same mode with the model as it is: the format's own gain."""
    spec = cell.plan.spec
    if spec.quantize is None:
        return None
    return _find(replace(spec, quantize=None).label, cell, cells)


def _find_spec(
    spec: ModeSpec, like: MeasuredCell, cells: Sequence[MeasuredCell]
) -> MeasuredCell | None:
    """The cell of this mode with the model as it is, or else with weights as this one's."""
    same = replace(spec, quantize=like.plan.spec.quantize)
    return _find(spec.label, like, cells) or _find(same.label, like, cells)


def _find(
    mode_label: str,
    like: MeasuredCell,
    cells: Sequence[MeasuredCell],
    implementation: Implementation | None = None,
) -> MeasuredCell | None:
    """The sound cell of this mode that does the same work, of the same implementation unless
    another one is asked for."""
    implementation = implementation or like.plan.implementation
    for cell in cells:
        is_same_work = cell.plan.like(like.plan) and cell.plan.implementation == implementation
        if is_same_work and cell.plan.spec.label == mode_label and cell.record.is_sound:
            return cell
    return None


def _ratios(baseline: MeasuredCell, cell: MeasuredCell) -> dict[str, Ratio]:
    """Of each metric that both have, on the rounds that both have where they took turns."""
    paired = baseline.plan.interleaved and cell.plan.interleaved
    before, after = baseline.times(), cell.times()
    if paired:
        shared = set(baseline.record.rounds) & set(cell.record.rounds)
        before, after = (
            _of_rounds(measured, times, shared)
            for measured, times in ((baseline, before), (cell, after))
        )
    return {
        metric: compare(before[metric], times, paired=paired)
        for metric, times in after.items()
        if times and before[metric]
    }


def _of_rounds(cell: MeasuredCell, times: dict, rounds: set[int]) -> dict[str, list[float]]:
    chosen = [place for place, number in enumerate(cell.record.rounds) if number in rounds]
    return {
        metric: [values[place] for place in chosen] if values else []
        for metric, values in times.items()
    }


def _speedup(
    number: int,
    cell: MeasuredCell,
    references: dict[str, MeasuredCell],
    ratios: dict[Key, Ratio],
) -> dict | None:
    if not references:
        return None

    def against(name: str) -> dict | None:
        if name not in references:
            return None
        return {
            "baseline": references[name].plan.label,
            "metrics": {
                metric.name: _record(_of_estimates(ratio, cell, metric.name))
                if (ratio := ratios.get((number, name, metric.name)))
                else None
                for metric in cell.plan.workload.metrics
            },
        }

    further = {name: against(name) for name in ("plain_eager", "eager_kernels")}
    return {**(against("baseline") or {}), **further}


def _of_estimates(ratio: Ratio, cell: MeasuredCell, metric: str) -> Ratio:
    """Of two estimates."""
    if not cell.plan.is_estimate or ratio.ci95 is None:
        return ratio
    error = cell.plan.workload.estimate_error
    interval, verdict = widened_ratio(ratio.ci95, ratio.verdict, ratio.band, error)
    return replace(ratio, ci95=interval, verdict=verdict)


def widened_ratio(
    interval: Sequence[float], verdict: str, band: float, error: float
) -> tuple[Interval, str]:
    """As far as the straight line may be off, the interval is wider, and a verdict that it no longer
    carries becomes inconclusive."""
    low, high = interval[0] / (1 + error), interval[1] * (1 + error)
    edge = 1 + band
    carries = {
        "faster": low > 1,
        "slower": high < 1,
        "same": 1 / edge <= low and high <= edge,
    }
    return (low, high), verdict if carries.get(verdict, True) else "inconclusive"


def _record(ratio: Ratio) -> dict:
    return {
        "ratio": ratio.ratio,
        "ci95": None if ratio.ci95 is None else list(ratio.ci95),
        "verdict": ratio.verdict,
        "p_value": ratio.p_value,
        "p_adjusted": ratio.p_adjusted,
    }
