"""compare_results.py as tests call it: arguments in, what it printed out."""

import contextlib
import io
import json
import os

from conftest import ROOT

from inference_benchmark import compare_results


def run(*arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr; outside of the repository's root, whose results/ would count."""
    out, err = io.StringIO(), io.StringIO()
    folder = ROOT / "tests" if os.path.samefile(".", ROOT) else "."
    streams = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
    with contextlib.chdir(folder), streams[0], streams[1]:
        try:
            code = compare_results.main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            code = exit_.code
    return code, out.getvalue(), err.getvalue()


def report(*arguments: str) -> dict:
    code, out, err = run(*arguments, "--format", "json")
    assert (code, err) == (0, "")
    return json.loads(out)


def rows(*arguments: str) -> dict[str, dict]:
    """The rows of the report by label."""
    return {row["label"]: row for row in report(*arguments)["rows"]}


def verdicts(row: dict) -> list[str]:
    timed = ("ttft_s", "tbot_s", "total_s", "output_tokens_per_s")
    return [row["metrics"][key]["ratio"]["verdict"] for key in timed]


def one_line(err: str, *words: str) -> bool:
    return err.count("\n") == 1 and all(word in err for word in words)
