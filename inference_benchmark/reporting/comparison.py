"""The report of a comparison of saved sessions: reads, pairs and judges; prints nothing.

Imports no torch: twenty files are compared in well under a second.
"""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from inference_benchmark.reporting.comparison_request import ComparisonRequest, resolve_files
from inference_benchmark.reporting.conditions import Difference, differences
from inference_benchmark.reporting.judging import Row, adjusted, make_row
from inference_benchmark.reporting.pairing import Pairing, make_plan
from inference_benchmark.reporting.saved_cells import (
    ComparisonError,
    SavedCell,
    Skipped,
    read_cells,
)
from inference_benchmark.reporting.saved_sets import DEFAULT_FOLDERS, SavedSets
from inference_benchmark.reporting.sides import grouped
from inference_benchmark.statistics.ratios import geometric_mean
from inference_benchmark.statistics.verdicts import ADJUSTMENT

_DISAGREEMENT = 0.01  # less than the band within which two times count as the same
_MOST_SESSIONS = 30  # more than anybody runs: the difference is as small as the noise or the band


@dataclass(frozen=True)
class Report:
    rows: list[Row]
    geometric_means: dict[str, dict[str, float]]  # by name of the side, then by metric
    differences: list[Difference]
    skipped: list[Skipped]
    notes: list[str]
    to_decide: list[str]  # what would settle the rows that are inconclusive
    regressions: list[str]
    missing: list[str]
    inconclusive: list[str]


def make_report(request: ComparisonRequest) -> Report:
    """Read, pair, judge.

    Raises:
        ComparisonError: a file can't be read or compared, or the request makes no sense.
    """
    request, baseline_file = resolve_files(request)
    read = [read_cells(file) for file in request.all_files]
    cells = [cell for cells_of_file, _ in read for cell in cells_of_file]
    unusable = [skipped for _, group in read for skipped in group]
    _check_ignored(request, cells)
    plan = make_plan(request, baseline_file, cells)
    saved = SavedSets((*DEFAULT_FOLDERS, *request.history), cells)
    rows = adjusted(
        [make_row(pairing, request.threshold, saved.spread) for pairing in plan.pairings]
    )
    differing = _differences(plan.pairings, request.ignore)
    if request.strict:
        _refuse(differing)
    failures = [
        skip for skip in unusable if skip.is_failure and skip.file not in plan.baseline_files
    ]
    return Report(
        rows=rows,
        geometric_means=_geometric_means(rows),
        differences=differing,
        skipped=unusable + plan.skipped,
        notes=[*plan.notes, *_notes(plan.pairings, rows)],
        to_decide=_to_decide(plan.pairings, rows),
        regressions=_regressions(rows, failures),
        missing=[f"{missing.label} ({missing.file}): {missing.reason}" for missing in plan.missing],
        inconclusive=_inconclusive(rows),
    )


def _check_ignored(request: ComparisonRequest, cells: Sequence[SavedCell]) -> None:
    known = sorted({name for cell in cells for name in cell.conditions})
    for name in request.ignore:
        if cells and name not in known:
            raise ComparisonError(
                f"--ignore {name}: no such condition (there are: {', '.join(known)})"
            )


def _differences(pairings: Sequence[Pairing], ignored: Sequence[str]) -> list[Difference]:
    """Between the sides of each pairing and within them; a mode's own kernels are not one."""
    groups = [(*pairing.baseline, *pairing.candidate) for pairing in pairings]
    # what sessions of one mode were split by shows between its pairings
    groups += grouped(
        [cell for group in groups for cell in group],
        lambda cell: (cell.side_name, cell.fingerprint),
    )
    return differences([list(dict.fromkeys(group)) for group in groups], ignored)


def _refuse(differences: Sequence[Difference]) -> None:
    """--strict: nothing that can change a time may differ between files."""
    refused = [
        difference
        for difference in differences
        if difference.changes_time and not difference.ignored and difference.is_between_files
    ]
    if refused:
        texts = [
            f"{difference.name} {' | '.join(v.value for v in difference.values)}"
            for difference in refused
        ]
        names = " ".join(difference.name for difference in refused)
        raise ComparisonError(
            f"--strict: sessions differ in {', '.join(texts)}; --ignore {names} allows it"
        )


