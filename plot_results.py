"""Draws saved benchmark results: pictures as SVG and PNG, and one page that holds them all.

Reads result files, never measures, never imports torch. plotting/ has a file per picture; here is
the command line.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from inference_benchmark.errors import (
    CannotRun,
    ExitCode,
    loading,
    printable,
)

with loading("plot_results.py", "drawn"):
    from inference_benchmark.options.parser import Parser
    from inference_benchmark.options.plots_package import check_plots_package
    from inference_benchmark.reporting.comparison_request import expand_folders
    from inference_benchmark.reporting.reading import STANDARD_INPUT, ResultFileError
    from inference_benchmark.reporting.saved_cells import ComparisonError
    from inference_benchmark.system import signals
    from inference_benchmark.system.output_stream import prepare_streams, print_out, say

_PROGRAM = "plot_results.py"
_FORMATS = ("html", "svg", "png")
_SETS = 2  # at least, of a comparison

EXAMPLES = """\
examples:
  one session, or several     plot_results.py results/*.json
  into a folder of its own    plot_results.py session.json --output-dir pictures
  the page alone              plot_results.py sweep/ --formats html
  two or more sets            plot_results.py --compare old/ new/

The page is report.html: every picture with its tables and the result files
themselves, in one file that needs no network and runs no script. Files are
replaced where they exist.

exit codes: 0 drawn; 2 bad request or broken file; 3 a package is missing;
4 drawn, but a file can't be written
"""


def make_parser() -> Parser:
    parser = Parser(
        prog=_PROGRAM,
        description="Draw saved benchmark results: pictures, and one page that holds them all.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="result files, one per session; folders of them; - for standard input",
    )
    parser.add_argument(
        "--compare",
        action="store_true",
        help="each FILE or folder is a set of its own; the first is the baseline, pictures stand "
        "side by side",
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path("plots"),
        metavar="DIR",
        help="where to (default: ./plots)",
    )
    parser.add_argument(
        "--formats",
        nargs="+",
        choices=_FORMATS,
        default=_FORMATS,
        metavar="FORMAT",
        help=f"of {', '.join(_FORMATS)} (default: all)",
    )
    parser.add_argument("--title", metavar="TEXT", help="of the page (default: what was measured)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser()
    options = parser.parse_args(argv)
    if options.compare and len(options.files) < _SETS:
        parser.error("--compare needs two sets or more: a file or a folder each")
    if options.compare and STANDARD_INPUT in options.files:
        parser.error("--compare needs files: standard input can be read only once")
    try:
        check_plots_package()
        written = _draw(options)
    except (ComparisonError, ResultFileError) as error:
        parser.error(str(error))
    except CannotRun as error:
        say(f"{_PROGRAM}: error: {printable(error)}")
        return ExitCode.CANNOT_RUN
    except OSError as error:
        say(f"{_PROGRAM}: error: {options.output_dir} can't be written: {error.strerror}")
        return ExitCode.NOT_WRITTEN
    is_printed = print_out(_PROGRAM, "\n".join(map(str, written)))
    return ExitCode.MEASURED if is_printed else ExitCode.NOT_WRITTEN


def _draw(options: argparse.Namespace) -> list[Path]:
    from inference_benchmark.plotting.comparison_page import compare_sets
    from inference_benchmark.plotting.page import Page
    from inference_benchmark.plotting.sources import read_set
    from inference_benchmark.plotting.writing import write

    if options.compare:
        page = compare_sets(options.files)
    else:
        page = Page([read_set("results", expand_folders(options.files))])
        page.draw()
    page.title = options.title or page.title
    return write(page, options.output_dir, tuple(options.formats))


def run_program() -> NoReturn:
    prepare_streams()
    signals.end_at_once(_PROGRAM, work="drawn")
    sys.exit(main())


if __name__ == "__main__":
    run_program()
