"""What a newcomer gets wrong, and what the program answers: a table of all answers.

    python tests/trials/trials.py    runs all of them and writes results/trials.md

refused.py lists the requests, which test_trials.py runs too; hurt_sessions.py has what befalls a session.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from trials.hurt_sessions import hurt_sessions, last_line
from trials.refused import ROOT, TRIALS, Trial


def answer(trial: Trial) -> tuple[int | str, str]:
    """(exit code, what was said) of a real process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if trial.prepare is not None:
            trial.prepare(folder)
        command = [sys.executable, trial.program, *trial.command(folder)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **trial.environment}
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
            )
        except subprocess.TimeoutExpired:
            return "hangs", ""
        return done.returncode, done.stderr.replace(name, "FOLDER")


def main() -> int:
    rows, failures = [], 0
    for trial in TRIALS:
        code, text = answer(trial)
        lines = text.strip().splitlines()
        is_right = code == trial.code and trial.words in text and len(lines) == 1
        failures += not is_right
        rows.append((trial.group, trial.case, code, last_line(text)))
        print("ok  " if is_right else "FAIL", trial, code, last_line(text)[:150], flush=True)
    for row in hurt_sessions():
        print("    ", *row, flush=True)
        rows.append(row)
    (ROOT / "results" / "trials.md").write_text(as_markdown(rows))
    return 1 if failures else 0


def as_markdown(rows: list[tuple]) -> str:
    lines = [
        "# What is answered to what can go wrong",
        "",
        "Made by `python tests/trials/trials.py`. Exit codes: 2 a wrong request, 3 it can't run",
        "here, 4 measured but not written, 128 + the signal's number (-9: killed).",
        "",
        "| what | | exit code | what is said |",
        "| --- | --- | --- | --- |",
    ]
    for group, case, code, text in rows:
        text = text if len(text) <= 200 else f"{text[:200]}..."
        cells = (group, case, str(code), f"`{text.replace('`', '')}`" if text else "-")
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