def _geometric_means(rows: list[Row]) -> dict[str, dict[str, float]]:
    means: dict[str, dict[str, float]] = {}
    for group in grouped(rows, lambda row: row.name):
        for metric in dict.fromkeys(name for row in group for name in row.metrics):
            measured = [row.metrics[metric].ratio for row in group if metric in row.metrics]
            mean = geometric_mean([ratio.ratio for ratio in measured if ratio])
            if len(group) > 1 and mean is not None:
                means.setdefault(group[0].name, {})[metric] = mean
    return means


def _notes(pairings: list[Pairing], rows: list[Row]) -> list[str]:
    notes = []
    judged = [measured.ratio for row in rows for measured in row.timed.values() if measured.ratio]
    if len(judged) > 1:
        notes.append(ADJUSTMENT)
    notes += [
        f"{row.label} against {row.baseline_label}: without {', '.join(row.left_out)}, where only "
        "one of them was measured"
        for row in rows
        if row.left_out
    ]
    notes += _disagreeing(rows)
    labels_by_note: dict[tuple[str, str], list[str]] = {}  # labels, by where and what
    for pairing in pairings:
        for cell in (*pairing.baseline, *pairing.candidate):
            for text in cell.remarks:
                labels_by_note.setdefault((f" ({cell.file})", text), []).append(cell.label)
    return notes + [
        f"{', '.join(dict.fromkeys(labels))}{where}: {text}"
        for (where, text), labels in labels_by_note.items()
    ]


def _disagreeing(rows: Sequence[Row]) -> list[str]:
    """Ratios that are not those of the values beside them: runs scatter, or a few are far out."""
    return [
        f"{row.label}: the ratio of {measured.title} is the mean over {row.unit}; that of the values "
        f"shown is {measured.baseline / measured.value:.3f}"
        for row in rows
        for measured in row.timed.values()
        if measured.ratio
        and measured.baseline
        and measured.value
        and measured.unit == "s"
        and abs(math.log(measured.ratio.ratio * measured.value / measured.baseline)) > _DISAGREEMENT
    ]


def _to_decide(pairings: Sequence[Pairing], rows: Sequence[Row]) -> list[str]:
    """How many sessions a side would settle what is inconclusive, and the command for them."""
    advice: dict[tuple[str, str, int], list[str]] = {}
    for pairing, row in zip(pairings, rows, strict=True):
        open_ratios = [
            measured.ratio
            for measured in row.timed.values()
            if measured.ratio
            and measured.ratio.verdict == "inconclusive"
            and measured.ratio.runs_needed
        ]
        if row.unit != "sessions" or not open_ratios:
            continue
        sessions = max(
            min(ratio.n_baseline, ratio.n_candidate) + (ratio.runs_needed or 0)
            for ratio in open_ratios
        )
        commands = _command(pairing.baseline[0]), _command(pairing.candidate[0])
        advice.setdefault((*commands, min(sessions, _MOST_SESSIONS)), []).append(row.label)
    return [_advice(*key, labels) for key, labels in advice.items()]


def _advice(before: str, after: str, sessions: int, labels: Sequence[str]) -> str:
    advice = f"{', '.join(dict.fromkeys(labels))}: about {sessions} sessions a side would decide it"
    if sessions >= _MOST_SESSIONS:
        advice = (
            f"{', '.join(dict.fromkeys(labels))}: no likely number of sessions would decide it "
            f"({sessions} or more a side), the difference is about as small as the band"
        )
    commands = f"{before} --sessions {sessions}"
    if before != after:
        commands += f" before, {after} --sessions {sessions} after"
    else:
        commands += ", before and after"
    return f"{advice}: {commands}; then compare_results.py --before ... --after ..."


def _command(cell: SavedCell) -> str:
    """The one that made the cell's file, without what --sessions replaces."""
    words: list[str] = []
    skip = False
    for word in cell.command:
        if not skip and word.partition("=")[0] != "--sessions":
            words.append(word)
        skip = word == "--sessions"
    return f"python {shlex.join(words)}"


def _regressions(rows: list[Row], failures: list[Skipped]) -> list[str]:
    slower = [
        f"{row.label} ({', '.join(row.files)}): {name} is {measured.ratio.ratio:.3f} x the "
        f"speed of {row.baseline_label}"
        for row in rows
        for name, measured in row.timed.items()
        if measured.ratio and measured.ratio.verdict == "slower"
    ]
    return slower + [f"{skip.label} ({skip.file}): {skip.reason}" for skip in failures]


def _inconclusive(rows: list[Row]) -> list[str]:
    return [
        f"{row.label} ({', '.join(row.files)}): {name}"
        for row in rows
        for name, measured in row.timed.items()
        if measured.ratio and measured.ratio.verdict == "inconclusive"
    ]
