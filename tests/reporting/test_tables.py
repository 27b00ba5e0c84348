"""Whole sessions with scripted times: exact tables, verdicts, warnings and exit codes."""

import csv
import io
import json

import pytest
from scripted import WRONG, steady, whole_session

JITTER = (0.0, 0.002, -0.002)
COMPARED = ("--mode", "inductor", "eager", "--warmup-iterations", "0")
THREE_RUNS = ("--num-iterations", "3", "--warmup-iterations", "0")


@pytest.fixture
def run(monkeypatch, capsys):
    """run({label: settings of its engine}, *flags) -> (exit code, stdout with details, result)."""
    session = whole_session(monkeypatch, capsys)
    return lambda engines, *flags: session(engines, "--details", *flags)


def section(text: str, title: str) -> list[str]:
    """The lines of one table, without its title."""
    return next(part for part in text.split("\n\n") if part.startswith(title)).splitlines()[1:]


def of_cell(result: dict, label: str) -> dict:
    (cell,) = [cell for cell in result["cells"] if cell["label"] == label]
    return cell


def verdict_of(cell: dict) -> str | None:
    return cell["speedup"] and cell["speedup"]["metrics"]["tbot_s"]["verdict"]


def scripted(ttft_s: float, tbot_s: float, jitter=(0.0,)) -> dict:
    return {"script": steady(ttft_s, tbot_s, jitter)}


def test_numbers_by_hand(run):
    # 0.1 s to the first token, then 4 steps of 10 ms: 0.14 s for 5 + 1000 tokens
    flags = ("--model-name", "llama3.1-8b", "--num-iterations", "6", "--warmup-iterations", "0")
    code, out, result = run({"eager b1": scripted(0.1, 0.01)}, *flags)
    assert code == 0
    numbers = section(out, "summary")[2].split()[2:-1]
    assert numbers == ["100.0±0.0", "10.00±0.00", "32%", "35.71"]
    assert section(out, "throughput") == [
        "cell      overall  output  prefill  decode  per user  ms/token",
        "--------  -------  ------  -------  ------  --------  --------",
        "eager b1    7,179   35.71   10,000     100       100     28.00",
    ]
    (cell,) = result["cells"]
    # 14.22 TFLOP over 989 TFLOP/s; 15.01 GB of weights and 1002.5 tokens of KV over 4.8 TB/s
    limit = cell["limit"]["metrics"]
    assert limit["ttft_s"] == pytest.approx(14.224e12 / 989e12, rel=1e-3)
    assert limit["tbot_s"] == pytest.approx((15.0098e9 + 1002.5 * 131072) / 4.8e12, rel=1e-4)
    assert cell["summary"]["mbu"] == pytest.approx(0.315, rel=1e-2)
    assert cell["summary"]["metrics"]["tbot_s"]["median_ci95"] == pytest.approx([0.01, 0.01])


def test_a_faster_mode_is_called_faster_with_its_interval(run):
    engines = {
        "inductor b1": scripted(0.1, 0.008, JITTER),
        "eager b1": scripted(0.1, 0.01, JITTER[::-1]),
    }
    code, out, result = run(engines, *COMPARED)
    assert code == 0
    cell = of_cell(result, "inductor b1")
    assert cell["speedup"]["baseline"] == "eager b1"
    assert verdict_of(cell) == "faster"
    assert cell["speedup"]["metrics"]["ttft_s"]["verdict"] == "same"
    low, high = cell["speedup"]["metrics"]["tbot_s"]["ci95"]
    assert low < 1.25 < high
    assert high - low < 0.01
    assert "1.25x faster" in out
    assert cell["stop_reason"] == "converged"


def test_a_slower_and_an_equal_mode(run):
    engines = {
        "inductor b1": scripted(0.1, 0.0102, JITTER),
        "thunder:sdpa b1": scripted(0.1, 0.01, JITTER),
        "eager b1": scripted(0.1, 0.01, JITTER[::-1]),
    }
    flags = ("--mode", "inductor", "thunder:sdpa", "eager", "--warmup-iterations", "0")
    _, out, result = run(engines, *flags)
    assert {cell["label"]: verdict_of(cell) for cell in result["cells"]} == {
        "inductor b1": "slower",
        "thunder:sdpa b1": "same",
        "eager b1": None,
    }
    assert "0.98x slower" in out


