"""Exit codes, and the two ways in which nothing can be measured; each of these is one line."""

import sys
from enum import IntEnum
from typing import NoReturn


class ExitCode(IntEnum):
    MEASURED = 0
    GATE_FAILED = 1
    BAD_REQUEST = 2  # argparse's own
    CANNOT_RUN = 3
    INTERRUPTED = 130


class RequestError(ValueError):
    """The request itself is wrong (exit code 2)."""


class CannotRun(RuntimeError):
    """The request is fine, but this machine can't serve it (exit code 3)."""


def end_without_package(program: str, error: ModuleNotFoundError) -> NoReturn:
    """For the start of a program, where another Python than the installed one is the usual cause."""
    print(
        f"{program}: error: this Python ({sys.executable}) lacks the package {error.name}: "
        "take the one of the environment that README.md sets up, or pip install -e .",
        file=sys.stderr,
    )
    sys.exit(ExitCode.CANNOT_RUN)
