"""--report: the page of a session, or of several, and where it goes."""

from collections.abc import Iterable, Sequence
from itertools import chain, count
from pathlib import Path

from inference_benchmark.command.ending import Ending
from inference_benchmark.options.request import Request
from inference_benchmark.reporting.saving import file_name
from inference_benchmark.system.output_stream import say


def write_page(result: dict, request: Request, ending: Ending) -> None:
    """Of one session: beside its result file, or under the name that this would have; where that
    can't be written, the ending's exit code says so."""
    from inference_benchmark.plotting.sources import of_result, read_source

    if ending.is_saved:
        source, wanted = read_source(str(ending.path)), ending.path.with_suffix(".html")
    else:
        name = file_name(result)
        source = of_result(f"{name}.json", result)
        wanted = request.output_dir / f"{name}.html"
    try:
        _draw(wanted if request.overwrite else _free(wanted), [source])
    except OSError as error:
        ending.report_error = error


def write_page_of(files: Iterable[Path], path: Path) -> bool:
    """Of the sessions in these files; a page of that name, which a sweep that goes on has left, is
    replaced. False where it can't be written, which is said. Of no session there is none."""
    from inference_benchmark.plotting.sources import read_source

    sources = [read_source(str(file)) for file in files]
    try:
        if sources:
            _draw(path, sources)
    except OSError:
        return False
    return True


def _draw(path: Path, sources: Sequence) -> None:
    """Write the page and say its name, on stderr so that stdout holds the result alone.

    Raises:
        OSError: it can't be written; that is said.
    """
    from inference_benchmark.plotting.page import Page
    from inference_benchmark.plotting.sources import SourceSet
    from inference_benchmark.plotting.writing import write_page as write_file

    page = Page([SourceSet("results", tuple(sources))])
    page.draw()
    try:
        write_file(page, path)
    except OSError as error:
        say(f"error: the page {path} can't be written: {error.strerror}")
        raise
    say(f"page: {path}")


def _free(path: Path) -> Path:
    """The name, or with -2, -3, ... where it is taken."""
    numbered = (path.with_stem(f"{path.stem}-{number}") for number in count(2))
    return next(name for name in chain((path,), numbered) if not name.exists())
