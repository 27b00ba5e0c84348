"""--sessions N, with a stand-in for the benchmark that saves what its arguments say."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
from comparing import report
from conftest import ROOT
from fake_results import fake_cell, fake_result, save, with_wrong_output
from programs import run as run_program
from programs import run_benchmark

from inference_benchmark.command.children import PROGRAM, Children
from inference_benchmark.command.many_sessions import (
    VARIABLE,
    _arguments_of_one,
    current_session_set,
    run_sessions,
)
from inference_benchmark.errors import RequestError
from inference_benchmark.reporting.session_sets import set_table

# Saves the prepared session of its place in the set; "--code N" is how it ends, of the first one
# only. Ctrl-C makes it save what it has and end with 130. Imports next to nothing.
STAND_IN = """
import json, os, signal, sys, time

prepared, folder, *arguments = sys.argv[1:]
name, index, size = os.environ["BENCHMARK_SESSION_SET"].split(":")
def save(state):
    with open(f"{prepared}/{index}.json") as file:
        result = json.load(file)
    place = {"id": name, "index": int(index), "size": int(size)}
    with open(f"{folder}/session{index}.json", "w") as file:
        json.dump(result | {"session_set": place, "state": state}, file)
def interrupted(*_):
    save("interrupted")
    sys.exit(130)
signal.signal(signal.SIGINT, interrupted)
print("arguments", *arguments, flush=True)
if "--wait" in arguments and index == "1":
    print("waiting", flush=True)
    time.sleep(60)
code = int(arguments[arguments.index("--code") + 1]) if "--code" in arguments else 0
if code in (0, 1):
    save("complete")
