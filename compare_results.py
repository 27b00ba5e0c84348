"""Compares saved benchmark results, with statistics: which is faster, by how much, how surely.

Reads result files, never measures, never imports torch. reporting/comparison.py makes the report;
here are the command line and the three ways to print it.
"""

import argparse
import json
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import NoReturn

from inference_benchmark.errors import end_without_package

try:
    from inference_benchmark.options.parser import Parser
    from inference_benchmark.reporting.comparison import Report, make_report
    from inference_benchmark.reporting.judging import METRICS, Measured, Row
    from inference_benchmark.reporting.pairing import ACROSS, Request
    from inference_benchmark.reporting.saved_cells import ComparisonError
    from inference_benchmark.reporting.units import (
        UNKNOWN,
        dollars,
        gigabytes,
        milliseconds,
        rate,
        significant,
    )
except ModuleNotFoundError as error:
    end_without_package("compare_results.py", error)

WIDTH = 80
_SHORT = 24  # of a file's name that is repeated wherever the file is meant

EXAMPLES = """\
examples:
  the modes of one session    compare_results.py session.json
  two sessions, cell by cell  compare_results.py before.json after.json
  every mode with eager       compare_results.py results/*.json --baseline eager
  batch sizes with the first  compare_results.py session.json --across batch
  a gate at 5 %               compare_results.py before.json after.json \\
                                  --fail-on-regression --threshold 0.05

A ratio is a speed-up over the baseline: above 1 is better, for rates, memory
and cost too.
  faster, slower   significant (p < 0.01, adjusted for the number of cells), and
                   beyond the band
  same             the whole 95 % interval lies within the band: 1 % in a
                   session, 2 % between sessions
  inconclusive +N  about N more runs (or sessions) per side would settle it

exit codes: 0 compared; 1 regression, with --fail-on-regression; 2 bad request
or broken file; 3 a package is missing
"""


