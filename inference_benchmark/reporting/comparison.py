"""The report of a comparison of saved sessions: reads, pairs and judges; prints nothing.

Imports no torch: twenty files are compared in well under a second.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from inference_benchmark.reporting.judging import METRICS, Measured, Row, make_row
from inference_benchmark.reporting.pairing import (
    Pairing,
    Request,
    grouped,
    make_plan,
    resolve_files,
)
from inference_benchmark.reporting.saved_cells import Cell, Skipped, read_cells
from inference_benchmark.statistics.ratios import geometric_mean
from inference_benchmark.statistics.verdicts import adjust_for_many


@dataclass(frozen=True)
class Report:
    rows: list[Row]
    geometric_means: dict[str, dict[str, float]]  # by name of the side, then by metric
    skipped: list[Skipped]
    notes: list[str]
    regressions: list[str]


def make_report(request: Request) -> Report:
    """Read, pair, judge.

    Raises:
        ComparisonError: a file can't be read or compared, or the request makes no sense.
    """
    request, baseline_file = resolve_files(request)
    read = [read_cells(file) for file in request.files]
    cells = [cell for found, _ in read for cell in found]
    unusable = [skipped for _, group in read for skipped in group]
    plan = make_plan(request, baseline_file, cells)
    rows = _adjusted([make_row(pairing, request.threshold) for pairing in plan.pairings])
    failures = [skip for skip in unusable if skip.is_failure and skip.file != baseline_file]
    return Report(
        rows=rows,
        geometric_means=_geometric_means(rows),
        skipped=unusable + plan.skipped,
        notes=_notes(plan.pairings, rows),
        regressions=_regressions(rows, failures),
    )


def _adjusted(rows: list[Row]) -> list[Row]:
    """Verdicts that allow for how many cells are compared, metric by metric."""
    metrics: list[dict[str, Measured]] = [{} for _ in rows]
    for metric in METRICS:
        found = [row.metrics[metric.key] for row in rows]
        adjusted = iter(adjust_for_many([each.ratio for each in found if each.ratio]))
        for new, each in zip(metrics, found, strict=True):
            new[metric.key] = replace(each, ratio=next(adjusted)) if each.ratio else each
    return [replace(row, metrics=new) for row, new in zip(rows, metrics, strict=True)]


def _geometric_means(rows: list[Row]) -> dict[str, dict[str, float]]:
    means: dict[str, dict[str, float]] = {}
    for group in grouped(rows, lambda row: row.name):
        for metric in METRICS:
            measured = [row.metrics[metric.key].ratio for row in group]
            mean = geometric_mean([each.ratio for each in measured if each])
            if len(group) > 1 and mean is not None:
                means.setdefault(group[0].name, {})[metric.key] = mean
    return means


def _notes(pairings: list[Pairing], rows: list[Row]) -> list[str]:
    notes = []
    if any(row.unit == "runs" and row.baseline_files for row in rows):
        notes.append("one session per side: differences between sessions are not measured")
    notes += [
        f"{row.label} against {row.baseline_label}: without {', '.join(row.left_out)}, where only "
        "one of them was measured"
        for row in rows
        if row.left_out
    ]
    said: dict[tuple[str, str], list[str]] = {}  # labels, by where and what
    for pairing in pairings:
        cells = (*pairing.baseline, *pairing.candidate)
        for cell in cells:
            for text in cell.remarks:
                said.setdefault((f" ({cell.file})", text), []).append(cell.label)
        differing = ", ".join(_differing_software(cells))
        if differing:
            said.setdefault(("", f"sessions differ in {differing}"), []).append(cells[0].label)
    return notes + [
        f"{', '.join(dict.fromkeys(labels))}{where}: {text}"
        for (where, text), labels in said.items()
    ]


def _differing_software(cells: Sequence[Cell]) -> Iterable[str]:
    for name in cells[0].software:
        values = list(dict.fromkeys(cell.software[name] for cell in cells))
        if len(values) > 1:
            yield f"{name} {' | '.join(values) if len(values) == 2 else f'({len(values)} values)'}"


def _regressions(rows: list[Row], failures: list[Skipped]) -> list[str]:
    slower = [
        f"{row.label} ({', '.join(row.files)}): {metric.key} is {measured.ratio.ratio:.3f} x the "
        f"speed of {row.baseline_label}"
        for row in rows
        for metric in METRICS
        if (measured := row.metrics[metric.key]).ratio and measured.ratio.verdict == "slower"
    ]
    return slower + [f"{skip.label} ({skip.file}): {skip.reason}" for skip in failures]
