"""The gates of compare_results.py on published sessions, with a fault planted in copies of them."""

import copy
import json

import pytest
from comparing import run
from conftest import PUBLISHED

SESSIONS = [path for path in PUBLISHED if path.parent.name == "three_sessions"]
SLOWED = "inductor+graphs+kernels b1"  # as it is called today; the files say inductor+graphs
GATE = "--fail-on-regression"


def load(index: int) -> dict:
    """A published session as one of its own: sessions of one set count as one side."""
    return json.loads(SESSIONS[index].read_text()) | {"session_set": None}


def slowed(result: dict) -> dict:
    """Decode steps of one cell take 20 % longer."""
    result = copy.deepcopy(result)
    samples = cell_of(result)["samples"]
    for name in samples["metrics"].keys() & {"tbot_s", "decode_s", "total_s"}:
        samples["metrics"][name] = [1.2 * time for time in samples["metrics"][name]]
    samples["steps"]["step_s"] = [
        [1.2 * time for time in run] for run in samples["steps"]["step_s"]
    ]
    return result


def thinned(result: dict) -> dict:
    """That cell is not there."""
    return result | {"cells": [cell for cell in result["cells"] if cell is not cell_of(result)]}


def cell_of(result: dict) -> dict:
    return next(cell for cell in result["cells"] if cell["label"] == "inductor+graphs b1")


@pytest.fixture
def save(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(name: str, result: dict) -> str:
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
        return f"{name}.json"

    return write


def test_a_planted_slowdown_is_found_between_three_sessions_a_side(save):
    before = [save(f"before{i}", load(i)) for i in range(3)]
    after = [save(f"after{i}", slowed(load(i))) for i in range(3)]
    code, out, err = run("--before", *before, "--after", *after, GATE)
    assert code == 1
    assert err.splitlines()[0] == (
        f"regression: {SLOWED} (after0.json, after1.json, after2.json): "
        f"tbot_s is 0.833 x the speed of {SLOWED}"
    )
    assert all(line.startswith(f"regression: {SLOWED} (after0") for line in err.splitlines())
    assert run("--before", *after, "--after", *before, GATE)[0] == 0  # it became faster


def test_a_planted_slowdown_is_found_between_one_session_a_side_and_in_the_last_of_three(save):
    first, second, slow = save("a", load(0)), save("b", load(1)), save("c", slowed(load(2)))
    for files in ((first, slow), (first, second, slow)):
        code, _, err = run(*files, GATE)
        assert code == 1
        assert f"regression: {SLOWED} (c.json): tbot_s is 0.835 x the speed" in err
        assert "(b.json)" not in err
    assert run(first, slow)[0] == 0  # without the gate
    assert run(first, slow, GATE, "--threshold", "0.3")[::2] == (0, "")


def test_a_cell_that_is_missing(save):
    before, after = save("before", load(0)), save("after", thinned(load(1)))
    line = f"missing: {SLOWED} (after.json): was measured in before.json, and is missing here\n"
    assert run(before, after, GATE)[::2] == (1, line)
    assert run(before, after, "--fail-on-missing")[::2] == (1, line)
    assert run(before, after, GATE, "--no-fail-on-missing")[::2] == (0, "")
    assert run(before, after)[::2] == (0, "")
    assert run(after, before, GATE)[::2] == (0, "")  # a cell that is new


def test_what_one_session_a_side_cannot_tell(save):
    """Two equal sessions, whose deviation from each other has to be assumed."""
    files = save("before", load(0)), save("after", load(1))
    assert run(*files, GATE)[0] == 0
    code, _, err = run(*files, "--fail-on-inconclusive")
    assert code == 1
    lines = err.splitlines()
    assert all(line.startswith("inconclusive: ") for line in lines)
    assert f"inconclusive: {SLOWED} (after.json): ttft_s" in lines


def test_the_same_result_twice_regresses_nowhere(save):
    assert run(save("a", load(0)), save("b", load(0)), GATE, "--fail-on-missing")[::2] == (0, "")
