"""One pairing, metric by metric: the row of a comparison, with its ratios and verdicts.

Cells of one session that were interleaved are compared round by round, other cells of one session
as two samples of runs. Between sessions clocks, temperature and placement differ; there the session
is the unit, a deviation between sessions is allowed for, and the band of "same" is wider. Every
ratio is a speed-up, above 1 where the row is better than its baseline.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from inference_benchmark.reporting.pairing import Pairing
from inference_benchmark.reporting.saved_cells import SavedCell, Shown
from inference_benchmark.reporting.sides import Side
from inference_benchmark.statistics.deviation import Spread
from inference_benchmark.statistics.ratios import compare, compare_sessions, single_ratio
from inference_benchmark.statistics.verdicts import (
    ALPHA_ACROSS_SESSIONS,
    BAND_ACROSS_SESSIONS,
    BAND_WITHIN_SESSION,
    Ratio,
    adjust_for_many,
)

SpreadOf = Callable[[SavedCell, str], Spread]  # between saved sessions, of a cell's metric

_IN_WORDS = {
    "workload": "{}",
    "gpu": "{}",
    "model_name": "{}",
    "num_layers": "{} layers",
    "input_length": "{} tokens in",
    "output_length": "{} out",
    "batch_size": "batch {}",
    "precision": "{}",
    "timer": "{}",
}
_USUAL_WORKLOAD = "generation"  # goes without saying


@dataclass(frozen=True)
class Measured:
    title: str
    unit: str
    baseline: float | None
    value: float | None
    ratio: Ratio | None
    is_timed: bool = True


@dataclass(frozen=True)
class Row:
    name: str
    title: str  # the fingerprint in words
    label: str
    files: tuple[str, ...]
    baseline_label: str | None
    baseline_files: tuple[str, ...]
    left_out: tuple[str, ...]  # files with one of the sides only, where others have both
    unit: str  # of the samples: "rounds", "runs", "sessions"
    metrics: dict[str, Measured]

    @property
    def timed(self) -> dict[str, Measured]:
        return {name: measured for name, measured in self.metrics.items() if measured.is_timed}


def make_row(pairing: Pairing, threshold: float | None, spread_of: SpreadOf) -> Row:
    candidate, baseline = pairing.candidate, pairing.baseline
    shared = {cell.file for cell in candidate} & {cell.file for cell in baseline}
    left_out: list[str] = []
    if shared:  # sessions that interleaved both sides say more than those that hold one
        left_out = [cell.file for cell in (*candidate, *baseline) if cell.file not in shared]
        candidate = tuple(cell for cell in candidate if cell.file in shared)
        baseline = tuple(cell for cell in baseline if cell.file in shared)
    band = BAND_WITHIN_SESSION if shared else BAND_ACROSS_SESSIONS
    band = band if threshold is None else threshold
    label, baseline_label = _labels(candidate[0], baseline[0] if baseline else None)
    return Row(
        name=pairing.name,
        title=", ".join(_words(candidate[0], _agreed((*candidate, *baseline)))),
        label=label,
        files=tuple(cell.file for cell in candidate),
        baseline_label=baseline_label,
        baseline_files=tuple(cell.file for cell in baseline),
        left_out=tuple(left_out),
        unit=_unit(candidate, baseline, bool(shared)),
        metrics=_metrics(candidate, baseline, bool(shared), band, spread_of),
    )


def _unit(candidate: Side, baseline: Side, is_paired: bool) -> str:
    if not is_paired or len(candidate) > 1:
        return "sessions"
    return "rounds" if _took_turns(candidate[0], baseline[0]) else "runs"


def _took_turns(cell: SavedCell, other: SavedCell) -> bool:
    """Of two cells of one file, whether they ran alternately."""
    same_batch = cell.fingerprint.batch_size == other.fingerprint.batch_size
    return same_batch and cell.interleaved and other.interleaved


def _metrics(
    candidate: Side, baseline: Side, is_paired: bool, band: float, spread_of: SpreadOf
) -> dict[str, Measured]:
    shown = {metric.name: metric for cell in (*candidate, *baseline) for metric in cell.shown}
    return {
        name: _measure(metric, candidate, baseline, is_paired, band, spread_of)
        for name, metric in shown.items()
    }


def _measure(
    shown: Shown,
    candidate: Side,
    baseline: Side,
    is_paired: bool,
    band: float,
    spread_of: SpreadOf,
) -> Measured:
    before = [cell.samples.get(shown.name, []) for cell in baseline]
    after = [cell.samples.get(shown.name, []) for cell in candidate]
    values = _middle(shown, before), _middle(shown, after)
    measured = Measured(shown.title, shown.unit, *values, None, shown.is_timed)
    if None in values:
        return measured
    if shown.better == "higher":
        before, after = after, before
    if not shown.is_timed:
        ratio = single_ratio(*(median(map(median, side)) for side in (before, after)))
    elif not is_paired:
        # a rate's deviation is that of the time it divides by
        saved = spread_of(candidate[0], shown.over or shown.name)
        ratio = compare_sessions(before, after, saved=saved, band=band)
    elif len(candidate) > 1:
        medians = [[median(runs) for runs in side] for side in (before, after)]
        ratio = compare(*medians, paired=True, band=band, alpha=ALPHA_ACROSS_SESSIONS)
    elif not _took_turns(candidate[0], baseline[0]):
        ratio = compare(before[0], after[0], paired=False, band=band)
    else:
        rounds = _in_common_rounds(shown.name, baseline[0], candidate[0])
        if not rounds[0]:
            return measured
        sides = rounds[::-1] if shown.better == "higher" else rounds
        ratio = compare(*sides, paired=True, band=band)
    return replace(measured, ratio=ratio)


def _middle(shown: Shown, runs: list[list[float]]) -> float | None:
    """One number for a side: the median of its sessions' medians, in the metric's own unit."""
    if not runs or not all(runs):
        return None
    middle = median(map(median, runs))
    return 1 / middle if shown.over else middle


def _in_common_rounds(metric: str, *cells: SavedCell) -> list[list[float]]:
    common = set.intersection(*(set(cell.rounds) for cell in cells))
    of_round = [dict(zip(cell.rounds, cell.samples[metric], strict=True)) for cell in cells]
    return [[samples[number] for number in sorted(common)] for samples in of_round]


def adjusted(rows: Sequence[Row]) -> list[Row]:
    """Verdicts that allow for how many comparisons there are, over all rows and metrics at once.

    A rate whose amount is the same on both sides repeats the comparison of the time it divides by:
    it counts once.
    """
    ratios = [measured.ratio for row in rows for measured in row.timed.values() if measured.ratio]
    distinct = {_of(ratio): ratio for ratio in ratios}
    new = dict(zip(distinct, adjust_for_many(list(distinct.values())), strict=True))
    return [
        replace(
            row,
            metrics={
                name: replace(measured, ratio=new.get(_of(measured.ratio), measured.ratio))
                if measured.ratio and measured.is_timed
                else measured
                for name, measured in row.metrics.items()
            },
        )
        for row in rows
    ]


def _of(ratio: Ratio) -> tuple[float, ...]:
    """What tells two comparisons apart, but for the last digits that a division leaves."""
    numbers = (ratio.ratio, *(ratio.ci95 or ()), ratio.p_value or 0.0)
    return tuple(float(f"{number:.9g}") for number in numbers)


def _agreed(cells: Sequence[SavedCell]) -> list[str]:
    """Names of the fields of the fingerprint in which all cells agree."""
    first = cells[0].fingerprint
    return [
        name
        for name in _IN_WORDS
        if all(getattr(cell.fingerprint, name) == getattr(first, name) for cell in cells)
    ]


def _words(cell: SavedCell, names: Iterable[str]) -> list[str]:
    """Fields of a cell's fingerprint; fewer layers than the model has are always said to be so."""
    values = {name: getattr(cell.fingerprint, name) for name in names}
    if "num_layers" in values and cell.full_num_layers not in (None, values["num_layers"]):
        values["num_layers"] = f"{values['num_layers']} of {cell.full_num_layers}"
    return [
        _IN_WORDS[name].format(value)
        for name, value in values.items()
        if value is not None and value != _USUAL_WORKLOAD
    ]


def _labels(cell: SavedCell, baseline: SavedCell | None) -> tuple[str, str | None]:
    """Labels with what differs between the two, save for the batch size, which is in the label."""
    if baseline is None:
        return cell.label, None
    agreed = {*_agreed((cell, baseline)), "batch_size"}
    differing = [name for name in _IN_WORDS if name not in agreed]
    labels = [
        f"{cell.label} [{', '.join(_words(cell, differing))}]" if differing else cell.label
        for cell in (cell, baseline)
    ]
    return labels[0], labels[1]
