"""This side of a worker process: starts it, talks to it over a pipe, and says how it ended."""

import os
import signal
import subprocess
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from inference_benchmark.engines.workers import worker as protocol

_LAST_LINES = 3
_LINE_LENGTH = 300
_ENDING_S = 20.0
_CLOSING_S = 5.0
_MOST_NOISE = 1 << 16  # bytes that a start-up script may print


class WorkerFailed(RuntimeError):
    """A call failed in the worker, or the worker is gone; one line with its last words."""


class WorkerProcess:
    """A Python process that runs a generator file (workers/worker.py).

    It is a session of its own, so that Ctrl-C reaches us alone, who then end it.

    Args:
        python: its interpreter.
        generator: the file that holds its Generator.
        environment: variables beside ours.
        timeout_s: that one call may take; then the process is killed.
    """

    def __init__(
        self, python: str, generator: Path, environment: dict[str, str], timeout_s: float
    ) -> None:
        self._timeout_s = timeout_s
        self._is_late = False
        self._noise = _MOST_NOISE
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [python, protocol.__file__, str(generator)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
            env=os.environ | environment,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(self, name: str, **arguments: Any) -> Any:
        """What the worker's method returned.

        Raises:
            WorkerFailed: it raised, or the process is gone.
        """
        try:
            reply = self._ask({"call": name, "arguments": arguments})
        except OSError:  # the pipe is closed
            reply = None
        except ValueError as error:
            self._kill()
            raise WorkerFailed(
                f"the worker wrote to its output {error}{self._last_words()}"
            ) from None
        if reply is None:
            raise WorkerFailed(f"the worker {self._ending(name)}{self._last_words()}")
        if "error" in reply:
            raise WorkerFailed(f"{reply['error'][:_LINE_LENGTH]} (in the worker)")
        return reply["result"]

    def _ask(self, message: dict) -> dict | None:
        """The reply; None where the process has ended, by itself or for being late."""
        clock = threading.Timer(self._timeout_s, self._give_up)
        clock.start()
        try:
            protocol.send(self._process.stdin, message)
            reply = protocol.receive(self._process.stdout, self._noise)
        finally:
            clock.cancel()
        self._noise = 0  # from now on its output is ours
        return reply

    def _give_up(self) -> None:
        self._is_late = True
        self._kill()

    def _kill(self) -> None:
        """The process and what it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _ending(self, call: str) -> str:
        if self._is_late:
            return f"gave no answer to '{call}' in {self._timeout_s:g} s (--engine-timeout)"
        try:
            code = self._process.wait(timeout=_ENDING_S)
        except subprocess.TimeoutExpired:
            return "answers no more"
        if code < 0:
            return f"was ended by {_signal_name(-code)}"
        return f"ended with exit code {code}"

    def _last_words(self) -> str:
        lines = [line.strip() for line in self.log().splitlines() if line.strip()]
        words = " | ".join(line[:_LINE_LENGTH] for line in lines[-_LAST_LINES:])
        return f"; its last lines: {words}" if words else ""

    def log(self) -> str:
        """Everything it wrote."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def close(self) -> None:
        """Let it end by itself; what is left of it after that is killed."""
        if self._log.closed:
            return
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                pipe.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_CLOSING_S)
        self._kill()
        self._process.wait()
        self._log.close()


def _signal_name(number: int) -> str:
    names = {known.value: known.name for known in signal.Signals}
    return names.get(number, f"signal {number}")
