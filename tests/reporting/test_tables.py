"""Whole sessions with scripted times: exact tables, verdicts, warnings and exit codes."""

import pytest
from scripted import OUTPUT, make_cell, steady, whole_session

from inference_benchmark.reporting.reading import to_version_2
from inference_benchmark.reporting.tables import report

JITTER = (0.0, 0.002, -0.002)


@pytest.fixture
def run(monkeypatch, capsys):
    """run(cells, *flags) -> (exit code, stdout, result)."""
    session = whole_session(monkeypatch, capsys)

    def run_session(cells, *flags):
        code, out, result = session(cells, *flags)
        return code, out, to_version_2(result)

    return run_session


def detailed(result: dict, title: str) -> list[str]:
    return section(report(result, details=True), title)


def section(text: str, title: str) -> list[str]:
    """The lines of one table, without its title."""
    return next(part for part in text.split("\n\n") if part.startswith(title)).splitlines()[1:]


def test_numbers_by_hand(run):
    # 0.1 s to the first token, then 4 steps of 10 ms: 0.14 s for 5 + 1000 tokens
    cells = [make_cell(script=steady(0.1, 0.01))]
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
    cells = [
        make_cell("inductor", script=steady(0.1, 0.008, JITTER)),
        make_cell("eager", script=steady(0.1, 0.01, JITTER[::-1])),
    ]
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
    cells = [
        make_cell("inductor", script=steady(0.1, 0.0102, JITTER)),
        make_cell("thunder", script=steady(0.1, 0.01, JITTER)),
        make_cell("eager", script=steady(0.1, 0.01, JITTER[::-1])),
    ]
    _, out, result = run(cells, "--warmup-iterations", "0")
    speedups = [cell["speedup"] for cell in result["cells"]]
    verdicts = [found and found["metrics"]["tbot_s"]["verdict"] for found in speedups]
    assert verdicts == ["slower", "same", None]
    assert "0.98x slower" in out


def test_a_wrong_output_has_no_speed(run):
    cells = [make_cell("thunder"), make_cell("eager")]
    cells[0].agreement = {"passed": False, "failures": ["decode error 0.5 over 0.03"]}
    cells[0].status = "wrong_output"
    code, out, result = run(cells, "--num-iterations", "3", "--warmup-iterations", "0")
    assert code == 1
    row = next(line for line in section(out, "summary") if line.startswith("thunder"))
    assert row.split() == ["thunder", "b1", "-", "-", "-", "-", "WRONG", "OUTPUT"]
    assert "thunder b1: WRONG OUTPUT: decode error 0.5 over 0.03" in out
    assert "thunder" not in "".join(detailed(result, "throughput"))
    assert result["cells"][0]["speedup"] is None
    assert result["cells"][0]["validity"]["verdict"] == "invalid"


def test_a_failed_cell_is_a_row_and_exit_code_1(run):
    cells = [make_cell("thunder", fail_at=1, error=ValueError("broke")), make_cell("eager")]
    code, out, _ = run(cells, "--num-iterations", "3", "--warmup-iterations", "0")
    assert code == 1
    assert "thunder b1: ValueError: broke" in out
    assert "FAILED" in section(out, "summary")[2]


def test_nothing_that_could_be_measured_is_exit_code_3(run):
    cells = [make_cell("thunder", fail_at=1, error=ValueError("broke"))]
    code, _, _ = run(cells, "--num-iterations", "3")
    assert code == 3


@pytest.mark.parametrize(("flags", "expected"), [((), 0), (("--strict",), 1)])
def test_strict_wants_valid_results(run, flags, expected):
    cells = [make_cell(script=steady(0.1, 0.01))]
    cells[0].agreement = None  # not checked
    code, out, _ = run(cells, "--num-iterations", "3", "--warmup-iterations", "0", *flags)
    assert code == expected
    assert "SUSPECT" in out
    assert "output not checked: eager b1" in out


def test_an_interrupted_session_exits_130_and_says_so(run):
    cells = [make_cell(fail_at=4, error=KeyboardInterrupt())]
    code, out, result = run(cells, "--num-iterations", "9", "--warmup-iterations", "0")
    assert code == 130
    assert "stopped: interrupted" in out
    assert result["cells"][0]["summary"]["n"] == 3


