"""Sessions with --extrapolate: exact estimates of scripted times, their labels, and what has none."""

import json

import jsonschema
import pytest
from conftest import ROOT
from inference_benchmark.workloads.metrics import Work
from scripted import INPUT, OUTPUT, make_cell, steady, whole_session

from inference_benchmark import compare_results
from inference_benchmark.models import MODELS, Precision
from inference_benchmark.reporting import readme
from inference_benchmark.reporting.card import card
from inference_benchmark.reporting.saving import file_name
from inference_benchmark.reporting.tables import summary_table
from inference_benchmark.system.memory import largest_fit, predict

SCHEMA = json.loads((ROOT / "inference_benchmark" / "reporting" / "result.schema.json").read_text())
LLAMA = MODELS["llama3.1-8b"]
BF16 = Precision.of("bf16")
FLAGS = ("--model-name", "llama3.1-8b", "--extrapolate", "4", "8")
FLAGS += ("--num-iterations", "8", "--warmup-iterations", "0")
JITTER = (0.0, 0.002, -0.002)


@pytest.fixture
def run(monkeypatch, capsys):
    """run(cells, *flags) of a session that extrapolates -> (exit code, stdout, valid result)."""
    start = whole_session(monkeypatch, capsys)

    def run_and_validate(cells, *flags):
        code, out, result = start(cells, *FLAGS, *flags)
        jsonschema.Draft202012Validator(SCHEMA).validate(result)
        assert max(map(len, out.splitlines())) <= 80, max(out.splitlines(), key=len)
        return code, out, result

    return run_and_validate


def depths(name="eager", layer_s=0.001, jitter=(0.0,), **settings):
    """Two cells: 20 ms + 2 layers' time to the first token, 1 ms + a layer's time for each step."""
    return [
        make_cell(
            name,
            script=steady(0.020 + 2 * count * layer_s, 0.001 + count * layer_s, jitter),
            num_layers=count,
            **settings,
        )
        for count in (4, 8)
    ]


def estimate_in(result, mode="eager") -> dict:
    (found,) = [c for c in result["cells"] if c["estimated"] and c["mode"] == mode]
    return found


def test_times_on_a_straight_line_are_met_exactly(run):
    code, _, result = run(depths())
    assert code == 0
    cell = result["cells"][0]
    assert (cell["label"], cell["estimated"]) == ("eager b1 EST", True)
    assert cell["extrapolation"] == {"from_layers": [4, 8], "to_layers": 32, "weight": 7.0}
    ttft, tbot = cell["summary"]["ttft_s"], cell["summary"]["tbot_s"]
    assert ttft["median_ci95"] == pytest.approx([0.020 + 32 * 0.002] * 2)
    assert tbot["median_ci95"] == pytest.approx([0.001 + 32 * 0.001] * 2)
    assert (ttft["n"], cell["samples"]["round"]) == (8, list(range(8)))
    assert tbot["mean_ci95"] == pytest.approx([tbot["median"]] * 2)


def test_an_estimate_has_the_full_models_work_and_nothing_that_only_a_run_can_show(run):
    _, _, result = run(depths())
    cell, *measured = result["cells"]
    work = Work.of(LLAMA, BF16, 1, INPUT, OUTPUT)
    assert cell["prefill_flops"] == work.prefill_flops
    assert cell["decode_bytes_per_step"] == work.decode_bytes
    assert cell["summary"]["mbu"] == pytest.approx(work.decode_bytes / 0.033 / 4.8e12)
    assert cell["limit"]["tbot_s"] == pytest.approx(work.decode_bytes / 4.8e12)
    assert cell["memory"]["weights_bytes"] == LLAMA.weight_bytes(BF16)
    assert cell["memory"]["kv_cache_bytes"] == LLAMA.kv_cache_bytes(BF16, 1, INPUT + OUTPUT)
    known = {name for name, value in cell["memory"].items() if value is not None}
    assert known == {"weights_bytes", "kv_cache_bytes"}
    unknown = ("cold_start", "gpu_state", "host", "profile", "agreement")
    assert all(cell[name] is None for name in unknown)
    assert cell["summary"]["energy_per_token_j"] is None
    assert set(cell["summary"]["step_s"].values()) == {None}
    assert (cell["samples"]["step_s"], cell["samples"]["started"]) == ([], [])
    assert [each["num_layers"] for each in result["cells"]] == [32, 4, 8]
    assert all(not each["estimated"] and each["extrapolation"] is None for each in measured)
    shallow = Work.of(LLAMA.with_layers(4), BF16, 1, INPUT, OUTPUT)
    assert measured[0]["decode_bytes_per_step"] == shallow.decode_bytes
    assert measured[0]["memory"]["weights_bytes"] == LLAMA.with_layers(4).weight_bytes(BF16)
    assert (result["config"]["num_layers"], result["config"]["extrapolated_from"]) == (32, [4, 8])
    assert result["model"]["parameters"] == LLAMA.parameters


