"""--sweep, with a stand-in for the benchmark that saves what its arguments ask for."""

import json
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT
from fake_results import fake_cell, fake_result

from inference_benchmark.command.children import Children
from inference_benchmark.command.expected_time import Clock, about, expected_s
from inference_benchmark.command.saved_work import (
    Machine,
    find_session,
    labels_of,
    read_folder,
)
from inference_benchmark.command.sweep import run_sweep
from inference_benchmark.errors import CannotRun, RequestError
from inference_benchmark.hardware import Ceilings
from inference_benchmark.options.flags import make_parser
from inference_benchmark.options.identity import identity_config
from inference_benchmark.options.resolution import resolve
from inference_benchmark.workloads.generation import Generation

HERE = Machine(None, "abc")
FILE = """
mode = ["eager", "inductor"]
batch-size = [1, 8]
model-name = "llama-tiny"
num-iterations = 10
"""
ONE = 'mode = "eager"\nmodel-name = "llama-tiny"\n'


def stand_in(arguments: list[str]) -> int:
    """Saves a result whose identity is the real one; returns the exit code.

    In a folder with a file named "wait" the session of batch size 8 takes its time; "--seed 7"
    cannot run.
    """
    request = resolve(make_parser().parse_args(arguments))
    labels = list(labels_of(request))
    print("measuring", *labels, flush=True)
    if request.seed == 7:
        return 3
    if (request.output_dir / "wait").exists() and request.batch_size == (8,):
        print("waiting", flush=True)
        time.sleep(60)
    cells = [fake_cell(label.split()[0], batch_size=int(label.split(" b")[1])) for label in labels]
    result = fake_result(cells)
    result["config"] |= identity_config(request)
    result["environment"] = result["environment"] | {"gpu": None, "git_commit": "abc"}
    result |= {"created": "2026-01-02T03:04:05Z", "ended": "2026-01-02T03:05:05Z"}
    name = "-".join(labels).replace(" ", "-") + f"-{request.seed}.json"
    (request.output_dir / name).write_text(json.dumps(result))
    return 0


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sweep.toml").write_text(FILE)
    (tmp_path / "out").mkdir()


@pytest.fixture
def run(folder, tmp_path, capfd, monkeypatch):
    """Its sessions are calls of the stand-in, not processes."""
    monkeypatch.setattr(Children, "run", lambda self, arguments, environment: stand_in(arguments))

    def run(*flags: str, machine: Machine = HERE):
        words = ["--sweep", str(tmp_path / "sweep.toml"), "--device", "cpu"]
        words += ["--output-dir", str(tmp_path / "out"), *flags]
        code = run_sweep(make_parser().parse_args(words), words, machine=machine)
        printed = capfd.readouterr()
        measured = [line for line in printed.out.splitlines() if line.startswith("measuring")]
        return code, measured, printed

    return run


def test_what_is_there_is_not_measured_again(run, tmp_path):
    code, measured, printed = run()
    assert code == 0
    assert measured == [f"measuring {mode} b{n}" for mode in ("eager", "inductor") for n in (1, 8)]
    # on a CPU without limits: 15 s to start, 5 or 40 for the cell, 13 runs of a second: 202 s
    assert "4 sessions; 4 to measure, about 3 min\n" in printed.err
    assert "4 of 4 sessions are complete" in printed.out
    rows = [line.split() for line in printed.out.splitlines() if " b8 " in line]
    assert [row[:2] for row in rows] == [["eager", "b8"], ["inductor", "b8"]]

    (tmp_path / "out" / "inductor-b8-0.json").unlink()
    code, measured, printed = run()
    assert (code, measured) == (0, ["measuring inductor b8"])
    assert "4 sessions, 3 of them in" in printed.err
    # the three that are there took 60 s each, where 33, 33 and 68 were expected: 68 x 180 / 134
    assert "1 to measure, about 2 min\n" in printed.err
    assert "4 of 4 sessions are complete" in printed.out

    results = read_folder(tmp_path / "out")
    words = [
        "--device",
        "cpu",
        "--model-name",
        "llama-tiny",
        "--mode",
        "eager",
        "--num-iterations",
        "10",
    ]

    def is_there(*flags: str, machine: Machine = HERE) -> bool:
        request = resolve(make_parser().parse_args([*words, *flags]))
        return find_session(request, results, machine) is not None

    assert is_there()
    assert is_there("--quiet", "--batch-size", "8")
    assert not is_there("--seed", "1")
    assert not is_there("--batch-size", "2")
    assert not is_there("--input-length", "5")
    assert not is_there(machine=Machine(None, "another commit"))
    assert is_there(machine=Machine("a GPU, unused here", "abc"))


def test_one_page_shows_all_sessions(run, tmp_path):
    code, _, printed = run("--report")
    assert code == 0
    assert "4 cells of 4 sessions" in (tmp_path / "out" / "sweep.html").read_text()
    assert printed.err.count("page: ") == 1