sys.exit(code if index == "0" else 0)
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Three sessions, whose times rise by 1 % from one to the next."""
    folder = tmp_path_factory.mktemp("prepared")
    for index in range(3):
        level = 1.01**index
        cells = [fake_cell(mode, ttft_s=0.02 * level, noise=0) for mode in ("eager", "thunder")]
        save(folder / f"{index}.json", *cells)
    return folder


@pytest.fixture
def program(prepared, tmp_path):
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    (tmp_path / "out").mkdir()
    return [sys.executable, str(script), str(prepared), str(tmp_path / "out")]


def run(program, tmp_path, *arguments, count=3):
    return run_sessions(
        ["--mode", "eager", "--sessions", str(count), *arguments],
        count,
        tmp_path / "out",
        quiet=True,
        program=program,
    )


def test_every_session_is_saved_with_its_place_in_the_set(program, tmp_path, capfd):
    (tmp_path / "out" / "older.json").write_text("{}")
    assert run(program, tmp_path) == 0
    out = capfd.readouterr().out
    assert out.count("arguments --mode eager --save-results\n") == 3
    saved = [json.loads((tmp_path / "out" / f"session{i}.json").read_text()) for i in range(3)]
    sets = [result["session_set"] for result in saved]
    assert [(session_set["index"], session_set["size"]) for session_set in sets] == [
        (0, 3),
        (1, 3),
        (2, 3),
    ]
    assert len({session_set["id"] for session_set in sets}) == 1
    assert "3 of 3 sessions finished" in out
    assert out.count("saved: ") == 3


def test_the_table_has_the_session_as_its_unit(program, tmp_path, capfd):
    run(program, tmp_path)
    lines = capfd.readouterr().out.splitlines()
    (row,) = [line.split() for line in lines if line.startswith("thunder b1") and "TTFT" in line]
    # 20 ms, 20.2 and 20.402: steps of ln 1.01; Student's t of 2 degrees times 0.995 % / sqrt(3)
    assert row == ["thunder", "b1", "TTFT", "ms", "3", "20.20", "1.00%", "19.71", "..", "20.71"]


def test_a_single_session_has_no_deviation(program, tmp_path, capfd):
    assert run(program, tmp_path, count=1) == 0
    row = next(line for line in capfd.readouterr().out.splitlines() if "TTFT" in line)
    assert row.split()[-2:] == ["-", "-"]


def test_a_failed_gate_goes_on_and_is_the_exit_code(program, tmp_path, capfd):
    assert run(program, tmp_path, "--code", "1") == 1
    assert "3 of 3 sessions finished" in capfd.readouterr().out


def test_what_can_not_run_is_not_tried_again(program, tmp_path, capfd):
    assert run(program, tmp_path, "--code", "3") == 3
    out = capfd.readouterr().out
    assert out.count("arguments") == 1
    assert "0 of 3 sessions finished" in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_running_session_and_keeps_the_finished(program, tmp_path, number):
    script = (
        "import sys; from pathlib import Path\n"
        "from inference_benchmark.command.many_sessions import run_sessions\n"
        f"sys.exit(run_sessions(['--wait'], 3, Path({str(tmp_path / 'out')!r}), "
        f"program={program!r}))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    lines = iter(process.stdout.readline, "")
    assert any(line == "waiting\n" for line in lines)
    time.sleep(0.1)
    process.send_signal(number)
    rest = process.stdout.read()
    assert process.wait(timeout=20) == 128 + number
    assert "1 of 3 sessions finished" in rest
    if number == signal.SIGINT:  # of which this stand-in knows how to end
        assert json.loads((tmp_path / "out/session1.json").read_text())["state"] == "interrupted"
    assert not (tmp_path / "out/session2.json").exists()


def test_a_named_file_gets_the_number_of_the_session(tmp_path):
    arguments = ["--sessions=3", "--output", "a/b.json", "--mode", "eager"]
    renumbered = _arguments_of_one(arguments, tmp_path / "b.json", 1)
    assert renumbered == ["--mode", "eager", "--output", str(tmp_path / "b-2.json")]
    assert _arguments_of_one(["--save-results", "--sessions", "2"], None, 0) == ["--save-results"]


class TestEnvironment:
    def test_a_lone_session_is_in_no_set(self, monkeypatch):
        monkeypatch.delenv(VARIABLE, raising=False)
        assert current_session_set() is None

    def test_the_variable_says_which_one(self, monkeypatch):
        monkeypatch.setenv(VARIABLE, "a-set:1:3")
        assert current_session_set() == {"id": "a-set", "index": 1, "size": 3}

    @pytest.mark.parametrize("text", ["a", "a:1", "a:3:3", "a:-1:3", ":0:3", "a:x:3"])
    def test_nonsense_is_refused(self, monkeypatch, text):
        monkeypatch.setenv(VARIABLE, text)
        with pytest.raises(RequestError, match="environment"):
            current_session_set()

    def test_torchrun_has_to_start_each_session(self, monkeypatch, tmp_path):
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(RequestError, match="torchrun once for each session"):
            run_sessions([], 2, tmp_path)


def test_the_command_line_saves_a_set_that_is_compared(tmp_path):
    flags = "--model-name llama-tiny --device cpu --precision fp32 --mode scripted --quiet"
    flags += f" --num-iterations 6 --sessions 2 --output-dir {tmp_path}"
    done = run_program(*flags.split(), prepare=fork_sessions)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 sessions finished" in done.stdout
    results = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("*.json"))]
    places = {(result["session_set"]["index"], result["session_set"]["size"]) for result in results}
    assert places == {(0, 2), (1, 2)}  # of one second, whose names do not sort by time
    assert "--sessions" not in results[0]["command"]
    (row,) = report(tmp_path)["rows"]
    assert (row["label"], len(row["files"])) == ("scripted b1", 2)


def fork_sessions() -> None:
    """Those that are started from here on, for each would load torch."""

    def run_forked(self, arguments, environment) -> int:
        os.environ.update(environment)
        session = multiprocessing.get_context("fork").Process(
            target=run_benchmark, args=([*arguments],)
        )
        session.start()
        session.join()
        return session.exitcode

    Children.run = run_forked


def test_the_program_of_a_session_is_the_benchmark():
    done = subprocess.run([*PROGRAM, "--version"], capture_output=True, text=True)
    assert done.stdout.startswith("benchmark_inference.py ")


def test_cells_without_a_speed_are_left_out_of_the_table():
    wrong = with_wrong_output(fake_cell("thunder"))
    text = set_table([fake_result([fake_cell("eager"), wrong])] * 2)
    assert "eager b1" in text
    assert "thunder" not in text


def test_it_needs_no_torch():
    program = (
        "import sys, inference_benchmark.command.many_sessions\nassert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, env=dict(os.environ))


def test_a_page_of_the_set_is_written_at_the_end(program, tmp_path, capfd):
    arguments = ["--mode", "eager", "--sessions", "2", "--report"]
    assert run_sessions(arguments, 2, tmp_path / "out", report=True, program=program) == 0
    (page,) = (tmp_path / "out").glob("*.html")
    assert "4 cells of 2 sessions" in page.read_text()
    assert f"page: {page}\n" in capfd.readouterr().err
