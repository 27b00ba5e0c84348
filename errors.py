"""Exit codes, and the two ways in which nothing can be measured; each of these is one line."""

from enum import IntEnum


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
