"""The page of a comparison: what became slower first, then the pictures of the sets side by side."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from inference_benchmark.plotting import html
from inference_benchmark.plotting.page import Page
from inference_benchmark.plotting.picture import Table
from inference_benchmark.plotting.sources import SourceSet, read_set
from inference_benchmark.plotting.speedups import ForestRow, forest
from inference_benchmark.plotting.style import house_style, settle
from inference_benchmark.reporting.comparison import Report, make_report
from inference_benchmark.reporting.comparison_request import (
    ComparisonRequest,
    expand_folders,
    resolve_files,
)
from inference_benchmark.reporting.judging import Row

_ORDER = ("slower", "inconclusive", "same", "faster")


def compare_sets(names: Sequence[str]) -> Page:
    """Each name a file, or a folder of one set's sessions; the first is what others are held
    against.

    Raises:
        ComparisonError, ResultFileError: a file can't be read or compared.
    """
    files = [expand_folders([name]) for name in names]
    reports = [
        make_report(ComparisonRequest(before=files[0], after=others)) for others in files[1:]
    ]
    titles = _set_titles(names)
    sets = [read_set(title, set_files) for title, set_files in zip(titles, files, strict=True)]
    return comparison_page(sets, reports)


def sets_of(request: ComparisonRequest) -> list[SourceSet]:
    """The sides of a request of compare_results.py; each file is one where none are named."""
    request, _ = resolve_files(request)
    if request.before:
        return [read_set("before", request.before), read_set("after", request.after)]
    titles = _set_titles(request.files)
    return [read_set(name, [file]) for name, file in zip(titles, request.files, strict=True)]


def comparison_page(sets: Sequence[SourceSet], reports: Sequence[Report]) -> Page:
    rows = [row for report in reports for row in report.rows]
    with house_style():
        over = sets[0].name if len(sets) > 1 else "the baseline"
        picture = forest("comparison", f"Speed-up over {over}", list(_forest_rows(rows)))
        if picture is not None:
            settle(picture.figure)
    page = Page(
        sets,
        title=f"Comparison: {', '.join(file_set.name for file_set in sets)}",
        first_title="What changed",
        first=[picture] if picture is not None else [],
        first_html=_short_names("".join(map(_said, reports)), reports),
    )
    page.draw()
    return page


def _forest_rows(rows: Sequence[Row]) -> Iterator[ForestRow]:
    """Times, the worst first; rates would say the same again."""
    forest_rows = [
        ForestRow(
            name=row.label,
            metric=measured.title,
            baseline=row.baseline_label or "-",
            ratio=measured.ratio.ratio,
            ci95=measured.ratio.ci95,
            verdict=measured.ratio.verdict,
            band=measured.ratio.band,
        )
        for row in rows
        for measured in row.timed.values()
        if measured.ratio and measured.ratio.verdict and measured.unit != "1/s"
    ]
    return iter(sorted(forest_rows, key=lambda row: (_ORDER.index(row.verdict), row.ratio)))


def _said(report: Report) -> str:
    """Regressions, what is missing, what differs, and remarks."""
    parts = [
        ("Regressions", report.regressions),
        ("Missing", report.missing),
        ("Not compared", [f"{s.label} ({s.file}): {s.reason}" for s in report.skipped]),
        ("Remarks", [*report.notes, *report.to_decide]),
    ]
    text = "".join(
        html.tag("h3", title) + html.bullets(lines, class_="note")
        for title, lines in parts
        if lines
    )
    if not report.differences:
        return text
    rows = [
        [
            difference.name,
            " | ".join(value.value for value in difference.values),
            "ignored"
            if difference.ignored
            else "can change a time"
            if difference.changes_time
            else "-",
        ]
        for difference in report.differences
    ]
    return text + html.table(Table("What differs", ["condition", "values", "effect"], rows))


def _short_names(text: str, reports: Sequence[Report]) -> str:
    """Files without their folders, which the list of sessions need not repeat in every line."""
    rows = [row for report in reports for row in report.rows]
    for file in {file for row in rows for file in (*row.files, *row.baseline_files)}:
        text = text.replace(html.text(file), html.text(Path(file).name))
    return text


def _set_titles(names: Sequence[str]) -> list[str]:
    """The last part of each path, as long as that tells them apart."""
    short = [Path(name).stem if Path(name).suffix == ".json" else Path(name).name for name in names]
    return list(names) if len(set(short)) < len(short) else short
