"""Whole sessions with scripted times: exact tables, verdicts, warnings and exit codes."""

import pytest
from scripted import OUTPUT, WRONG, make_cell, plan_cell, steady, whole_session

from inference_benchmark.analysis.cold_start import payback_tokens
from inference_benchmark.engines.spec import ModeSpec
from inference_benchmark.reporting.tables import report
from inference_benchmark.session.record import TimedRun
from inference_benchmark.workloads.base import Run

JITTER = (0.0, 0.002, -0.002)


@pytest.fixture
def run(monkeypatch, capsys):
    """run({label: settings of its engine}, *flags) -> (exit code, stdout, result)."""
    session = whole_session(monkeypatch, capsys)

    def run_session(engines, *flags):
        modes = dict.fromkeys(label.split()[0] for label in engines)
        sizes = dict.fromkeys(label.split()[1][1:] for label in engines)
        return session(engines, "--mode", *modes, "--batch-size", *sizes, *flags)

    run_session.session = session

    return run_session


def detailed(result: dict, title: str) -> list[str]:
    return section(report(result, details=True), title)


def section(text: str, title: str) -> list[str]:
    """The lines of one table, without its title."""
    return next(part for part in text.split("\n\n") if part.startswith(title)).splitlines()[1:]


def test_numbers_by_hand(run):
    # 0.1 s to the first token, then 4 steps of 10 ms: 0.14 s for 5 + 1000 tokens
    cells = {"eager b1": {"script": steady(0.1, 0.01)}}
    code, out, result = run(cells, "--num-iterations", "6", "--warmup-iterations", "0")
    assert code == 0
    numbers = section(out, "summary")[2].split()[2:-1]
    assert numbers == ["100.0±0.0", "10.00±0.00", "32%", "35.71"]
    assert detailed(result, "throughput") == [
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
    cells = {
        "inductor b1": {"script": steady(0.1, 0.008, JITTER)},
        "eager b1": {"script": steady(0.1, 0.01, JITTER[::-1])},
    }
    code, out, result = run(cells, "--warmup-iterations", "0")
    assert code == 0
    speedup = result["cells"][0]["speedup"]
    assert speedup["baseline"] == "eager b1"
    assert speedup["metrics"]["tbot_s"]["verdict"] == "faster"
    assert speedup["metrics"]["ttft_s"]["verdict"] == "same"
    low, high = speedup["metrics"]["tbot_s"]["ci95"]
    assert low < 1.25 < high
    assert high - low < 0.01
    assert "1.25x faster" in out
    assert result["cells"][0]["stop_reason"] == "converged"


def test_a_slower_and_an_equal_mode(run):
    cells = {
        "inductor b1": {"script": steady(0.1, 0.0102, JITTER)},
        "thunder b1": {"script": steady(0.1, 0.01, JITTER)},
        "eager b1": {"script": steady(0.1, 0.01, JITTER[::-1])},
    }
    _, out, result = run(cells, "--warmup-iterations", "0")
    speedups = [cell["speedup"] for cell in result["cells"]]
    verdicts = [found and found["metrics"]["tbot_s"]["verdict"] for found in speedups]
    assert verdicts == ["slower", "same", None]
    assert "0.98x slower" in out


def test_a_wrong_output_has_no_speed(run):
    cells = {"inductor b1": {"check": WRONG}, "eager b1": {}}
    code, out, result = run(cells, "--num-iterations", "3", "--warmup-iterations", "0")
    assert code == 1
    row = next(line for line in section(out, "summary") if line.startswith("inductor"))
    assert row.split() == ["inductor", "b1", "-", "-", "-", "-", "WRONG", "OUTPUT"]
    assert "inductor b1: WRONG OUTPUT: decode error 0.5 over 0.03" in out
    assert "inductor" not in "".join(detailed(result, "throughput"))
    assert result["cells"][0]["speedup"] is None
    assert result["cells"][0]["validity"]["verdict"] == "invalid"


def test_a_failed_cell_is_a_row_and_exit_code_1(run):
    cells = {"inductor b1": {"fail_at": 2, "error": ValueError("broke")}, "eager b1": {}}
    code, out, _ = run(cells, "--num-iterations", "3", "--warmup-iterations", "0")
    assert code == 1
    assert "inductor b1: ValueError: broke" in out
    assert "FAILED" in section(out, "summary")[2]


def test_nothing_that_could_be_measured_is_exit_code_3(run):
    cells = {"inductor b1": {"fail_at": 2, "error": ValueError("broke")}}
    code, _, _ = run(cells, "--num-iterations", "3")
    assert code == 3


@pytest.mark.parametrize(("flags", "expected"), [((), 0), (("--strict",), 1)])
def test_strict_wants_valid_results(run, flags, expected):
    cells = {"eager b1": {"script": steady(0.1, 0.01), "check": None}}
    code, out, _ = run(cells, "--num-iterations", "3", "--warmup-iterations", "0", *flags)
    assert code == expected
    assert "SUSPECT" in out
    assert "output not checked: eager b1" in out


def test_an_interrupted_session_exits_130_and_says_so(run):
    cells = {"eager b1": {"fail_at": 5, "error": KeyboardInterrupt()}}
    code, out, result = run(cells, "--num-iterations", "9", "--warmup-iterations", "0")
    assert code == 130
    assert "stopped: interrupted" in out
    assert result["cells"][0]["summary"]["n"] == 3


def test_the_first_slow_run_and_recompilation_are_reasons(run):
    def script():
        yield [0.1] + [0.02] * (OUTPUT - 1)
        yield from steady(0.1, 0.01)

    cells = {"eager b1": {"script": script(), "compile_counts": [1, 4]}}
    _, out, result = run(cells, "--num-iterations", "8", "--warmup-iterations", "0")
    codes = {reason["code"] for reason in result["cells"][0]["validity"]["reasons"]}
    assert {"first_run_slow", "recompiled"} <= codes
    assert "recompil" in out.lower()


def test_operating_points_over_batch_sizes(run):
    cells = {f"eager b{b}": {"script": steady(0.1 * b, 0.01)} for b in (1, 8)}
    _, _, result = run(cells, "--num-iterations", "3", "--warmup-iterations", "0")
    # batch 8: 40 tokens in 0.84 s
    row = detailed(result, "operating points")[3].split()
    assert row[:5] == ["eager", "b8", "47.62", "100", "800.0"]


def test_long_labels_and_large_numbers_stay_within_80_columns(run, monkeypatch):
    monkeypatch.setattr(ModeSpec, "shown_label", "thunder:dynamo,inductor_cat+graphs")
    slow = {"script": steady(12.3456, 1.23456, JITTER)}
    cells = {f"thunder:dynamo,inductor_cat+graphs b{size}": dict(slow) for size in (64, 128)}
    flags = ("--mode", "eager", "--batch-size", "64", "128", "--model-name", "llama3.1-405b")
    _, out, result = run.session(cells, *flags, "--num-iterations", "100")
    for text in (out, report(result, details=True)):
        assert max(map(len, text.splitlines())) <= 80, max(text.splitlines(), key=len)


def test_a_row_is_a_line_where_all_of_it_fits(run, monkeypatch):
    monkeypatch.setattr(ModeSpec, "shown_label", property(lambda spec: f"{spec.name}+gr"))
    cells = {
        f"{mode}+gr b32 {depth}L": {"script": steady(0.0219 * depth, wall * depth, JITTER)}
        for mode, wall in (("inductor", 0.0030), ("eager", 0.0040))
        for depth in (4, 8)
    }
    flags = ("--mode", "inductor", "eager", "--batch-size", "32", "--extrapolate", "4", "8")
    flags += ("--model-name", "llama3.1-8b", "--num-iterations", "99")
    _, out, _ = run.session(cells, *flags, "--warmup-iterations", "0")
    rows = section(out, "summary")[2:8]
    modes = ("inductor+gr", "eager+gr")
    assert [row.split()[:3] for row in rows] == [
        *([mode, "b32", "EST"] for mode in modes),
        *([mode, "b32", depth] for mode in modes for depth in ("4L", "8L")),
    ]


def test_columns_in_which_nothing_is_known_are_left_out(run):
    _, out, result = run({"eager b1": {"script": steady(0.1, 0.01)}}, "--num-iterations", "3")
    header = section(out, "summary")[0].split()
    assert header == ["cell", "TTFT", "TBOT", "limit", "tok/s", "verdict"]
    assert detailed(result, "resources")[0].split() == ["cell", "weights", "KV"]


def test_cells_that_were_interrupted_before_their_first_run_have_no_verdict(run):
    cells = {"eager b1": {"fail_at": 2, "error": KeyboardInterrupt()}}
    code, out, _ = run(cells, "--num-iterations", "3", "--warmup-iterations", "0")
    assert code == 130
    assert section(out, "summary")[2].split() == ["eager", "b1", "no", "runs"]


def slow_start(by: float):
    yield [0.1 * (1 + by), 0.01 * (1 + by)]
    yield from steady(0.1, 0.01)


def test_a_remedy_is_said_once(run):
    slow_starts = (("inductor", 0.9), ("eager", 0.5))
    cells = {f"{m} b1": {"script": slow_start(by)} for m, by in slow_starts}
    _, out, _ = run(cells, "--num-iterations", "8", "--warmup-iterations", "0")
    assert out.count("of the first run is") == 2
    assert out.count("Raise --warmup-iterations.") == 1


def test_a_cold_start_is_won_back_by_faster_tokens():
    """In output tokens, from all that comes before the first run but the weights."""
    cells = []
    for name, step_s, cold_start in (
        ("inductor", 0.008, {"compile_prefill_s": 2.0, "compile_decode_s": 1.0, "setup_s": 0.5}),
        ("eager", 0.010, {"compile_prefill_s": 0.5}),
    ):
        cell = make_cell(plan_cell(name))
        cell.record.timed_runs = [TimedRun(0, "", Run([0.1] + [step_s] * 4, 0.1), ())]
        cell.record.cold_start |= {"build_s": 9.0, **cold_start}
        cells.append(cell)
    assert payback_tokens(cells[0], cells) == pytest.approx(3.0 / 0.002)
    assert payback_tokens(cells[1], cells) is None
