"""Exit codes, and the ways in which nothing can be measured; each of these is one line."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import NoReturn


class ExitCode(IntEnum):
    MEASURED = 0
    GATE_FAILED = 1
    BAD_REQUEST = 2  # argparse's own
    CANNOT_RUN = 3
    NOT_WRITTEN = 4  # measured, but the result or the report could not be written
    HUNG_UP = 129  # 128 + the signal's number: SIGHUP, SIGINT, SIGTERM
    INTERRUPTED = 130
    TERMINATED = 143


class RequestError(ValueError):
    """The request itself is wrong (exit code 2)."""


class CannotRun(RuntimeError):
    """The request is fine, but this machine can't serve it (exit code 3)."""


class NoRoom(CannotRun):
    """Weights don't fit where they would be written."""


class Stopped(RuntimeError):
    """A mode was given up because it took too long; the message says at what."""


def printable(text: object) -> str:
    """On one line: line ends and tabs become spaces, and whatever else a terminal would take for a
    command is written as an escape."""
    text = str(text)
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    if character.isspace():
        return " "
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def is_out_of_memory(error: BaseException) -> bool:
    """Of the host or of a GPU; torch raises a plain RuntimeError for the host's."""
    is_named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return is_named or "can't allocate memory" in str(error)


@contextmanager
def loading(program: str, work: str = "measured") -> Iterator[None]:
    """Around the imports of a program, which ends in one line where they fail.

    work: what it does not come to after a Ctrl-C.
    """
    try:
        yield
    except ImportError as error:
        end_without_package(program, error)
    except KeyboardInterrupt:
        print(f"{program}: error: interrupted before anything was {work}", file=sys.stderr)
        sys.exit(ExitCode.INTERRUPTED)


def end_without_package(program: str, error: ImportError) -> NoReturn:
    """For a package that is missing, where another Python than the installed one is the usual cause,
    or that is there and can't be loaded, say for want of memory."""
    while isinstance(error.__cause__, ImportError):  # NumPy wraps it in a page of advice
        error = error.__cause__
    problem = f"a package can't be loaded: {printable(error)}"
    if isinstance(error, ModuleNotFoundError):
        problem = (
            f"this Python ({sys.executable}) lacks the package {error.name}: "
            "take the one of the environment that README.md sets up, or pip install -e ."
        )
    print(f"{program}: error: {problem}", file=sys.stderr)
    sys.exit(ExitCode.CANNOT_RUN)
