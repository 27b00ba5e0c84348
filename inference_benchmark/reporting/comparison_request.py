"""What is to be compared: files, folders of them, or the sessions of two sides."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from inference_benchmark.reporting.reading import STANDARD_INPUT
from inference_benchmark.reporting.saved_cells import ComparisonError

ACROSS = {  # what --across leaves out of the fingerprint, and sides are named by
    "gpu": ("gpu",),
    "model": ("model_name", "num_layers"),
    "precision": ("precision",),
    "batch": ("batch_size",),
}


@dataclass(frozen=True)
class ComparisonRequest:
    files: Sequence[str] = ()  # or folders of them; "-" is standard input
    baseline: str | None = None  # a file or a mode; with across, a file or a value
    across: str | None = None
    threshold: float | None = None  # replaces the bands
    force: bool = False
    before: Sequence[str] = ()  # sessions of one side each, instead of files
    after: Sequence[str] = ()
    strict: bool = False  # refuse what differs in a condition
    ignore: Sequence[str] = ()  # conditions that may differ, on purpose
    history: Sequence[str] = ()  # folders of saved sets

    @property
    def all_files(self) -> tuple[str, ...]:
        return (*self.files, *self.before, *self.after)


def resolve_files(request: ComparisonRequest) -> tuple[ComparisonRequest, str | None]:
    """The request with folders as their files and its baseline file among the files, and which
    file that is.

    Raises:
        ComparisonError: a file is named twice, a folder holds none, one side is missing.
    """
    request = replace(
        request,
        files=expand_folders(request.files),
        before=expand_folders(request.before),
        after=expand_folders(request.after),
    )
    _check_sides(request)
    paths = [os.path.realpath(file) for file in request.all_files]
    for file, path in zip(request.all_files, paths, strict=True):
        if paths.count(path) > 1:
            raise ComparisonError(f"{file}: is named twice; a file is one session")
    if request.baseline is None or request.before:
        return request, None
    files = request.files
    named = [file for file in files if os.path.basename(file) == request.baseline]
    if os.path.exists(request.baseline):
        path = os.path.realpath(request.baseline)
        named = [file for file in files if os.path.realpath(file) == path] or [request.baseline]
    if len(named) != 1:
        return request, None
    missing = [] if named[0] in files else named
    return replace(request, files=(*missing, *files)), named[0]


def expand_folders(names: Sequence[str]) -> tuple[str, ...]:
    """Folders as the result files in them.

    Raises:
        ComparisonError: a folder holds none.
    """
    files: list[str] = []
    for name in names:
        if name != STANDARD_INPUT and os.path.isdir(name):
            paths = sorted(map(str, Path(name).glob("*.json")))
            if not paths:
                raise ComparisonError(f"{name}: is a folder without result files (*.json)")
            files += paths
        else:
            files.append(name)
    return tuple(files)


def _check_sides(request: ComparisonRequest) -> None:
    if bool(request.before) != bool(request.after):
        raise ComparisonError("--before and --after belong together: each names a side's sessions")
    if request.before and (request.files or request.baseline or request.across):
        raise ComparisonError("--before and --after name all files; no others, and no --baseline")
    if not request.all_files:
        raise ComparisonError("name result files, or --before and --after")
