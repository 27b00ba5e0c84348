"""The report of a comparison as text: for a terminal, as markdown, CSV or JSON."""

import csv
import io
import json
import os
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import groupby

from inference_benchmark.errors import printable
from inference_benchmark.reporting.comparison import Report
from inference_benchmark.reporting.conditions import GPU_UUIDS, Difference
from inference_benchmark.reporting.figures import shown_unit, value_text
from inference_benchmark.reporting.judging import Measured, Row
from inference_benchmark.reporting.saving import finite
from inference_benchmark.reporting.units import (
    UNKNOWN,
    dollars,
    gigabytes,
    rate,
    significant,
)

WIDTH = 80
_SHORT = 24  # of a file's name that is repeated wherever the file is meant
_VALUE = 40  # of a value in the table of differences
_MS_BELOW_S = 10.0
_LINE = "  {:<12}  {:>9}  {:>9}  {:>5}  {:>13}  {}"

Text = Callable[[float | None], str]


def as_table(report: Report) -> str:
    """Blocks of lines under the names of what is compared; nothing is wider than 80 columns."""
    names = short_names(report)
    lines = [line for entry in legend(names) for line in _wrapped(entry)]
    lines += [""] if lines else []
    for title, rows in groupby(report.rows, key=lambda row: row.title):
        lines += [*_wrapped(title), ""]
        for row in rows:
            lines += [*_wrapped(heading(row, names)), *_block(row)]
            lines += [line for text in deviations(row) for line in _indented(text)]
            lines.append("")
    if report.differences:
        lines.append("what differs")
        lines += [
            line
            for difference in report.differences
            for line in _indented(_said(difference, names))
        ]
        lines.append("")
    lines += [line for remark in remarks(report, names) for line in _wrapped(remark)]
    return _joined(lines)


def as_markdown(report: Report) -> str:
    head = ("cell", "metric", "baseline", "value", "ratio", "95 % interval", "verdict")
    names = short_names(report)
    lines = [f"- {entry}" for entry in legend(names)]
    lines += [""] if lines else []
    for title, rows in groupby(report.rows, key=lambda row: row.title):
        rows = list(rows)
        lines += [f"**{title}**", "", _markdown(head), _markdown(("---",) * len(head))]
        for row in rows:
            lines += [_markdown((heading(row, names), *cells)) for cells in _cells(row)]
        lines.append("")
        bullets = [f"- {row.label}: {text}" for row in rows for text in deviations(row)]
        lines += [*bullets, ""] if bullets else []
    if report.differences:
        lines += [_markdown(("what differs", "values", "")), _markdown(("---",) * 3)]
        for difference in report.differences:
            values = _values(difference, names)
            lines.append(_markdown((difference.name, values, _consequence(difference))))
        lines.append("")
    return _joined([*lines, *(f"- {remark}" for remark in remarks(report, names))])


