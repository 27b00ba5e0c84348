"""How a session ends, as its result file says it: running, complete, interrupted or failed.

The file says "running" from the start, so that what was killed, or could not be written to its end,
is never taken for a session that ended.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from inference_benchmark.errors import CannotRun, ExitCode, RequestError
from inference_benchmark.options.request import Request
from inference_benchmark.reporting.saving import ResultFile, file_name, open_numbered, open_result
from inference_benchmark.system.output_stream import give_up_stdout, say


class Ending:
    """The session's state and its file, if it has one; writing errors are kept, not raised.

    build: the result as it is now, without `state` and `ended`.
    """

    def __init__(self, request: Request, build: Callable[[], dict]) -> None:
        self._request = request
        self._build = build
        self._state = "running"
        self._ended: str | None = None
        self._file: ResultFile | None = None
        self.save_error: OSError | None = None
        self.report_error: OSError | None = None

    @property
    def path(self) -> Path | None:
        return self._file and self._file.path

    @property
    def is_saved(self) -> bool:
        """Whether the file holds the newest result."""
        return self._file is not None and self.save_error is None

    def result(self) -> dict:
        return self._build() | {"state": self._state, "ended": self._ended}

    def open_file(self) -> None:
        """Create the file, if one was asked for, before anything is measured.

        Raises:
            RequestError: there is such a file, and it is not to be replaced.
            CannotRun: it can't be written.
        """
        request = self._request
        if not request.is_saved:
            return
        result = self.result()
        try:
            if request.output is None:
                self._file = open_numbered(request.output_dir, file_name(result), result)
            else:
                self._file = open_result(request.output, result, request.overwrite)
        except FileExistsError:
            raise RequestError(
                f"--output {request.output} exists; --overwrite replaces it"
            ) from None
        except OSError as error:
            where = request.output or request.output_dir
            raise CannotRun(f"{where} can't be written: {error.strerror}") from None

    def save(self, last: bool = False) -> None:
        """Called after every round; a disk that fills up must not end the measurement."""
        if self._file is None:
            return
        try:
            self._file.save(self.result(), last)
            self.save_error = None
        except OSError as error:
            self.save_error = error

    def finish(self, state: str) -> dict:
        """The result, in its last state: complete, interrupted or failed; saved if asked for."""
        self._state = state
        self._ended = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.save(last=True)
        if self.save_error is not None:
            follows = "" if state == "failed" else "; the result follows on stdout"
            say(f"error: {self.path}: {self.save_error.strerror}{follows}")
        return self.result()

    def write_beside(self, path: Path, action: Callable[[Path], None]) -> bool:
        """Write a file that goes with the result. If that can't be done, there is one line, and
        code() tells. Returns whether it could."""
        try:
            action(path)
        except OSError as error:
            say(f"error: {path}: {error.strerror}")
            self.report_error = error
            return False
        return True

    def print(self, action: Callable[[], None]) -> None:
        """Run what prints. If that can't be written, there is one line, and code() tells.

        Raises:
            CannotRun: nothing was measured yet, and nobody would see what will be.
        """
        try:
            action()
        except OSError as error:
            give_up_stdout()
            if isinstance(error, BrokenPipeError):  # whoever reads has seen enough
                return
            problem = f"the output can't be written: {error.strerror}"
            if self._state == "running" and self._file is None:
                raise CannotRun(problem) from None
            if self.report_error is None:
                say(f"error: {problem}{f'; the result is in {self.path}' if self.is_saved else ''}")
            self.report_error = error

    def code(self, measured: int) -> int:
        """The exit code: that of the measurement, unless its answer was lost."""
        lost = self.save_error is not None or self.report_error is not None
        ended_by_signal = measured >= ExitCode.HUNG_UP
        return ExitCode.NOT_WRITTEN if lost and not ended_by_signal else measured