def test_an_unfinished_session_is_measured_again(run, tmp_path):
    (tmp_path / "sweep.toml").write_text(ONE)
    run()
    path = tmp_path / "out" / "eager-b1-0.json"
    result = json.loads(path.read_text())
    for changed in (
        {"state": "interrupted"},
        {"cells": [result["cells"][0] | {"status": "failed"}]},
        {"cells": []},
    ):
        path.write_text(json.dumps(result | changed))
        assert run()[1] == ["measuring eager b1"]


def test_a_session_that_can_not_run_does_not_end_the_sweep(run, tmp_path):
    (tmp_path / "sweep.toml").write_text(ONE + "seed = [7, 0]\n")
    code, measured, printed = run()
    assert (code, len(measured)) == (1, 2)
    assert "1 of 2 sessions are complete" in printed.out
    assert printed.out.count("missing (exit code 3): ") == 1
    assert "the same command goes on with what is missing" in printed.out
    (tmp_path / "sweep.toml").write_text(ONE + "seed = 7\n")
    assert run()[0] == 3


def test_a_signal_ends_the_running_session_and_the_same_command_goes_on(run, tmp_path):
    """Here with processes."""
    imports = f"import sys; sys.path[:0] = {[str(ROOT), *sys.path]!r}"
    call = "from test_sweep import stand_in; sys.exit(stand_in(sys.argv[1:]))"
    program = [sys.executable, "-c", f"{imports}; {call}"]
    (tmp_path / "out" / "wait").touch()
    words = ["--sweep", str(tmp_path / "sweep.toml"), "--device", "cpu"]
    words += ["--output-dir", str(tmp_path / "out")]
    script = (
        "import sys\n"
        "from inference_benchmark.command.saved_work import Machine\n"
        "from inference_benchmark.command.sweep import run_sweep\n"
        "from inference_benchmark.options.flags import make_parser\n"
        f"words = {words!r}\n"
        "sys.exit(run_sweep(make_parser().parse_args(words), words, "
        f"program={program!r}, machine=Machine(None, 'abc')))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    lines = iter(process.stdout.readline, "")
    assert any(line == "waiting\n" for line in lines)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    rest = process.stdout.read()
    assert process.wait(timeout=20) == 130
    assert "1 of 4 sessions are complete" in rest
    assert rest.count("missing (not measured)") == 2
    (tmp_path / "out" / "wait").unlink()
    assert len(run()[1]) == 3


@pytest.mark.parametrize(
    ("text", "flags", "error", "words"),
    [
        ('mode = ["eager", "eagre"]', (), RequestError, "--mode eagre: .*did you mean eager"),
        ('mode = "eager"', ("--mode", "eager"), RequestError, "--mode is given here and in"),
        ('batch-size = "sweep"', ("--mode", "eager"), RequestError, "name the batch sizes"),
        ('mode = "eager"\nlinear = "gemv"', (), CannotRun, "--linear gemv: .*GPU kernel"),
        ('mode = "eager"', ("--sessions", "2"), RequestError, "files of their own"),
    ],
)
def test_a_wrong_combination_is_refused_before_any_is_measured(
    run, tmp_path, text, flags, error, words
):
    (tmp_path / "sweep.toml").write_text(text)
    with pytest.raises(error, match=words):
        run(*flags)


def test_torchrun_has_to_start_each_session(run, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RequestError, match="torchrun once for each"):
        run()


def test_a_session_takes_what_its_limits_say():
    ceilings = Ceilings(4.8e12, 989e12, "datasheet")
    flags = "--device cpu --model-name llama3.1-8b --scenario chat --mode eager --batch-size 1 8"
    request = resolve(make_parser().parse_args([*flags.split(), "--num-iterations", "20"]))
    limits = [
        Generation(1000, 1000)
        .cost(request.model, request.precision_of(request.specs[0]), batch_size)
        .limit(ceilings)["metrics"]["total_s"]
        for batch_size in (1, 8)
    ]
    # 15 s to start, 5 for each cell; 20 timed runs and 3 before them, at 1.4 times the limit
    expected = 15 + 2 * 5 + 23 * 1.4 * sum(limits)
    assert expected_s(request, ceilings) == pytest.approx(expected)
    assert expected_s(request, None) == 15 + 2 * 5 + 23 * 2


def test_what_ended_corrects_what_is_expected():
    clock = Clock()
    assert clock.corrected(100.0) == 100.0
    clock.ended(40.0, 60.0)
    clock.ended(60.0, 190.0)
    assert clock.corrected(100.0) == pytest.approx(250.0)
    assert [about(20), about(120), about(7500), about(7200)] == [
        "under a minute",
        "about 2 min",
        "about 2 h 5 min",
        "about 2 h",
    ]
