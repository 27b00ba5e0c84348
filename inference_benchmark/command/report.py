"""What a session prints at its end: tables, profiles, where it was saved, and what programs read."""

import sys
from collections.abc import Iterable, Sequence
from itertools import chain, count
from pathlib import Path
from typing import TextIO

from inference_benchmark.command.ending import Ending
from inference_benchmark.options.request import Request
from inference_benchmark.reporting.engine_table import engine_table
from inference_benchmark.reporting.explanation import costliest, explain
from inference_benchmark.reporting.formats import report_as
from inference_benchmark.reporting.layout import encodable
from inference_benchmark.reporting.saving import file_name
from inference_benchmark.system.output_stream import say


def print_report(result: dict, request: Request, ending: Ending, out: TextIO) -> None:
    """The tables go to `out`; json and csv alone to stdout. A result that could not be saved goes
    to stdout as well."""
    tables = "markdown" if request.format == "markdown" else "table"
    print(encodable(report_as(result, tables, request.details), out.encoding), file=out)
    if request.table == "engines":
        print(f"\n{encodable(engine_table(result), out.encoding)}", file=out)
    _print_profiles(result, request, out)
    if ending.is_saved:
        print(f"\nsaved: {ending.path}", file=out)
    if request.format == "csv":
        print(report_as(result, "csv"), end="")
    if request.format == "json" or ending.save_error is not None:
        print(report_as(result, "json"))
    out.flush()
    sys.stdout.flush()


def _print_profiles(result: dict, request: Request, out: TextIO) -> None:
    for cell in result["cells"]:
        if cell["estimated"]:
            continue
        if request.explain and request.device == "cuda":
            print(f"\n{explain(cell)}", file=out)
        if request.profile and cell["profile"]:
            print(f"\n{costliest(cell)}", file=out)


def write_page(result: dict, request: Request, ending: Ending) -> None:
    """--report: beside the result file, or under the name that it would have; where that can't be
    written, the ending's exit code says so."""
    from inference_benchmark.plotting.sources import of_result, read_source

    if ending.is_saved:
        source, wanted = read_source(str(ending.path)), ending.path.with_suffix(".html")
    else:
        name = file_name(result)
        source = of_result(f"{name}.json", result)
        wanted = request.output_dir / f"{name}.html"
    path = wanted if request.overwrite else _free(wanted)
    try:
        draw_page(path, [source])
    except OSError as error:
        say(f"error: the page {path} can't be written: {error.strerror}")
        ending.report_error = error


def draw_page(path: Path, sources: Sequence) -> None:
    """A page of these sources; its name is said on stderr, where it is in nobody's way.

    Raises:
        OSError: it can't be written.
    """
    from inference_benchmark.plotting.page import Page
    from inference_benchmark.plotting.sources import SourceSet
    from inference_benchmark.plotting.writing import write_page as write_file

    page = Page([SourceSet("results", tuple(sources))])
    page.draw()
    write_file(page, path)
    say(f"page: {path}")


def _free(path: Path) -> Path:
    """The name, or with -2, -3, ... where it is taken."""
    numbered = (path.with_stem(f"{path.stem}-{number}") for number in count(2))
    return next(name for name in chain((path,), numbered) if not name.exists())


def page_of_files(path: Path, files: Iterable[Path]) -> bool:
    """A page of these result files, if there are any; False, with a line, where it can't be
    written."""
    from inference_benchmark.plotting.sources import read_source

    sources = [read_source(str(file)) for file in files]
    try:
        if sources:
            draw_page(path, sources)
    except OSError as error:
        say(f"error: the page {path} can't be written: {error.strerror}")
        return False
    return True