def test_the_first_slow_run_and_recompilation_are_reasons(run):
    def script():
        yield [0.1] + [0.02] * (OUTPUT - 1)
        yield from steady(0.1, 0.01)

    cells = [make_cell(script=script(), counts=[1, 4])]
    _, out, result = run(cells, "--num-iterations", "8", "--warmup-iterations", "0")
    codes = {reason["code"] for reason in result["cells"][0]["validity"]["reasons"]}
    assert {"first_run_slow", "recompiled"} <= codes
    assert "recompil" in out.lower()


def test_operating_points_over_batch_sizes(run):
    cells = [make_cell(batch_size=b, script=steady(0.1 * b, 0.01)) for b in (1, 8)]
    _, _, result = run(cells, "--num-iterations", "3", "--warmup-iterations", "0")
    # batch 8: 40 tokens in 0.84 s
    row = detailed(result, "operating points")[3].split()
    assert row[:5] == ["eager", "b8", "47.62", "100", "800.0"]


def test_long_labels_and_large_numbers_stay_within_80_columns(run):
    spec = "thunder:dynamo,inductor_cat+graphs"
    cells = [make_cell(batch_size=64, script=steady(12.3456, 1.23456, JITTER)) for _ in range(2)]
    for cell in cells:
        cell.mode_label = spec
        cell.memory |= dict.fromkeys(cell.memory, 123_456_789_012)
    _, out, result = run(cells, "--num-iterations", "100", "--warmup-iterations", "1")
    for text in (out, report(result, details=True)):
        assert max(map(len, text.splitlines())) <= 80, max(text.splitlines(), key=len)


def test_a_row_is_a_line_where_all_of_it_fits(run):
    cells = []
    for mode, wall in (("inductor+graphs", 0.00398), ("eager+graphs", 0.004)):
        for depth in (4, 8):
            cells.append(make_cell(script=steady(0.0219, wall, JITTER), num_layers=depth))
            cells[-1].mode_label, cells[-1].batch_size = mode, 32
    _, out, _ = run(cells, "--num-iterations", "99", "--warmup-iterations", "0")
    rows = section(out, "summary")[2 : 2 + len(cells)]
    assert [row.split()[:3] for row in rows] == [
        [mode, "b32", depth]
        for mode in ("inductor+graphs", "eager+graphs")
        for depth in ("4L", "8L")
    ]


def test_columns_in_which_nothing_is_known_are_left_out(run):
    _, out, result = run([make_cell(script=steady(0.1, 0.01))], "--num-iterations", "3")
    header = section(out, "summary")[0].split()
    assert header == ["cell", "TTFT", "TBOT", "limit", "tok/s", "verdict"]
    assert detailed(result, "resources")[0].split() == ["cell", "weights", "KV"]


def test_cells_that_were_interrupted_before_their_first_run_have_no_verdict(run):
    cells = [make_cell(fail_at=1, error=KeyboardInterrupt())]
    code, out, _ = run(cells, "--num-iterations", "3", "--warmup-iterations", "0")
    assert code == 130
    assert section(out, "summary")[2].split() == ["eager", "b1", "no", "runs"]


def test_a_remedy_is_said_once(run):
    slow_starts = (("thunder", 0.9), ("eager", 0.5))
    cells = [make_cell(m, script=steady(0.1, 0.01, (by, *[0.0] * 7))) for m, by in slow_starts]
    _, out, _ = run(cells, "--num-iterations", "8", "--warmup-iterations", "0")
    assert out.count("of the first run is") == 2
    assert out.count("Raise --warmup-iterations.") == 1


def test_a_cold_start_is_won_back_by_faster_tokens(run):
    cells = [
        make_cell("inductor", script=steady(0.1, 0.008)),
        make_cell("eager", script=steady(0.1, 0.010)),
    ]
    cells[0].cold_start |= {"compile_prefill_s": 2.0, "compile_decode_s": 1.0, "setup_s": 0.5}
    cells[1].cold_start |= {"compile_prefill_s": 0.5}
    _, _, result = run(cells, "--num-iterations", "3", "--warmup-iterations", "0")
    found = [cell["cold_start"]["payback_tokens"] for cell in result["cells"]]
    assert found == [pytest.approx(3.0 / 0.002), None]
