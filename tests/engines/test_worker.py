"""Engines in processes of their own: what goes over the pipe, and how a worker's end is told."""

import platform
import sys
from pathlib import Path

import pytest
import torch

from inference_benchmark.engines.base import EnginePlan, Resources
from inference_benchmark.engines.worker_engine import WorkerEngine
from inference_benchmark.engines.worker_process import WorkerFailed
from inference_benchmark.session.live import failure

GENERATOR = Path(__file__).parent / "echo_generator.py"
PROMPTS = torch.tensor([[1, 2], [3, 4]])


class EchoEngine(WorkerEngine):
    generator = str(GENERATOR)
    fault: str | None = None

    def settings(self):
        return {"fault": self.fault}

    def environment(self):
        return {"ECHO_VARIABLE": "set"}


def engine_of(
    fault: str | None = None, python: str | None = None, timeout_s: float = 60
) -> EchoEngine:
    engine_type = type("Faulty", (EchoEngine,), {"fault": fault})
    return engine_type(EnginePlan(2, 2, 5, python=python, timeout_s=timeout_s), Resources())


def script(folder: Path, *lines: str) -> str:
    """A program in place of a Python."""
    path = folder / "python"
    path.write_text("\n".join(("#!/bin/sh", *lines)) + "\n")
    path.chmod(0o755)
    return str(path)


def test_tokens_times_logits_and_facts_come_over_the_pipe():
    with engine_of() as engine:
        stream = engine.run(PROMPTS, 3)
        assert stream.tokens == [[3, 4, 5], [5, 6, 7]]
        assert stream.token_times_s == [0.5, 1.0, 1.5]
        logits = engine.logits_of([[1], [2]], [[5, 6], [7, 8]])
        assert torch.equal(logits, torch.arange(12.0).view(2, 3, 2))
        facts = engine.facts()
        environment = facts.pop("environment")
        assert facts == {"version": "1", "variable": "set", "python": "this one"}
        assert environment["python_version"] == platform.python_version()
        assert len(environment["packages_sha256"]) == 64
        assert engine.load_s > 0


def test_another_python_runs_it(tmp_path):
    python = script(tmp_path, f'ECHO_VARIABLE=other exec {sys.executable} "$@"')
    with engine_of(python=python) as engine:
        assert engine.facts()["variable"] == "other"
        assert engine.facts()["python"] == python


def test_what_a_start_up_script_prints_is_passed_over(tmp_path):
    greeting = "echo Welcome to this environment, which has no message in it"
    python = script(tmp_path, greeting, f'exec {sys.executable} "$@"')
    with engine_of(python=python) as engine:
        assert engine.run(PROMPTS, 3).tokens == [[3, 4, 5], [5, 6, 7]]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["exit 0"], "the worker ended with exit code 0"),
        (["echo broken >&2", "exit 3"], "ended with exit code 3; its last lines: broken"),
        (["kill -37 $$"], "the worker was ended by signal 37"),
        (
            ["while :; do echo noise; done"],
            r"the worker wrote to its output no message but b'noise",
        ),
        (["printf '\\0messageXXXXXXXX'", "cat > /dev/null"], "a message of 6365935209750747224 by"),
    ],
)
def test_a_program_that_is_no_worker_is_one_line(tmp_path, lines, message):
    with pytest.raises(WorkerFailed, match=message) as error:
        engine_of(python=script(tmp_path, *lines))
    assert "\n" not in str(error.value)


def test_one_that_hangs_is_ended(tmp_path):
    with pytest.raises(
        WorkerFailed,
        match=r"gave no answer to 'open' in 0.5 s \(--engine-timeout\)",
    ):
        engine_of("hang", timeout_s=0.5)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("raise", "ValueError: two lines (in the worker)"),
        (
            "kill",
            "the worker was ended by SIGKILL; its last lines: printed by a library | about to go",
        ),
        ("exit", "the worker ended with exit code 3; its last lines: printed by a library"),
    ],
)
def test_what_fails_in_the_worker_is_one_line(fault, message):
    with engine_of(fault) as engine, pytest.raises(WorkerFailed) as error:
        engine.run(PROMPTS, 3)
    assert str(error.value) == message
    assert failure(error.value) == ("failed", f"WorkerFailed: {message}")


def test_after_a_failed_call_the_worker_serves_the_next():
    with engine_of("raise") as engine:
        with pytest.raises(WorkerFailed):
            engine.run(PROMPTS, 3)
        assert engine.logits_of([[1], [2]], [[5, 6], [7, 8]]).shape == (2, 3, 2)


def test_a_worker_that_cannot_open_leaves_no_process():
    with pytest.raises(WorkerFailed, match="No module named 'nowhere'"):
        engine_of("open")


def test_closing_ends_the_process():
    engine = engine_of()
    pid = engine._worker.pid
    engine.close()
    engine.close()
    assert not Path(f"/proc/{pid}").exists()
