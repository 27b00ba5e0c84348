"""stdout and stderr as they may be: closed, full, ASCII only. Nothing that is said gets lost unseen.

A closed descriptor is the first that the next opened file gets, and whatever a library prints would
go into that file; so closed ones are filled at the start. Loads nothing.
"""

import errno
import io
import os
import sys
from contextlib import suppress


class ClosedOutput(io.TextIOBase):
    """Stands for a stdout that is closed: writing says so, where Python's None is silent."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, "standard output is closed")

    def fileno(self) -> int:
        return 1


def prepare_streams() -> None:
    """To be called first of all, before any file is opened."""
    for descriptor in range(3):
        _fill(descriptor)
    if sys.stdout is None:
        sys.stdout = ClosedOutput()
    if sys.stderr is None:  # print(file=None) would go to stdout
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _fill(descriptor: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError:
        os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor, which is this one


def give_up_stdout() -> None:
    """Send what is left in stdout's buffer to /dev/null: at its exit Python would try to write it
    once more, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_out(program: str, text: str) -> bool:
    """Print it; False where it can't be, which is said. A reader that leaves early has seen enough."""
    try:
        print(text, flush=True)
    except OSError as error:
        give_up_stdout()
        if isinstance(error, BrokenPipeError):
            return True
        say(f"{program}: error: the output can't be written: {error.strerror}")
        return False
    return True


def say(text: str) -> None:
    """One line on stderr; where that can't be written either there is nobody left to tell."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)
