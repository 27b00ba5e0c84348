"""Sessions that are hurt: signals, disks and streams. What was measured is reported or saved."""

import json
import os
import signal
import subprocess
from pathlib import Path

import jsonschema
import pytest
from conftest import ROOT
from programs import FEW, LONG, SHORT, TINY, Program
from programs import run as run_program
from programs import start as start_program

SCHEMA = json.loads((ROOT / "inference_benchmark" / "reporting" / "result.schema.json").read_text())
NO_SPACE = "the output can't be written: No space left on device"


def run(*arguments: str, **settings):
    """On the engine that needs no model: what is looked at is what becomes of its result."""
    return run_program(*TINY, "--mode", "scripted", *arguments, **settings)


def start(directory: Path, mode: str = "scripted") -> tuple[Program, dict]:
    """A long session, of which two rounds are on disk."""
    flags = ["--mode", mode, *LONG, "--save-results", "--output-dir", str(directory)]
    program = start_program(*TINY, *flags)
    program.wait_until(lambda: any(num_runs(result) >= 2 for result in load_all(directory)))
    return program, load_all(directory)[0]


def load_all(directory: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))]


def num_runs(result: dict) -> int:
    """Of the first cell, which has no samples before its first run."""
    return len((result["cells"][0]["samples"] or {"round": []})["round"])


def validate(result: dict) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(result)


@pytest.mark.parametrize(
    ("number", "code", "mode"),
    [
        (signal.SIGINT, 130, "eager"),
        (signal.SIGTERM, 143, "scripted"),
        (signal.SIGHUP, 129, "scripted"),
    ],
)
def test_a_signal_ends_with_the_report(tmp_path, number, code, mode):
    program, before = start(tmp_path, mode)
    assert (before["state"], before["ended"]) == ("running", None)
    program.signal(number)
    done = program.wait()
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert "summary" in done.stdout
    assert "interrupted" in done.stdout
    (result,) = load_all(tmp_path)
    validate(result)
    assert result["state"] == "interrupted"
    assert result["ended"] >= result["created"]
    (cell,) = result["cells"]
    assert (cell["stop_reason"], cell["status"]) == ("interrupted", "partial")
    assert num_runs(result) >= num_runs(before) >= 2


def test_kill_9_leaves_every_finished_round_and_says_running(tmp_path):
    program, before = start(tmp_path)
    program.signal(signal.SIGKILL)
    assert program.wait().returncode == -signal.SIGKILL
    (after,) = load_all(tmp_path)
    validate(after)
    assert (after["state"], after["ended"]) == ("running", None)
    assert num_runs(after) >= num_runs(before) >= 2


def test_a_removed_directory_loses_nothing(tmp_path):
    directory = tmp_path / "results"
    program, _ = start(directory, "eager")
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()
    program.signal(signal.SIGINT)
    done = program.wait()
    assert done.returncode == 130
    assert "the result follows on stdout" in done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    validate(result)
    assert num_runs(result) >= 2


@pytest.fixture
def small_disk(tmp_path):
    """Room for the first rounds, not for all: a file is replaced by a second one beside it."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(tmp_path)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this machine lets nobody mount a tmpfs: {done.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a tiny file system needs root")
def test_a_disk_that_fills_up_loses_nothing(small_disk):
    lengths = ["--input-length", "20", "--output-length", "60", "--num-iterations", "100"]
    done = run(*lengths, "--save-results", "--output-dir", str(small_disk))
    assert done.returncode == 4
    assert "No space left on device; the result follows on stdout" in done.stderr
    whole = json.loads(done.stdout.splitlines()[-1])
    validate(whole)
    assert (whole["state"], num_runs(whole)) == ("complete", 100)
    (saved,) = load_all(small_disk)
    validate(saved)
    assert saved["state"] == "running"
    assert 0 < num_runs(saved) < 100
    assert len(list(small_disk.iterdir())) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a tiny file system needs root")
def test_a_full_disk_is_said_before_anything_is_measured(small_disk):
    (small_disk / "other").write_bytes(bytes(36_000))
    done = run(*SHORT, *FEW, "--output", str(small_disk / "a.json"))
    assert done.returncode == 3
    assert done.stderr.endswith("can't be written: No space left on device\n")
    assert [path.name for path in small_disk.iterdir()] == ["other"]


def test_a_full_disk_behind_stdout_is_said_at_once():
    done = run(*SHORT, *FEW, stdout="/dev/full")
    assert done.returncode == 3
    assert done.stderr.endswith(f"error: {NO_SPACE}\n")


@pytest.mark.parametrize(("stdout", "why"), [("/dev/full", "No space left"), ("", "is closed")])
def test_a_report_that_can_not_be_printed_is_saved_if_asked_for(tmp_path, stdout, why):
    done = run(*SHORT, *FEW, "--output", str(tmp_path / "a.json"), stdout=stdout)
    assert done.returncode == 4
    assert why in done.stderr
    assert done.stderr.endswith(f"the result is in {tmp_path / 'a.json'}\n")
    (result,) = load_all(tmp_path)
    assert (result["state"], num_runs(result)) == ("complete", 3)


def test_a_report_that_is_lost_has_its_exit_code():
    done = run(*SHORT, *FEW, "--quiet", stdout="/dev/full")
    assert done.returncode == 4
    assert done.stderr.count(NO_SPACE) == 1


def test_ascii_only(tmp_path):
    done = run(*SHORT, *FEW, environment={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert done.stdout.isascii()


def test_two_sessions_at_once_have_a_file_each(tmp_path):
    flags = [*TINY, "--mode", "scripted", *SHORT, *FEW, "--save-results", "--output-dir"]
    both = [start_program(*flags, str(tmp_path)) for _ in range(2)]
    saved = [program.wait().stdout.rpartition("saved: ")[2].strip() for program in both]
    assert len(set(saved)) == 2
    assert [result["state"] for result in load_all(tmp_path)] == ["complete"] * 2
    assert sorted(saved) == sorted(map(str, tmp_path.iterdir()))


def test_a_file_that_is_there_is_not_replaced_unasked(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("mine")
    assert run(*SHORT, *FEW, "--output", str(path)).returncode == 2
    assert path.read_text() == "mine"
    assert run(*SHORT, *FEW, "--output", str(path), "--overwrite").returncode == 0
    assert num_runs(json.loads(path.read_text())) == 3


def test_little_memory_is_one_line():
    done = run_program(
        "--model-name", "llama2-7b", "--num-layers", "4", "--device", "cpu", "--mode", "eager",
        "--force", "--input-length", "8", "--output-length", "2", prepare=limit_memory
    )  # fmt: skip
    assert done.returncode == 3
    assert "benchmark_inference.py: error: out of memory: " in done.stderr
    assert "Traceback" not in done.stderr


def limit_memory() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (4_500_000_000,) * 2)