def make_parser() -> Parser:
    parser = Parser(
        prog="compare_results.py",
        description="Compare saved benchmark results, with statistics.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="result files, one per session")
    parser.add_argument(
        "--baseline",
        metavar="FILE_OR_MODE",
        help="what to compare with; of two files the first, else the baseline of the session "
        "(with --across: a file or a value, by default the first)",
    )
    parser.add_argument("--across", choices=ACROSS, help="compare along this field on purpose")
    parser.add_argument("--format", choices=PRINTERS, default="table", help="default: table")
    parser.add_argument(
        "--fail-on-regression",
        action="store_true",
        help="exit 1 if a cell is slower than its baseline or failed",
    )
    parser.add_argument(
        "--threshold",
        type=share,
        metavar="X",
        help="relative difference that counts (default: 0.01 in a session, 0.02 between sessions)",
    )
    parser.add_argument(
        "--force", action="store_true", help="compare two files whose fingerprints differ"
    )
    return parser


def share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share such as 0.05")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser()
    options = parser.parse_args(argv)
    request = Request(
        options.files, options.baseline, options.across, options.threshold, options.force
    )
    try:
        report = make_report(request)
    except ComparisonError as error:
        parser.error(str(error))
    print(PRINTERS[options.format](report), flush=True)
    if not options.fail_on_regression:
        return 0
    for regression in report.regressions:
        print(f"regression: {regression}", file=sys.stderr)
    if not report.regressions and not any(row.baseline_files for row in report.rows):
        parser.error("--fail-on-regression has nothing to compare")
    return 1 if report.regressions else 0


# Printing ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    title: str
    text: Callable[[float | None], str]


def _seconds(value: float | None) -> str:
    return UNKNOWN if value is None else significant(value)


COLUMNS = {
    "ttft_s": Column("TTFT, ms", milliseconds),
    "tbot_s": Column("TBOT, ms", milliseconds),
    "total_s": Column("total, s", _seconds),
    "output_tokens_per_s": Column("output tok/s", rate),
    "peak_memory_bytes": Column("peak, GB", gigabytes),
    "cost_per_million_output_tokens": Column("$/M output", dollars),
}
_LINE = "  {:<12}  {:>9}  {:>9}  {:>5}  {:>13}  {}"


def as_table(report: Report) -> str:
    """Blocks of six lines under the names of what is compared; nothing is wider than 80 columns."""
    names = short_names(report)
    lines = [line for entry in legend(names) for line in _wrapped(entry)]
    lines += [""] if lines else []
    for title, rows in groupby(report.rows, key=lambda row: row.title):
        lines += [*_wrapped(title), ""]
        for row in rows:
            lines += [*_wrapped(heading(row, names)), *_block(row), ""]
    lines += [line for remark in remarks(report, names) for line in _wrapped(remark)]
    return "\n".join(lines).rstrip()


def as_markdown(report: Report) -> str:
    head = ("metric", "baseline", "value", "ratio", "95 % interval", "verdict")
    names = short_names(report)
    lines = [f"- {entry}" for entry in legend(names)]
    lines += [""] if lines else []
    for title, rows in groupby(report.rows, key=lambda row: row.title):
        lines += [f"**{title}**", "", _markdown(("cell", *head)), _markdown(("---",) * 7)]
        for row in rows:
            lines += [_markdown((heading(row, names), *cells)) for cells in _cells(row)]
        lines.append("")
    return "\n".join([*lines, *(f"- {remark}" for remark in remarks(report, names))]).rstrip()


def as_json(report: Report) -> str:
    return json.dumps(asdict(report), indent=2)


PRINTERS: dict[str, Callable[[Report], str]] = {
    "table": as_table,
    "markdown": as_markdown,
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
    """thunder b1 (after.json) against eager b1 (before.json): 10 and 8 runs"""
    ours, theirs = _files(row.files, names), _files(row.baseline_files, names)
    if row.baseline_label is None:
        return f"{row.label} {ours}: nothing to compare with"
    if row.files == row.baseline_files:
        sides = f"{row.label} against {row.baseline_label} {ours}"
    else:
        sides = f"{row.label} {ours} against {row.baseline_label} {theirs}"
    ratio = row.metrics["ttft_s"].ratio
    if ratio is None:
        return sides
    counts = dict.fromkeys((ratio.n_candidate, ratio.n_baseline))
    return f"{sides}: {' and '.join(map(str, counts))} {row.unit}"


def _files(files: Sequence[str], names: dict[str, str]) -> str:
    return names[files[0]] if len(files) == 1 else f"({len(files)} files)"


def remarks(report: Report, names: dict[str, str]) -> Iterator[str]:
    if not report.rows:
        yield "nothing to compare"
    for name, means in report.geometric_means.items():
        texts = [f"{COLUMNS[key].title.split(',')[0]} {_ratio(x)}" for key, x in means.items()]
        yield f"geometric mean, {names.get(name, name).strip('()')}: {', '.join(texts)}"
    skipped: dict[tuple[str, str], list[str]] = {}
    for skip in report.skipped:
        skipped.setdefault((skip.file, skip.reason), []).append(skip.label)
    for (file, reason), labels in skipped.items():
        yield f"skipped: {', '.join(labels)} {names[file]}: {reason}"
    for note in report.notes:
        for file, name in names.items():
            note = note.replace(f"({file})", name)
        yield f"note: {note}"
    if any(m.ratio and m.ratio.runs_needed for row in report.rows for m in row.metrics.values()):
        yield "+N: about N more runs (or sessions) per side would settle it; 999: or more"


def _cells(row: Row) -> Iterator[tuple[str, ...]]:
    for metric in METRICS:
        column, measured = COLUMNS[metric.key], row.metrics[metric.key]
        values = (column.text(measured.baseline), column.text(measured.value))
        yield (column.title, *values, *_judgement(measured))


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


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _markdown(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def run_program() -> NoReturn:
    try:
        sys.exit(main())
    except BrokenPipeError:  # whoever reads, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    run_program()
