"""--cache-state: start-up with an empty and with a filled compile cache, in sessions of their own.

Compilers keep what they made on disk. Whether a mode starts in a minute or in seconds depends on
that cache, and on a machine that is in use nobody knows what it holds. So both sessions get a folder
that is theirs alone: the first one finds it empty, the second as the first one left it.
"""

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from inference_benchmark.command.children import GOES_ON, PROGRAM, Children, without
from inference_benchmark.command.pages import write_page_of
from inference_benchmark.errors import ExitCode, RequestError
from inference_benchmark.options.groups.measuring import CACHE_STATES
from inference_benchmark.reporting.reading import ResultFileError, read_result
from inference_benchmark.reporting.start_up import start_up_table

VARIABLE = "BENCHMARK_CACHE_STATE"  # cold or warm, set for a session that --cache-state started
_COLD = CACHE_STATES[0]
# Where compilers look for what they made before: inductor, and Triton outside of it.
_FOLDERS = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}
_SHORTEST = ("--num-iterations", "1", "--warmup-iterations", "0")
_OF_LENGTH = ("num_iterations", "warmup_iterations", "target_ci", "max_seconds")


def current_cache_state() -> str | None:
    """The result file's cache_state: what this session was given; None: whatever there was.

    Raises:
        RequestError: the environment variable names no state.
    """
    state = os.environ.get(VARIABLE) or None
    if state not in (None, *CACHE_STATES):
        raise RequestError(f"{VARIABLE} is '{state}' in the environment, not cold or warm")
    return state


def run_cache_states(
    arguments: Sequence[str],
    states: Sequence[str],
    output_dir: Path,
    *,
    output: Path | None = None,
    quiet: bool = False,
    json_wanted: bool = False,
    report: bool = False,
    program: Sequence[str] = PROGRAM,
) -> int:
    """A session for each state, the cold one first; then a table of what each took to start.

    For the warm one alone, a shortest session before it, which is not shown, fills the cache.

    Args:
        arguments: of the command line, --cache-state among them.
        output_dir: where the sessions save their files.
        output: the value of --output; they then save FILE-cold.json and FILE-warm.json.
        report: whether a page of these sessions is written at the end.

    Returns:
        The exit code: that of a signal, else the gravest of the sessions.

    Raises:
        RequestError: under torchrun, which would have to start each session.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise RequestError(
            f"--cache-state can't restart what torchrun started: set {', '.join(_FOLDERS)} to an "
            f"empty folder, {VARIABLE}=cold, and call torchrun; then again with {VARIABLE}=warm"
        )
    arguments = without(arguments, "cache_state", several=True)
    arguments = [word for word in arguments if word != "--report"]
    children, codes, saved = Children(program), [], {}
    with (
        tempfile.TemporaryDirectory(prefix="compile-cache-") as folder,
        children.passing_on_signals(),
    ):
        environment = {name: f"{folder}/{part}" for name, part in _FOLDERS.items()}
        if _COLD not in states:
            _say(quiet, "filling the compile cache")
            codes.append(children.run(_shortened(arguments), environment, silent=True))
        for state in (state for state in CACHE_STATES if state in states):
            if children.received or (codes and codes[-1] not in GOES_ON):
                break
            _say(quiet, f"session with a {state} compile cache")
            known = set(output_dir.glob("*.json"))
            path = output and output.with_name(f"{output.stem}-{state}{output.suffix}")
            flags = _saving(arguments, path)
            codes.append(children.run(flags, environment | {VARIABLE: state}))
            new = [path] if path else sorted(set(output_dir.glob("*.json")) - known)
            saved |= {state: sessions} if (sessions := _saved(new, state)) else {}
    text = start_up_table(*(saved[state][1] if state in saved else None for state in CACHE_STATES))
    if text:
        print(f"\n{text}", file=sys.stderr if json_wanted else sys.stdout, flush=True)
    files = [path for path, _ in saved.values()]
    if report and files and not write_page_of(files, files[0].with_suffix(".html")):
        codes.append(ExitCode.NOT_WRITTEN)
    return children.received and 128 + children.received or max(codes)


def _say(quiet: bool, text: str) -> None:
    if not quiet:
        print(text, file=sys.stderr, flush=True)


def _shortened(arguments: Sequence[str]) -> list[str]:
    """All that compiles, timed once and kept nowhere."""
    for name in _OF_LENGTH:
        arguments = without(arguments, name)
    switches = ("--save-results", "--save-prompts", "--profile", "--strict")
    kept = [word for word in without(arguments, "output") if word not in switches]
    return [*kept, *_SHORTEST]


def _saving(arguments: list[str], path: Path | None) -> list[str]:
    """The arguments of a session, which saves into that file or under a name of its own."""
    if path is not None:
        return [*without(arguments, "output"), "--output", str(path)]
    return arguments if "--save-results" in arguments else [*arguments, "--save-results"]


def _saved(candidates: Sequence[Path], state: str) -> tuple[Path, dict] | None:
    """What the session wrote, among these files."""
    for path in candidates:
        try:
            result = read_result(path)
        except ResultFileError:
            continue
        if result["config"].get("cache_state") == state:
            return path, result
    return None