def test_it_is_called_an_estimate_wherever_it_stands(run):
    _, out, result = run(depths())
    assert out.startswith("llama3.1-8b, ESTIMATED from 4 and 8 of 32 layers, own lengths")
    first_row = out.split("summary (medians")[1].splitlines()[3]
    assert first_row.startswith("eager b1 EST")
    assert first_row.split()[-1] == "SUSPECT"  # on a CPU
    for cell in result["cells"]:
        cell["validity"] = {"verdict": "valid", "reasons": []}
    assert summary_table(result).splitlines()[3].split()[-1] == "ESTIMATE"
    assert "latency of eager b1 EST" in out
    notes = " ".join(out.split())
    assert "EST: estimated from 4 and 8 of 32 layers (4L, 8L), round by round: t(4) + 7 x" in notes
    assert "run-to-run noise, not departures from that straight line" in notes
    assert file_name(result).startswith("llama3.1-8b-est4-8_1000x5_eager_cpu_")
    assert [readme._measured_row(result, cell)[0] for cell in result["cells"]] == [
        "llama3.1-8b [ESTIMATE from 4 and 8 of 32 layers]",
        "llama3.1-8b [4 of 32 layers]",
        "llama3.1-8b [8 of 32 layers]",
    ]
    text = card(result, None, None)
    assert "TO BE ESTIMATED FROM 4 AND 8 OF 32 LAYERS" in " ".join(text.split())
    assert "8 layers, 5.59 GB" in text
    assert "limit b1 8L" in text


def test_estimates_are_compared_with_each_other_round_by_round(run):
    cells = depths("inductor", 0.0008, JITTER) + depths("eager", 0.001, JITTER[::-1])
    _, out, result = run(cells)
    speedup = estimate_in(result, "inductor")["speedup"]
    assert speedup["baseline"] == "eager b1 EST"
    assert speedup["tbot"]["ratio"] == pytest.approx(33 / 26.6, rel=0.01)
    assert speedup["tbot"]["verdict"] == "faster"
    assert "1.24x faster" in out
    baselines = [cell["speedup"] and cell["speedup"]["baseline"] for cell in result["cells"]]
    assert baselines[2:] == ["eager b1 4L", "eager b1 8L", None, None]


def test_no_depth_wins_back_its_cold_start(run):
    """The second of them may have used what was compiled for the first."""
    cells = depths("inductor", 0.0008) + depths()
    cells[0].cold_start["compile_prefill_s"] = 2.0
    _, _, result = run(cells)
    measured = [cell for cell in result["cells"] if not cell["estimated"]]
    assert [cell["cold_start"]["payback_tokens"] for cell in measured] == [None] * 4


def test_batch_sizes_have_an_estimate_each(run):
    cells = depths(batch_size=1) + depths(batch_size=8)
    _, _, result = run(cells, "--batch-size", "1", "8")
    labels = [cell["label"] for cell in result["cells"] if cell["estimated"]]
    assert labels == ["eager b1 EST", "eager b8 EST"]


@pytest.mark.parametrize("which", [0, 1])
def test_a_wrong_output_at_either_depth_leaves_no_estimate(run, which):
    cells = depths()
    cells[which].agreement = {"passed": False, "failures": ["decode error 0.5 over 0.03"]}
    cells[which].status = "wrong_output"
    code, out, result = run(cells)
    assert code == 1
    assert not any(cell["estimated"] for cell in result["cells"])
    assert out.startswith("llama3.1-8b [4 and 8 of 32 layers], own lengths")
    assert "eager b1: no estimate, which takes sound runs of both depths" in out
    assert "EST" not in out


def test_a_wrong_output_stays_wrong_when_the_session_is_interrupted(run):
    cells = depths()
    cells[0].agreement = {"passed": False, "failures": ["decode error 0.5 over 0.03"]}
    cells[0].status = "wrong_output"
    cells[1].engine._fail_at, cells[1].engine._error = 4, KeyboardInterrupt()
    code, _, result = run(cells)
    assert code == 130
    assert [cell["status"] for cell in result["cells"]] == ["wrong_output", "partial"]
    assert not any(cell["estimated"] for cell in result["cells"])


def test_a_depth_that_fails_leaves_no_estimate_of_its_mode_alone(run):
    cells = depths("inductor", fail_at=3, error=ValueError("broke")) + depths()
    code, out, result = run(cells)
    assert code == 1
    assert [cell["mode"] for cell in result["cells"] if cell["estimated"]] == ["eager"]
    assert "inductor b1: no estimate" in out


def test_an_interrupted_round_counts_for_nothing(run):
    cells = depths()
    cells[1].engine._fail_at, cells[1].engine._error = 4, KeyboardInterrupt()
    code, _, result = run(cells)
    assert code == 130
    assert [len(cell["samples"]["ttft_s"]) for cell in result["cells"]] == [3, 3, 3]
    assert estimate_in(result)["status"] == "partial"


def test_noise_that_leaves_the_full_model_no_time_is_no_estimate(run):
    cells = [
        make_cell(script=steady(0.1, 0.010), num_layers=4),
        make_cell(script=steady(0.1, 0.008), num_layers=8),
    ]
    code, out, result = run(cells)
    assert code == 1
    cell = estimate_in(result)
    assert (cell["status"], cell["samples"]["ttft_s"]) == ("failed", [])
    assert "no estimate: in some round" in out
    assert "FAILED" in out.split("throughput")[0]


