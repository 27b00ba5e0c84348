"""Whether the result can be written where it is to go, asked before anything is measured."""

import os
from pathlib import Path

from inference_benchmark.errors import CannotRun, RequestError


def check_file(path: Path, overwrite: bool) -> None:
    """Raise RequestError where something is there that must stay, CannotRun where nothing can be
    written."""
    if path.is_dir():
        raise RequestError(f"--output {path} is a directory; --output-dir {path} takes one")
    if os.path.lexists(path):
        if not path.is_file():
            raise RequestError(f"--output {path} is not a regular file")
        if not overwrite:
            raise RequestError(f"--output {path} exists; --overwrite replaces it")
    check_directory(path.parent, "--output: the directory")


def check_directory(directory: Path, name: str) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CannotRun(f"{name} {directory} can't be written: {error.strerror}") from None