def test_a_wrong_output_has_no_speed(run):
    code, out, result = run(
        {"inductor b1": {"check": WRONG}}, "--mode", "inductor", "eager", *THREE_RUNS
    )
    assert code == 1
    row = next(line for line in section(out, "summary") if line.startswith("inductor"))
    assert row.split() == ["inductor", "b1", "-", "-", "-", "-", "WRONG", "OUTPUT"]
    assert "inductor b1: WRONG OUTPUT: decode error 0.5 over 0.03" in out
    assert "inductor" not in "".join(section(out, "throughput"))
    cell = of_cell(result, "inductor b1")
    assert (cell["summary"], cell["speedup"]) == (None, None)
    assert cell["validity"]["verdict"] == "invalid"


def test_a_failed_cell_is_a_row_and_exit_code_1(run):
    engines = {"inductor b1": {"fail_at": 2, "error": ValueError("broke")}}
    code, out, _ = run(engines, "--mode", "inductor", "eager", *THREE_RUNS)
    assert code == 1
    assert "inductor b1: ValueError: broke" in out
    row = next(line for line in section(out, "summary") if line.startswith("inductor"))
    assert row.endswith("FAILED")


def test_nothing_that_could_be_measured_is_exit_code_3(run):
    code, _, _ = run({"eager b1": {"fail_at": 1, "error": ValueError("broke")}}, *THREE_RUNS)
    assert code == 3


@pytest.mark.parametrize(("flags", "expected"), [((), 0), (("--strict",), 1)])
def test_strict_wants_valid_results(run, flags, expected):
    rising = {"script": iter([[0.1 * (1 + 0.05 * number), 0.01] for number in range(99)])}
    runs = ("--num-iterations", "12", "--warmup-iterations", "0")
    code, out, _ = run({"eager b1": rising}, *runs, *flags)
    assert code == expected
    assert section(out, "summary")[2].endswith("SUSPECT")


def test_an_interrupted_session_exits_130_and_says_so(run):
    engines = {"eager b1": {"fail_at": 6, "error": KeyboardInterrupt()}}
    code, out, result = run(engines, "--num-iterations", "9", "--warmup-iterations", "0")
    assert code == 130
    assert "stopped: interrupted" in out
    assert 0 < result["cells"][0]["summary"]["n"] < 9


def test_a_slow_first_run_is_a_reason_with_its_remedy_once(run):
    engines = {
        f"{mode} b1": scripted(0.1, 0.01, (by, *[0.0] * 7))
        for mode, by in (("inductor", 0.9), ("eager", 0.5))
    }
    _, out, _ = run(engines, *COMPARED, "--num-iterations", "8")
    assert out.count("of the first run is") == 2
    assert out.count("Raise --warmup-iterations.") == 1


def test_operating_points_over_batch_sizes(run):
    engines = {f"eager b{size}": scripted(0.1 * size, 0.01) for size in (1, 8)}
    _, out, _ = run(engines, "--batch-size", "1", "8", *THREE_RUNS)
    # batch 8: 40 tokens in 0.84 s
    row = section(out, "operating points")[3].split()
    assert row[:5] == ["eager", "b8", "47.62", "100", "800.0"]


def test_large_numbers_stay_within_80_columns(run):
    engines = {f"{mode} b64": scripted(12.3456, 1.23456, JITTER) for mode in ("inductor", "eager")}
    _, out, _ = run(engines, *COMPARED, "--num-iterations", "100", "--batch-size", "64")
    assert max(map(len, out.splitlines())) <= 80, max(out.splitlines(), key=len)


def test_columns_in_which_nothing_is_known_are_left_out(run):
    _, out, _ = run({}, *THREE_RUNS)
    header = section(out, "summary")[0].split()
    assert header == ["cell", "TTFT", "TBOT", "limit", "tok/s", "verdict"]
    assert section(out, "resources")[0].split() == ["cell", "weights", "KV"]


def test_cells_that_were_interrupted_before_their_first_run_have_no_verdict(run):
    engines = {"eager b1": {"fail_at": 2, "error": KeyboardInterrupt()}}
    code, out, _ = run(engines, *THREE_RUNS)
    assert code == 130
    assert section(out, "summary")[2].split() == ["eager", "b1", "no", "runs"]


def test_what_a_program_asked_for_stands_alone_on_stdout(run):
    table = run({}, *THREE_RUNS)[1]
    assert "\nsummary (medians" in table
    (row,) = csv.DictReader(io.StringIO(run({}, *THREE_RUNS, "--format", "csv")[1]))
    assert (row["cell"], row["runs"]) == ("eager b1", "3")
    code, out, result = run({}, *THREE_RUNS, "--format", "json")
    assert (code, json.loads(out)["cells"]) == (0, result["cells"])
    out = run({}, *THREE_RUNS, "--format", "markdown")[1]
    assert "| eager b1 | 100.0±" in out
