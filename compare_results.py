"""Compares saved benchmark results, with statistics: which is faster, by how much, how surely.

Reads result files, never measures, never imports torch. reporting/comparison.py makes the report,
reporting/comparison_tables.py prints it; here is the command line with its gates.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from inference_benchmark.errors import (
    CannotRun,
    ExitCode,
    end_without_package,
    loading,
    printable,
)

with loading("compare_results.py", "compared"):
    from inference_benchmark.options.parser import Parser
    from inference_benchmark.options.plots_package import check_plots_package
    from inference_benchmark.reporting.comparison import Report, make_report
    from inference_benchmark.reporting.comparison_request import ACROSS, ComparisonRequest
    from inference_benchmark.reporting.comparison_tables import PRINTERS
    from inference_benchmark.reporting.reading import STANDARD_INPUT
    from inference_benchmark.reporting.saved_cells import ComparisonError
    from inference_benchmark.system import signals
    from inference_benchmark.system.address_space import SCIPY_BYTES, check_address_space
    from inference_benchmark.system.output_stream import prepare_streams, print_out, say

_PROGRAM = "compare_results.py"


EXAMPLES = """\
examples:
  the modes of one session    compare_results.py session.json
  two sessions, cell by cell  compare_results.py before.json after.json
  several sessions a side     compare_results.py --before old/ --after new/
  every mode with eager       compare_results.py results/*.json --baseline eager
  batch sizes with the first  compare_results.py session.json --across batch
  a gate at 5 %               compare_results.py --before old/*.json \\
                                  --after new/*.json --ignore git_commit \\
                                  --fail-on-regression --threshold 0.05

A ratio is a speed-up over the baseline: above 1 is better, for rates, memory
and cost too.
  faster, slower   significant (p < 0.01 in a session, 0.025 between sessions,
                   adjusted for the number of comparisons), and beyond the band
  same             the whole 95 % interval lies within the band: 1 % in a
                   session, 2 % between sessions
  inconclusive +N  about N more runs (or sessions) per side would settle it

Between files the unit is the session. The deviation between sessions is that
of the files compared, of sets saved before (results/, --history), or a default;
each verdict names it.

exit codes: 0 compared; 1 a gate failed: regression, missing, inconclusive;
2 bad request or broken file; 3 a package is missing; 4 compared, but the
report could not be written
"""


def make_parser() -> Parser:
    parser = Parser(
        prog=_PROGRAM,
        description="Compare saved benchmark results, with statistics.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="result files, one per session; folders of them; - for standard input",
    )
    for side in ("before", "after"):
        parser.add_argument(
            f"--{side}",
            nargs="+",
            default=[],
            metavar="FILE",
            help="sessions of one side (files or folders), in place of FILE",
        )
    parser.add_argument(
        "--baseline",
        metavar="FILE_OR_MODE",
        help="what to compare with; by default of two files the first, of more the oldest, in "
        "one file the baseline of the session (with --across: a file or a value, the first)",
    )
    parser.add_argument("--across", choices=ACROSS, help="compare along this field on purpose")
    parser.add_argument("--format", choices=PRINTERS, default="table", help="default: table")
    parser.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="write a page as well: what changed, then the pictures of the sides side by side "
        "(replaced if it exists; needs matplotlib)",
    )
    parser.add_argument(
        "--history",
        nargs="+",
        default=[],
        metavar="DIR",
        help="more folders of saved sessions that tell how much sessions differ",
    )
    parser.add_argument(
        "--ignore",
        nargs="+",
        default=[],
        metavar="FIELD",
        help="conditions that may differ, such as git_commit; the report names them",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="exit 2 where files differ in a condition that can change a time",
    )
    parser.add_argument(
        "--fail-on-regression",
        action="store_true",
        help="exit 1 if a cell is slower than its baseline or failed",
    )
    parser.add_argument(
        "--fail-on-missing",
        action=argparse.BooleanOptionalAction,
        help="exit 1 if a cell of the baseline has no counterpart (default: with "
        "--fail-on-regression)",
    )
    parser.add_argument(
        "--fail-on-inconclusive",
        action="store_true",
        help="exit 1 if a verdict is inconclusive",
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
    request = ComparisonRequest(
        files=options.files,
        baseline=options.baseline,
        across=options.across,
        threshold=options.threshold,
        force=options.force,
        before=options.before,
        after=options.after,
        strict=options.strict,
        ignore=options.ignore,
        history=options.history,
    )
    try:
        check_address_space(SCIPY_BYTES, "scipy")
        if options.html is not None:
            check_page(request)
        report = make_report(request)
    except ComparisonError as error:
        parser.error(str(error))
    except CannotRun as error:
        say(f"{_PROGRAM}: error: {error}")
        return ExitCode.CANNOT_RUN
    except ImportError as error:
        end_without_package(_PROGRAM, error)
    is_written = print_out(_PROGRAM, PRINTERS[options.format](report))
    if options.html is not None:
        is_written = write_page(options.html, request, report) and is_written
    failures = list(failed_gates(report, options))
    for failure in failures:
        say(printable(failure))
    if not is_written:
        return ExitCode.NOT_WRITTEN
    if failures:
        return ExitCode.GATE_FAILED
    if options.fail_on_regression and not any(row.baseline_files for row in report.rows):
        parser.error("--fail-on-regression has nothing to compare")
    return ExitCode.MEASURED


def check_page(request: ComparisonRequest) -> None:
    """Whether a page of this can be made.

    Raises:
        ComparisonError: it can't be read twice. CannotRun: a package is missing.
    """
    if STANDARD_INPUT in request.all_files:
        raise ComparisonError("--html needs files: standard input can be read only once")
    check_plots_package()


def write_page(path: Path, request: ComparisonRequest, report: Report) -> bool:
    """Write the page; False where it can't be."""
    from inference_benchmark.plotting.comparison_page import comparison_page, sets_of
    from inference_benchmark.plotting.writing import write_page as write_file

    try:
        write_file(comparison_page(sets_of(request), [report]), path)
    except OSError as error:
        say(f"{_PROGRAM}: error: --html {path} can't be written: {error.strerror}")
        return False
    say(f"written: {path}")
    return True


def failed_gates(report: Report, options: argparse.Namespace) -> Iterator[str]:
    if options.fail_on_regression:
        yield from (f"regression: {finding}" for finding in report.regressions)
    wants_all = options.fail_on_missing
    if options.fail_on_regression if wants_all is None else wants_all:
        yield from (f"missing: {pair}" for pair in report.missing)
    if options.fail_on_inconclusive:
        yield from (f"inconclusive: {ratio}" for ratio in report.inconclusive)


def run_program() -> NoReturn:
    prepare_streams()
    signals.end_at_once(_PROGRAM, work="compared")
    sys.exit(main())


if __name__ == "__main__":
    run_program()