def as_csv(report: Report) -> str:
    """A line per cell and metric, in SI units; files of a side are joined by a space."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ("cell", "files", "baseline_cell", "baseline_files", "conditions", "metric", "unit")
        + ("baseline", "value", "ratio", "ci95_low", "ci95_high", "verdict", "p_value")
        + ("p_adjusted", "samples", "n_baseline", "n", "deviation", "deviation_source")
    )
    for row in report.rows:
        sides = (row.label, " ".join(row.files), row.baseline_label, " ".join(row.baseline_files))
        for name, measured in row.metrics.items():
            writer.writerow((*sides, row.title, name, *_numbers(measured, row.unit)))
    return out.getvalue().rstrip("\n")


def _numbers(measured: Measured, samples: str) -> tuple:
    ratio = measured.ratio
    values = (measured.unit, measured.baseline, measured.value)
    if ratio is None:
        return values
    deviation = ratio.deviation
    return (
        *values,
        ratio.ratio,
        *(ratio.ci95 or (None, None)),
        *(ratio.verdict, ratio.p_value, ratio.p_adjusted),
        *(samples, ratio.n_baseline, ratio.n_candidate),
        *((deviation.share, deviation.source) if deviation else (None, None)),
    )


def as_json(report: Report) -> str:
    return json.dumps(finite(asdict(report)), indent=2, allow_nan=False)


PRINTERS: dict[str, Callable[[Report], str]] = {
    "table": as_table,
    "markdown": as_markdown,
    "csv": as_csv,
    "json": as_json,
}


def short_names(report: Report) -> dict[str, str]:
    """What stands for each file: its name, or a number where names are long or not enough."""
    rows = [file for row in report.rows for file in (*row.baseline_files, *row.files)]
    files = list(dict.fromkeys([*rows, *(skip.file for skip in report.skipped)]))
    names = list(map(os.path.basename, files))
    if len(set(names)) == len(names) and all(len(name) <= _SHORT for name in names):
        return {file: f"({name})" for file, name in zip(files, names, strict=True)}
    return {file: f"[{number}]" for number, file in enumerate(files, 1)}


def legend(names: dict[str, str]) -> Iterator[str]:
    for file, name in names.items():
        if name.startswith("["):
            yield f"{name} {file}"


def heading(row: Row, names: dict[str, str]) -> str:
    """thunder b1 (after.json) against eager b1 (before.json): 3 and 3 sessions"""
    files, baseline_files = _files(row.files, names), _files(row.baseline_files, names)
    if row.baseline_label is None:
        return f"{row.label} {files}: nothing to compare with"
    if row.files == row.baseline_files:
        sides = f"{row.label} against {row.baseline_label} {files}"
    else:
        sides = f"{row.label} {files} against {row.baseline_label} {baseline_files}"
    ratio = next((measured.ratio for measured in row.timed.values() if measured.ratio), None)
    if ratio is None:
        return sides
    counts = list(dict.fromkeys((ratio.n_candidate, ratio.n_baseline)))
    if counts == [1] and row.unit == "sessions":
        return f"{sides}: one session a side"
    return f"{sides}: {' and '.join(map(str, counts))} {row.unit}"


def _files(files: Sequence[str], names: dict[str, str]) -> str:
    return names[files[0]] if len(files) == 1 else f"({len(files)} files)"


def deviations(row: Row) -> Iterator[str]:
    """By how much sessions were taken to differ, and where that comes from."""
    titles_by_text: dict[str, list[str]] = {}
    for measured in row.timed.values():
        deviation = measured.ratio and measured.ratio.deviation
        if deviation:
            text = f"{deviation.share:.2%} ({deviation.source})"
            titles_by_text.setdefault(text, []).append(measured.title)
    for text, titles in titles_by_text.items():
        metrics = "" if len(titles_by_text) == 1 else f"{', '.join(titles)} "
        yield f"deviation between sessions: {metrics}{text}"


def remarks(report: Report, names: dict[str, str]) -> Iterator[str]:
    if not report.rows:
        yield "nothing to compare"
    titles = {name: measured.title for row in report.rows for name, measured in row.metrics.items()}
    for name, means in report.geometric_means.items():
        texts = [f"{titles[metric]} {_ratio(mean)}" for metric, mean in means.items()]
        yield f"geometric mean, {names.get(name, name).strip('()')}: {', '.join(texts)}"
    skipped: dict[tuple[str, str], list[str]] = {}
    for skip in report.skipped:
        skipped.setdefault((skip.file, skip.reason), []).append(skip.label)
    for (file, reason), labels in skipped.items():
        yield f"skipped: {', '.join(labels)} {names[file]}: {reason}"
    for note in report.notes:
        yield f"note: {_with_names(note, names)}"
    for advice in report.to_decide:
        yield f"to decide: {advice}"
    if any(m.ratio and m.ratio.runs_needed for row in report.rows for m in row.metrics.values()):
        yield "+N: about N more runs (or sessions) per side would settle it; 999: or more"


def _with_names(text: str, names: dict[str, str]) -> str:
    for file, name in names.items():
        text = text.replace(f"({file})", name)
    return text


def _said(difference: Difference, names: dict[str, str]) -> str:
    consequence = _consequence(difference)
    return (
        f"{difference.name}: {_values(difference, names)}{f'; {consequence}' * bool(consequence)}"
    )


def _values(difference: Difference, names: dict[str, str]) -> str:
    """gemv (after.json) | cublas (before.json): by file, or by cell where one file holds both."""
    by_label = not difference.is_between_files
    texts = []
    for value in difference.values:
        if by_label:
            where = f"({', '.join(value.labels)})"
        elif len(value.files) > 3:
            where = f"({len(value.files)} files)"
        else:
            where = " ".join(names.get(file, file) for file in value.files)
        texts.append(f"{_shortened(value.value)} {where}")
    return " | ".join(texts)


def _shortened(value: str) -> str:
    return value if len(value) <= _VALUE else f"{value[: _VALUE - 3]}..."


def _consequence(difference: Difference) -> str:
    if difference.ignored:
        return "ignored on request"
    if difference.name == GPU_UUIDS:
        return "GPUs of one kind: part of what sessions differ by"
    return "" if difference.changes_time else "changes no time"


def _cells(row: Row) -> Iterator[tuple[str, ...]]:
    for name, measured in row.metrics.items():
        title, text = _column(name, measured)
        values = (text(measured.baseline), text(measured.value))
        yield (title, *values, *_judgement(measured))


def _column(name: str, measured: Measured) -> tuple[str, Text]:
    """Its title with the unit, and how its values are written."""
    if measured.unit == "s":
        largest = max(measured.baseline or 0.0, measured.value or 0.0)
        if largest >= _MS_BELOW_S:
            return f"{measured.title}, s", _plain
        metric = {"name": name, "unit": "s"}
        return f"{measured.title}, {shown_unit(metric)}", partial(value_text, metric=metric)
    if measured.unit == "bytes":
        return f"{measured.title}, GB", gigabytes
    known: dict[str, Text] = {"1/s": rate, "$": dollars}
    if measured.unit in known:
        return measured.title, known[measured.unit]
    return f"{measured.title}, {measured.unit}", _plain


def _plain(value: float | None) -> str:
    return UNKNOWN if value is None else significant(value)


def _judgement(measured: Measured) -> tuple[str, str, str]:
    ratio = measured.ratio
    if ratio is None:
        return (UNKNOWN,) * 3
    interval = f"{_ratio(ratio.ci95[0])} - {_ratio(ratio.ci95[1])}" if ratio.ci95 else UNKNOWN
    needed = f" +{ratio.runs_needed}" if ratio.runs_needed else ""
    return _ratio(ratio.ratio), interval, f"{ratio.verdict or UNKNOWN}{needed}"


def _ratio(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:#.4g}".rstrip(".")


def _block(row: Row) -> list[str]:
    head = _LINE.format("", "baseline", "cell", "ratio", "95 % interval", "verdict")
    return [line.rstrip() for line in (head, *(_LINE.format(*cells) for cells in _cells(row)))]


def _joined(lines: Sequence[str]) -> str:
    """Names of files and folders may hold what a terminal takes for a command."""
    return "\n".join(map(printable, lines)).rstrip()


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _indented(text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
    )


def _markdown(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
