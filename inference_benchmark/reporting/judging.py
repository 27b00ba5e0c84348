"""One pairing, metric by metric: the row of a comparison, with its ratios and verdicts.

Cells of the same session were interleaved, so that they are compared round by round. Between
sessions clocks, temperature and placement differ; there the session is the unit, and the band of
"same" is wider. Every ratio is a speed-up, above 1 where the row is better than its baseline.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from inference_benchmark.reporting.pairing import Pairing, Side
from inference_benchmark.reporting.saved_cells import Cell
from inference_benchmark.statistics.ratios import compare, compare_sessions, single_ratio
from inference_benchmark.statistics.verdicts import BAND_ACROSS_SESSIONS, BAND_WITHIN_SESSION, Ratio


@dataclass(frozen=True)
class Metric:
    key: str
    is_timed: bool = True  # has a value per run, hence an interval and a verdict
    is_rate: bool = False  # kept as seconds per token, shown as tokens per second


METRICS = (
    Metric("ttft_s"),
    Metric("tbot_s"),
    Metric("total_s"),
    Metric("output_tokens_per_s", is_rate=True),
    Metric("peak_memory_bytes", is_timed=False),
    Metric("cost_per_million_output_tokens", is_timed=False),
)

_IN_WORDS = {
    "gpu": "{}",
    "model_name": "{}",
    "num_layers": "{} layers",
    "input_length": "{} tokens in",
    "output_length": "{} out",
    "batch_size": "batch {}",
    "precision": "{}",
    "timer": "{}",
}


@dataclass(frozen=True)
class Measured:
    baseline: float | None
    value: float | None
    ratio: Ratio | None


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


def make_row(pairing: Pairing, threshold: float | None) -> Row:
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
        metrics={
            each.key: _measure(each, candidate, baseline, bool(shared), band) for each in METRICS
        },
    )


def _unit(candidate: Side, baseline: Side, is_paired: bool) -> str:
    if len(candidate) > 1 or len(baseline) > 1:
        return "sessions"
    return "rounds" if is_paired else "runs"


def _measure(
    metric: Metric, candidate: Side, baseline: Side, is_paired: bool, band: float
) -> Measured:
    before = [cell.samples.get(metric.key, []) for cell in baseline]
    after = [cell.samples.get(metric.key, []) for cell in candidate]
    shown = _shown(metric, before), _shown(metric, after)
    if None in shown:
        return Measured(*shown, None)
    medians = [median(runs) for runs in before], [median(runs) for runs in after]
    ratio: Ratio | None
    if not metric.is_timed:
        ratio = single_ratio(*map(median, medians))
    elif not is_paired:
        ratio = compare_sessions(before, after, band=band)
    elif len(candidate) > 1:
        ratio = compare(*medians, paired=True, band=band)
    else:
        rounds = _in_common_rounds(metric, baseline[0], candidate[0])
        ratio = compare(*rounds, paired=True, band=band) if rounds[0] else None
    return Measured(*shown, ratio)


def _shown(metric: Metric, runs: list[list[float]]) -> float | None:
    """One number for a side: the median of its sessions' medians, in the metric's own unit."""
    if not runs or not all(runs):
        return None
    middle = median(map(median, runs))
    return 1 / middle if metric.is_rate else middle


def _in_common_rounds(metric: Metric, *cells: Cell) -> list[list[float]]:
    common = set.intersection(*(set(cell.rounds) for cell in cells))
    of_round = [dict(zip(cell.rounds, cell.samples[metric.key], strict=True)) for cell in cells]
    return [[samples[number] for number in sorted(common)] for samples in of_round]


def _agreed(cells: Sequence[Cell]) -> list[str]:
    """Names of the fields of the fingerprint in which all cells agree."""
    first = cells[0].fingerprint
    return [
        name
        for name in _IN_WORDS
        if all(getattr(cell.fingerprint, name) == getattr(first, name) for cell in cells)
    ]


def _words(cell: Cell, names: Iterable[str]) -> list[str]:
    """Fields of a cell's fingerprint; fewer layers than the model has are always said to be so."""
    values = {name: getattr(cell.fingerprint, name) for name in names}
    if "num_layers" in values and cell.full_num_layers not in (None, values["num_layers"]):
        values["num_layers"] = f"{values['num_layers']} of {cell.full_num_layers}"
    return [_IN_WORDS[name].format(value) for name, value in values.items()]


def _labels(cell: Cell, baseline: Cell | None) -> tuple[str, str | None]:
    """Labels with what differs between the two, save for the batch size, which is in the label."""
    if baseline is None:
        return cell.label, None
    agreed = {*_agreed((cell, baseline)), "batch_size"}
    differing = [name for name in _IN_WORDS if name not in agreed]
    labels = [
        f"{each.label} [{', '.join(_words(each, differing))}]" if differing else each.label
        for each in (cell, baseline)
    ]
    return labels[0], labels[1]
