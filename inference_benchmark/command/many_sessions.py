"""--sessions N: as many sessions of one command, each a fresh process, saved as one set.

Sessions differ by more than the runs inside each show, so a claim about code rests on several. They
run one after the other; modes that are compared are interleaved inside each. Imports no torch.
"""

import os
import secrets
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from inference_benchmark.command.children import GOES_ON, PROGRAM, Children, without
from inference_benchmark.command.pages import write_page_of
from inference_benchmark.errors import ExitCode, RequestError
from inference_benchmark.reporting.reading import ResultFileError, read_result
from inference_benchmark.reporting.session_sets import set_table

VARIABLE = "BENCHMARK_SESSION_SET"  # ID:INDEX:SIZE, set for each session of a set
_FINISHED = "complete"


def current_session_set() -> dict | None:
    """The result file's session_set: {id, index, size} of this session; None of a lone one.

    Raises:
        RequestError: the environment variable names no set.
    """
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    name, *numbers = text.split(":")
    if not name or len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        raise RequestError(f"{VARIABLE} is '{text}' in the environment, not ID:INDEX:SIZE")
    index, size = map(int, numbers)
    if not index < size:
        raise RequestError(f"{VARIABLE} is '{text}' in the environment: INDEX counts from 0")
    return {"id": name, "index": index, "size": size}


def run_sessions(
    arguments: Sequence[str],
    count: int,
    output_dir: Path,
    *,
    output: Path | None = None,
    quiet: bool = False,
    json: bool = False,
    report: bool = False,
    program: Sequence[str] = PROGRAM,
) -> int:
    """Run the benchmark `count` times with these arguments; returns the exit code of all.

    What each session prints comes as it always does; at the end a table over the sessions follows,
    on stderr where stdout is for JSON. A signal ends the running session as it ends a lone one; the
    finished ones are kept.

    Args:
        arguments: of the command line, --sessions among them or not.
        output_dir: where sessions save their files.
        output: the value of --output; sessions then save FILE-1.json, FILE-2.json, ...
        report: whether a page of all sessions is written at the end.

    Raises:
        RequestError: under torchrun, which would have to start anew for each session.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise RequestError(
            "--sessions can't restart what torchrun started: call torchrun once for each session, "
            f"with {VARIABLE}=NAME:0:{count}, NAME:1:{count}, ... in the environment"
        )
    folder = output_dir if output is None else output.parent
    sessions = _Sessions(count, folder, quiet, Children(program))
    codes = sessions.run(lambda index: _arguments_of_one(arguments, output, index))
    print(sessions.report(), file=sys.stderr if json else sys.stdout, flush=True)
    if report and not write_page_of(sessions.files(), folder / f"{sessions.id}.html"):
        codes.insert(0, ExitCode.NOT_WRITTEN)
    received = sessions.children.received
    return received and 128 + received or _worst(codes)


@dataclass
class _Sessions:
    count: int
    folder: Path
    quiet: bool
    children: Children
    id: str = field(
        default_factory=lambda: f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    )

    def run(self, arguments_of: Callable[[int], list[str]]) -> list[int]:
        """Exit codes of the sessions that ran: after a signal, or one that could not run, no more
        are started."""
        self.known = set(self.folder.glob("*.json"))
        codes: list[int] = []
        with self.children.passing_on_signals():
            for index in range(self.count):
                if not self.quiet:
                    print(f"session {index + 1} of {self.count}", file=sys.stderr, flush=True)
                place = {VARIABLE: f"{self.id}:{index}:{self.count}"}
                codes.append(self.children.run(arguments_of(index), place))
                if self.children.received or codes[-1] not in GOES_ON:
                    break
        return codes

    def report(self) -> str:
        """The table over the finished sessions, with where they are."""
        files = self.files()
        finished = [result for result in files.values() if result["state"] == _FINISHED]
        lines = [f"\n{len(finished)} of {self.count} sessions finished, set {self.id}"]
        if finished:
            lines.append(set_table(finished))
        lines += [f"saved: {file}" for file in files]
        return "\n".join(lines)

    def files(self) -> dict[Path, dict]:
        """The set's files by their place in it; what else lies in the folder is not ours."""
        results: dict[Path, dict] = {}
        for path in set(self.folder.glob("*.json")) - self.known:
            try:
                result = read_result(path)
            except ResultFileError:
                continue
            if (result["session_set"] or {}).get("id") == self.id:
                results[path] = result
        return dict(sorted(results.items(), key=lambda item: item[1]["session_set"]["index"]))


def _worst(codes: Sequence[int]) -> int:
    """Of the last one where it ended the set; else the gravest of all: not written, gate failed."""
    return codes[-1] if codes[-1] not in GOES_ON else max(codes)


def _arguments_of_one(arguments: Sequence[str], output: Path | None, index: int) -> list[str]:
    """The command line of one session, which saves under a name of its own."""
    kept = [word for word in without(arguments, "sessions") if word != "--report"]
    if output is not None:
        name = f"{output.stem}-{index + 1}{output.suffix}"
        return [*without(kept, "output"), "--output", str(output.with_name(name))]
    return kept if "--save-results" in kept else [*kept, "--save-results"]
