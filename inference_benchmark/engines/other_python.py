"""Another Python, given for an engine: whether it is one, and what it has. No torch."""

import os
import signal
import subprocess
import tempfile
from contextlib import suppress

from inference_benchmark.errors import CannotRun, printable

_ANSWER_S = 30.0
_HERE, _MISSING = 64, 65  # exit codes that no program has by itself
_LONGEST = 200  # characters of what it says
_PROGRAM = (
    "import importlib.util, sys; "
    "sys.exit({missing} if importlib.util.find_spec({package!r}) is None else {here})"
)


def has_package(python: str, package: str) -> bool:
    """Whether the interpreter at this path finds the package; nothing of it is imported.

    Raises:
        CannotRun: the path is no Python that works.
    """
    program = _PROGRAM.format(missing=_MISSING, here=_HERE, package=package)
    with tempfile.TemporaryFile() as log:
        try:
            process = subprocess.Popen(
                [python, "-c", program],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        except OSError as error:
            raise _no_python(python, error.strerror or type(error).__name__) from None
        try:
            code = process.wait(timeout=_ANSWER_S)
        except subprocess.TimeoutExpired:
            raise _no_python(python, f"no answer in {_ANSWER_S:g} s") from None
        finally:
            with suppress(ProcessLookupError):  # what is left of it and of what it started
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if code not in (_HERE, _MISSING):
            raise _no_python(python, f"exit code {code}{_last_line(log)}")
    return code == _HERE


def _no_python(python: str, reason: str) -> CannotRun:
    return CannotRun(f"--engine-python: {printable(python)} is no Python that works: {reason}")


def _last_line(log) -> str:
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - 10 * _LONGEST))
    lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return f"; {printable(lines[-1].strip())[:_LONGEST]}" if lines else ""
