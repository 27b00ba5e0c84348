"""--cache-state, with a stand-in for the benchmark that fills a cache as a compiler does."""

import json
import sys

import pytest
from fake_results import fake_cell, save

from inference_benchmark.command.cache_states import (
    VARIABLE,
    current_cache_state,
    run_cache_states,
)
from inference_benchmark.errors import RequestError

# Takes 20 s to compile what is not in its cache, 2 s otherwise. Imports next to nothing.
STAND_IN = """
import json, os, sys
from pathlib import Path

prepared, folder, *arguments = sys.argv[1:]
compiled = [Path(os.environ[name], "kernel") for name in
            ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")]
known = sum(path.exists() for path in compiled)
for path in compiled:
    path.parent.mkdir(exist_ok=True)
    path.touch()
state = os.environ.get("BENCHMARK_CACHE_STATE")
print("session", state, known, *arguments, flush=True)
result = json.loads(Path(prepared).read_text())
(cell,) = result["cells"]
cell["cold_start"] |= {"setup_s": 1.0, "compile_prefill_s": 2.0 if known else 20.0,
                       "compile_decode_s": None, "capture_s": 0.0, "build_s": 5.0}
cell["options"]["compiler"] = {"disk_cache_hits": 3 * known, "disk_cache_misses": 6 - 3 * known}
result["config"]["cache_state"] = state
if state:
    name = arguments[arguments.index("--output") + 1] if "--output" in arguments else (
        folder + "/" + state + ".json")
    Path(name).write_text(json.dumps(result))
sys.exit(int(os.environ.get("CODE", 0)))
"""


@pytest.fixture
def run(tmp_path, capfd):
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    prepared = save(tmp_path / "prepared", fake_cell("inductor"))
    out = tmp_path / "out"
    out.mkdir()
    program = [sys.executable, str(script), prepared, str(out)]

    def run(states, *arguments, **options):
        words = ["--mode", "inductor", "--cache-state", *states, *arguments]
        code = run_cache_states(words, states, out, quiet=True, program=program, **options)
        return code, capfd.readouterr().out

    return run


def test_the_second_session_finds_what_the_first_has_compiled(run):
    code, out = run(["warm", "cold"], "--num-iterations", "5")
    assert code == 0
    sessions = [line.split() for line in out.splitlines() if line.startswith("session")]
    arguments = ["--mode", "inductor", "--num-iterations", "5", "--save-results"]
    assert sessions == [["session", "cold", "0", *arguments], ["session", "warm", "2", *arguments]]
    (every,) = [line.split() for line in out.splitlines() if " all " in line]
    # the weights' 5 s are not the mode's: 1 + 20 and 1 + 2
    assert every == ["inductor", "b1", "all", "21.00", "3.00", "18.00", "(86%)", "6", "of", "6"]


def test_for_the_warm_one_alone_the_cache_is_filled_unseen(run):
    code, out = run(["warm"], "--num-iterations", "5", "--save-results")
    assert code == 0
    assert out.count("session") == 1
    assert "session warm 2 --mode inductor --num-iterations 5 --save-results" in out
    (row,) = [line.split() for line in out.splitlines() if "prefill" in line]
    assert row[-3:] == ["-", "2.00", "-"]


def test_a_named_file_gets_the_state(run, tmp_path):
    path = tmp_path / "a.json"
    code, _ = run(["cold", "warm"], "--output", str(path), output=path)
    assert code == 0
    states = {
        name: json.loads((tmp_path / name).read_text())["config"]["cache_state"]
        for name in ("a-cold.json", "a-warm.json")
    }
    assert states == {"a-cold.json": "cold", "a-warm.json": "warm"}
    assert not path.exists()


def test_one_page_shows_both(run, tmp_path):
    code, out = run(["cold", "warm"], "--report", report=True)
    assert code == 0
    assert "--report" not in out
    (page,) = (tmp_path / "out").glob("*.html")
    assert "inductor b1 cold: " in page.read_text()
    assert "inductor b1 warm: " in page.read_text()


def test_what_can_not_run_is_not_tried_again(run, monkeypatch):
    monkeypatch.setenv("CODE", "3")
    code, out = run(["cold", "warm"])
    assert (code, out.count("session")) == (3, 1)


def test_the_result_says_its_state(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert current_cache_state() is None
    monkeypatch.setenv(VARIABLE, "warm")
    assert current_cache_state() == "warm"
    monkeypatch.setenv(VARIABLE, "tepid")
    with pytest.raises(RequestError, match="cold or warm"):
        current_cache_state()
