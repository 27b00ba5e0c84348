"""--sweep FILE.toml: a session for each combination of flags, each a process of its own, resumable.

What is in the result folder already, with the same flags, code and GPU, is not measured again, so
an interrupted sweep is resumed by the same command. Imports no torch.
"""

import os
import sys
import textwrap
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from inference_benchmark.command.children import GOES_ON, PROGRAM, Children, without
from inference_benchmark.command.expected_time import Clock, about, expected_s
from inference_benchmark.command.pages import write_page_of
from inference_benchmark.command.saved_work import (
    Machine,
    duration_s,
    find_session,
    read_folder,
)
from inference_benchmark.errors import CannotRun, ExitCode, RequestError
from inference_benchmark.hardware import Ceilings, ceilings, find_gpu
from inference_benchmark.options.checks import check_combination, given_flags
from inference_benchmark.options.flag import option
from inference_benchmark.options.flags import make_parser
from inference_benchmark.options.request import Request
from inference_benchmark.options.resolution import resolve
from inference_benchmark.options.sweep_file import fields_of, read_sweep
from inference_benchmark.reporting.layout import WIDTH
from inference_benchmark.reporting.sweep_table import sweep_table
from inference_benchmark.system.environment import git_commit, gpu_name


@dataclass
class _Session:
    """One combination. words: what the sweep's file says of it."""

    words: list[str]
    arguments: list[str]
    request: Request
    expected_s: float
    result: dict | None = None
    path: Path | None = None
    code: int | None = None


def run_sweep(
    arguments: Namespace,
    words: Sequence[str],
    *,
    program: Sequence[str] = PROGRAM,
    machine: Machine | None = None,
) -> int:
    """Measure what is missing; returns the exit code of all.

    Args:
        arguments, words: of the command line; what it says besides the file holds for all sessions.
        machine: what runs here, if it is not to be found out.

    Raises:
        RequestError, CannotRun: a combination is refused, before any is measured.
    """
    machine = machine or Machine(gpu_name(), git_commit())
    sweep = _Sweep(_sessions(arguments, words, machine), arguments, machine, Children(program))
    code = sweep.run()
    out = sys.stderr if arguments.format == "json" or arguments.json else sys.stdout
    print(sweep.report(), file=out, flush=True)
    page = arguments.output_dir / f"{arguments.sweep.stem}.html"
    if arguments.report and not write_page_of(sweep.files, page) and code in GOES_ON:
        return ExitCode.NOT_WRITTEN
    return code


def _sessions(arguments: Namespace, words: Sequence[str], machine: Machine) -> list[_Session]:
    """All combinations, resolved: what is wrong with any is said now."""
    check_combination(arguments)
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise RequestError(
            "--sweep can't restart what torchrun started: loop over the combinations in the shell, "
            "and call torchrun once for each"
        )
    combinations = read_sweep(arguments.sweep)
    if twice := fields_of(arguments.sweep) & given_flags(arguments):
        flag = option(min(twice))
        raise RequestError(f"{flag} is given here and in {arguments.sweep}: leave out one")
    common = [word for word in without(words, "sweep") if word != "--report"]
    if "--save-results" not in common:
        common = [*common, "--save-results"]
    sessions = []
    for combination in combinations:
        whole = [*common, *combination]
        request = _resolved(whole, combination)
        sessions.append(
            _Session(combination, whole, request, expected_s(request, _ceilings(request, machine)))
        )
    return sessions


def _resolved(arguments: list[str], combination: list[str]) -> Request:
    try:
        request = resolve(make_parser().parse_args(arguments))
    except (RequestError, CannotRun) as error:
        raise type(error)(f"{' '.join(combination)}: {error}") from None
    if request.sweeps_batch_size:
        raise RequestError(
            "--sweep needs to know which cells there will be: name the batch sizes instead of sweep"
        )
    return request


def _ceilings(request: Request, machine: Machine) -> Ceilings | None:
    gpu = find_gpu(machine.gpu) if machine.gpu and request.device == "cuda" else None
    precision = request.precision_of(request.specs[0]).compute
    return ceilings(gpu, precision, request.gpu_bandwidth, request.gpu_peak)


@dataclass
class _Sweep:
    sessions: list[_Session]
    arguments: Namespace
    machine: Machine
    children: Children
    clock: Clock = field(default_factory=Clock)

    def run(self) -> int:
        self._find_saved()
        missing = [session for session in self.sessions if session.result is None]
        self._announce(missing)
        with self.children.passing_on_signals():
            for number, session in enumerate(missing):
                self._say_next(number, missing)
                self._measure(session)
                if self.children.received:
                    return 128 + self.children.received
        return _worst([session.code for session in missing])

    def _find_saved(self) -> None:
        results = read_folder(self.arguments.output_dir)
        for session in self.sessions:
            saved = find_session(session.request, results, self.machine)
            if saved is not None:
                session.path, session.result = saved
                taken = duration_s(session.result)
                if taken:
                    self.clock.ended(session.expected_s, taken)

    def _measure(self, session: _Session) -> None:
        folder = self.arguments.output_dir
        known, started = set(folder.glob("*.json")), time.perf_counter()
        session.code = self.children.run(session.arguments, {})
        if session.code in GOES_ON:
            self.clock.ended(session.expected_s, time.perf_counter() - started)
        new = read_folder(folder, known)
        saved = find_session(session.request, new, self.machine)
        if saved is not None:
            session.path, session.result = saved

    # What is said

    def _announce(self, missing: list[_Session]) -> None:
        saved = len(self.sessions) - len(missing)
        text = f"{len(self.sessions)} sessions"
        if saved:
            text += f", {saved} of them in {self.arguments.output_dir} already"
        if missing:
            text += f"; {len(missing)} to measure, {self._left(missing)}"
        self._say(text)

    def _left(self, missing: Sequence[_Session]) -> str:
        return about(self.clock.corrected(sum(session.expected_s for session in missing)))

    def _say_next(self, number: int, missing: list[_Session]) -> None:
        words = f"session {number + 1} of {len(missing)}, {self._left(missing[number:])} left: "
        words += " ".join(missing[number].words)
        self._say(
            "\n" + textwrap.fill(words, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
        )

    def _say(self, text: str) -> None:
        if not self.arguments.quiet:
            print(text, file=sys.stderr, flush=True)

    @property
    def files(self) -> list[Path]:
        return list(
            dict.fromkeys(session.path for session in self.sessions if session.path is not None)
        )

    def report(self) -> str:
        """A table over all sessions, saved ones included, and what became of the others."""
        complete = [session for session in self.sessions if session.result is not None]
        lines = [f"\n{len(complete)} of {len(self.sessions)} sessions are complete"]
        if complete:
            lines.append(sweep_table([session.result for session in complete]))
        for session in self.sessions:
            if session.result is None:
                ended = "not measured" if session.code is None else f"exit code {session.code}"
                lines.append(f"missing ({ended}): {' '.join(session.words)}")
        if len(complete) < len(self.sessions):
            lines.append("the same command goes on with what is missing")
        lines += [f"saved: {path}" for path in self.files]
        return "\n".join(lines)


def _worst(codes: Sequence[int]) -> int:
    """A session that could not run is a failed gate, unless none could."""
    if codes and all(code == ExitCode.CANNOT_RUN for code in codes):
        return ExitCode.CANNOT_RUN
    ran = [code if code in GOES_ON else ExitCode.GATE_FAILED for code in codes]
    return max(ran, default=ExitCode.MEASURED)
