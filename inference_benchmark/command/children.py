"""Sessions one after the other, each a process of its own, that end as a lone one does. No torch."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from inference_benchmark.errors import ExitCode
from inference_benchmark.options.flag import option

PROGRAM = (sys.executable, "-m", "inference_benchmark.benchmark_inference")
_ROOT = Path(__file__).resolve().parents[2]
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Exit codes after which a further session makes sense.
GOES_ON = (ExitCode.MEASURED, ExitCode.GATE_FAILED, ExitCode.NOT_WRITTEN)


class Children:
    """`received` is the signal that ended them; 0: none did."""

    def __init__(self, program: Sequence[str] = PROGRAM) -> None:
        self._program = list(program)
        self._child: subprocess.Popen | None = None
        self.received = 0

    def run(
        self, arguments: Sequence[str], environment: Mapping[str, str], silent: bool = False
    ) -> int:
        """Its exit code. environment: what is other than here. silent: nothing of it is seen.

        In a process group of its own, so that Ctrl-C reaches it once: through us.
        """
        path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
        sys.stdout.flush()
        self._child = subprocess.Popen(
            [*self._program, *arguments],
            env=os.environ | {"PYTHONPATH": path} | environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL if silent else None,
        )
        if self.received:  # between two sessions, or while this one was started
            self._pass_on(self.received)
        code = self._child.wait()
        self._child = None
        return code if code >= 0 else 128 - code

    @contextmanager
    def passing_on_signals(self) -> Iterator[None]:
        """Those that we were started to ignore, the sessions ignore too."""

        def handler(number: int, _: object) -> None:
            self.received = self.received or number
            self._pass_on(number)

        before = {
            number: signal.signal(number, handler)
            for number in _ENDING
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        try:
            yield
        finally:
            for number, known in before.items():
                signal.signal(number, known or signal.SIG_DFL)

    def _pass_on(self, number: int) -> None:
        if self._child is not None and self._child.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, number)


def without(arguments: Sequence[str], name: str, several: bool = False) -> list[str]:
    """Without the flag of this name and its value (several: all its values), in either way to
    write it."""
    flag = option(name)
    kept: list[str] = []
    values = 0  # how many more words may be values of the flag
    for word in arguments:
        is_flag = word == flag or word.startswith(f"{flag}=")
        if is_flag and (several or not values):
            values = len(arguments) if several else int(word == flag)
        elif values and not (several and word.startswith("--")):
            values -= 1
        else:
            values = 0
            kept.append(word)
    return kept