def test_an_estimate_is_as_good_as_its_sources_and_its_own_times(run):
    def rising(count):
        for number in range(100):
            yield from [[0.1 + count * 0.001 * (1 + 0.02 * number)] + [0.001 * count] * 4]

    cells = [make_cell(script=rising(count), num_layers=count) for count in (4, 8)]
    cells[0].compile_counts = [0]
    cells[0].engine.mode._counts = iter([0, 2])
    _, _, result = run(cells)
    estimate, small, large = (
        {reason["code"] for reason in cell["validity"]["reasons"]} for cell in result["cells"]
    )
    assert "recompiled" in small
    assert "recompiled" not in large
    assert {"recompiled", "cpu_smoke"} <= estimate
    assert "drift" in estimate - small - large
    reasons = result["cells"][0]["validity"]["reasons"]
    assert len(reasons) == len({tuple(reason.values()) for reason in reasons})


# Memory


def test_the_deepest_one_is_built_and_every_depth_has_caches():
    small, large = LLAMA.with_layers(4), LLAMA.with_layers(8)
    need = predict([(small, BF16, 2), (large, BF16, 2)], 1000, 24)
    assert need.weights == large.weight_bytes(BF16)
    assert need.kv_cache == 2 * 1024 * 4096 * (4 + 8 + 8)  # the last for the reference


def test_each_cell_that_quantises_has_quantised_weights_of_its_own():
    small, large = LLAMA.with_layers(4), LLAMA.with_layers(8)
    fp8 = Precision.of("bf16", "fp8")
    cells = [(model, precision, 1) for model in (small, large) for precision in (fp8, BF16)]
    weights = predict(cells, 1000, 24).weights
    own = small.linear_parameters + large.linear_parameters
    assert weights == large.weight_bytes(BF16) + own


def test_advice_where_it_does_not_fit_is_a_pair():
    def shallower():
        for pair in ((1, 3), (1, 2)):
            yield f"--extrapolate {pair[0]} {pair[1]}", tuple(map(LLAMA.with_layers, pair))

    depths = LLAMA.with_layers(4), LLAMA.with_layers(8)
    available = predict([(LLAMA.with_layers(n), BF16, 1) for n in (1, 3)], 1000, 24).total
    found = largest_fit(depths, shallower(), BF16, 1, 1000, 24, available)
    assert found == "--extrapolate 1 3 with --batch-size 1"


# compare_results


@pytest.fixture
def files(run, tmp_path, monkeypatch, capsys):
    """(an estimate's file, that of a measurement of the full model)."""
    _, _, estimated = run(depths("inductor", jitter=JITTER) + depths(jitter=JITTER))
    cells = [
        make_cell(name, script=steady(0.084, 0.033, JITTER[::-1])) for name in ("inductor", "eager")
    ]
    _, _, measured = whole_session(monkeypatch, capsys)(
        cells, "--model-name", "llama3.1-8b", *FLAGS[5:]
    )
    paths = []
    for name, result in (("est.json", estimated), ("full.json", measured)):
        paths.append(tmp_path / name)
        paths[-1].write_text(json.dumps(result))
    return [str(path) for path in paths]


def compared(capsys, *arguments) -> dict:
    assert compare_results.main([*arguments, "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_an_estimate_is_held_against_a_measurement_and_called_one(files, capsys):
    estimated, measured = files
    found = compared(capsys, measured, estimated)
    rows = {row["label"]: row for row in found["rows"]}
    assert set(rows) == {"inductor b1 EST", "eager b1 EST"}
    row = rows["inductor b1 EST"]
    assert row["baseline_label"] == "inductor b1"
    assert row["metrics"]["tbot_s"]["ratio"]["verdict"] == "same"
    assert any(": an estimate from 4 and 8 layers, not a" in note for note in found["notes"])
    skipped = {skip["label"]: skip["reason"] for skip in found["skipped"]}
    assert "num_layers 4 | 32" in skipped["eager b1 4L"]


def test_estimates_are_not_pooled_with_measurements(files, capsys):
    found = compared(capsys, *files, "--baseline", "eager")
    full = [row for row in found["rows"] if ", 32 layers" in row["title"]]
    assert {(row["name"], row["baseline_label"]) for row in full} == {
        ("inductor", "eager b1"),
        ("inductor EST 4-8", "eager b1"),
        ("eager EST 4-8", "eager b1"),
    }
    assert {row["unit"] for row in full} == {"rounds", "runs"}


def test_within_a_session_each_depth_is_compared_for_itself(files, capsys):
    rows = compared(capsys, files[0])["rows"]
    assert [(row["label"], row["baseline_label"]) for row in rows] == [
        ("inductor b1 EST", "eager b1 EST"),
        ("inductor b1 4L", "eager b1 4L"),
        ("inductor b1 8L", "eager b1 8L"),
    ]
    assert ["4 of 32 layers" in row["title"] for row in rows] == [False, True, False]
