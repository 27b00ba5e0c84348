"""Sessions with --extrapolate: exact estimates of scripted times, their labels, and what has none."""

import json

import jsonschema
import pytest
from conftest import ROOT
from scripted import INPUT, OUTPUT, WRONG, steady, whole_session

from inference_benchmark import compare_results
from inference_benchmark.command.fit import largest_fit, need
from inference_benchmark.model.config import Precision
from inference_benchmark.models import MODELS
from inference_benchmark.options.flags import make_parser
from inference_benchmark.options.resolution import resolve
from inference_benchmark.reporting.card import card
from inference_benchmark.reporting.readme.measured import measured_row
from inference_benchmark.reporting.saving import file_name
from inference_benchmark.reporting.summary import summary_table
from inference_benchmark.session.memory import predict
from inference_benchmark.session.planning import plan_cells
from inference_benchmark.workloads.generation import Generation

SCHEMA = json.loads((ROOT / "inference_benchmark" / "reporting" / "result.schema.json").read_text())
LLAMA = MODELS["llama3.1-8b"]
BF16 = Precision.of("bf16")
RUNS = ("--num-iterations", "8", "--warmup-iterations", "0")
FLAGS = ("--model-name", "llama3.1-8b", "--extrapolate", "4", "8", *RUNS)
BOTH = ("--mode", "eager", "inductor")
JITTER = (0.0, 0.002, -0.002)
TTFT_ERROR, ERROR = 0.012, 0.017  # of estimates, as workloads/generation.py documents them


@pytest.fixture
def run(monkeypatch, capsys):
    """run(engines, *flags) of a session that extrapolates -> (exit code, stdout, valid result)."""
    start = whole_session(monkeypatch, capsys)

    def run_and_validate(engines, *flags):
        code, out, result = start(engines, *FLAGS, *flags)
        jsonschema.Draft202012Validator(SCHEMA).validate(result)
        assert max(map(len, out.splitlines())) <= 80, max(out.splitlines(), key=len)
        return code, out, result

    return run_and_validate


def depths(name="eager", layer_s=0.001, jitter=(0.0,), batch_size=1, **settings):
    """Two cells: 20 ms + 2 layers' time to the first token, 1 ms + a layer's time for each step."""
    return {
        f"{name} b{batch_size} {count}L": {
            "script": steady(0.020 + 2 * count * layer_s, 0.001 + count * layer_s, jitter),
            **settings,
        }
        for count in (4, 8)
    }


def metric_of(cell, metric) -> dict:
    return cell["summary"]["metrics"][metric]


def estimate_in(result, mode="eager") -> dict:
    (cell,) = [c for c in result["cells"] if c["estimated"] and c["mode"] == mode]
    return cell


def test_times_on_a_straight_line_are_met_exactly(run):
    code, _, result = run(depths())
    assert code == 0
    cell = result["cells"][0]
    assert (cell["label"], cell["estimated"]) == ("eager b1 EST", True)
    assert cell["name"] == {
        "mode": "eager",
        "variant": "eager",
        "kernels": False,
        "batch_size": 1,
        "context_depth": None,
        "length": None,
        "depth": "EST",
    }
    error = {"ttft_s": TTFT_ERROR} | dict.fromkeys(("tbot_s", "decode_s", "total_s"), ERROR)
    assert cell["extrapolation"] == {
        "from_layers": [4, 8],
        "to_layers": 32,
        "weight": 7.0,
        "error": error,
    }
    ttft, tbot = metric_of(cell, "ttft_s"), metric_of(cell, "tbot_s")
    assert ttft["median"] == pytest.approx(0.020 + 32 * 0.002)
    assert tbot["median"] == pytest.approx(0.001 + 32 * 0.001)
    assert (cell["summary"]["n"], cell["samples"]["round"]) == (8, list(range(8)))


def test_intervals_hold_what_estimates_were_off_where_the_truth_is_known(run):
    """Without any noise as well: the line itself is not exact."""
    _, _, result = run(depths())
    cell = result["cells"][0]
    ttft, tbot = metric_of(cell, "ttft_s"), metric_of(cell, "tbot_s")
    for estimate, truth, error in ((ttft, 0.084, TTFT_ERROR), (tbot, 0.033, ERROR)):
        expected = [truth * (1 - error), truth * (1 + error)]
        assert estimate["median_ci95"] == pytest.approx(expected)
        assert estimate["mean_ci95"] == pytest.approx(expected)
    assert metric_of(result["cells"][1], "tbot_s")["median_ci95"] == pytest.approx([0.005] * 2)


def test_an_estimate_has_the_full_models_work_and_nothing_that_only_a_run_can_show(run):
    _, _, result = run(depths())
    cell, *measured = result["cells"]
    facts = Generation(INPUT, OUTPUT).cost(LLAMA, BF16, 1).facts
    assert cell["cost"] == facts
    step_bytes = facts["decode_bytes_per_step"]
    assert cell["summary"]["mbu"] == pytest.approx(step_bytes / 0.033 / 4.8e12)
    assert cell["limit"]["metrics"]["tbot_s"] == pytest.approx(step_bytes / 4.8e12)
    assert cell["memory"]["weights_bytes"] == LLAMA.weight_bytes(BF16)
    assert cell["memory"]["kv_cache_bytes"] == LLAMA.kv_cache_bytes(BF16, 1, INPUT + OUTPUT)
    known = {name for name, value in cell["memory"].items() if value is not None}
    assert known == {"weights_bytes", "kv_cache_bytes"}
    unknown = ("cold_start", "gpu_state", "host", "profile", "output_check")
    assert all(cell[name] is None for name in unknown)
    assert cell["summary"]["energy_per_token_j"] is None
    assert set(cell["summary"]["steps"]["step_s"].values()) == {None}
    assert (cell["samples"]["steps"]["step_s"], cell["samples"]["started"]) == ([], [])
    assert [cell["num_layers"] for cell in result["cells"]] == [32, 4, 8]
    assert all(not cell["estimated"] and cell["extrapolation"] is None for cell in measured)
    shallow = Generation(INPUT, OUTPUT).cost(LLAMA.with_layers(4), BF16, 1)
    assert measured[0]["cost"] == shallow.facts
    assert measured[0]["memory"]["weights_bytes"] == LLAMA.with_layers(4).weight_bytes(BF16)
    assert (result["config"]["num_layers"], result["config"]["extrapolated_from"]) == (32, [4, 8])
    assert result["model"]["parameters"] == LLAMA.parameters


def test_it_is_called_an_estimate_wherever_it_stands(run):
    _, out, result = run(depths())
    assert out.startswith("llama3.1-8b, ESTIMATED from 4 and 8 of 32 layers, own lengths")
    first_row = out.split("summary (medians")[1].splitlines()[3]
    assert first_row.startswith("eager b1 EST")
    assert "ESTIMATE" in first_row
    for cell in result["cells"]:
        cell["validity"] = {"verdict": "valid", "reasons": []}
    assert summary_table(result).splitlines()[3].split()[-1] == "ESTIMATE"
    assert "latency of eager b1 EST" in out
    notes = " ".join(out.split())
    assert "EST: estimated from 4 and 8 of 32 layers (4L, 8L), round by round: t(4) + 7 x" in notes
    assert file_name(result).startswith("llama3.1-8b-est4-8_1000x5_eager_cpu_")
    assert [measured_row(result, cell)[0] for cell in result["cells"]] == [
        "llama3.1-8b [ESTIMATE from 4 and 8 of 32 layers]",
        "llama3.1-8b [4 of 32 layers]",
        "llama3.1-8b [8 of 32 layers]",
    ]
    text = card(result, None, None, details=True)
    assert "TO BE ESTIMATED FROM 4 AND 8 OF 32 LAYERS" in " ".join(text.split())
    assert "8 layers, 5.59 GB" in text


def test_estimates_are_compared_with_each_other_round_by_round(run):
    engines = depths("inductor", 0.0008, JITTER) | depths("eager", 0.001, JITTER[::-1])
    _, out, result = run(engines, *BOTH)
    speedup = estimate_in(result, "inductor")["speedup"]
    assert speedup["baseline"] == "eager b1 EST"
    tbot = speedup["metrics"]["tbot_s"]
    assert tbot["ratio"] == pytest.approx(33 / 26.6, rel=0.01)
    assert tbot["verdict"] == "faster"
    assert tbot["ci95"][0] < 33 / 26.6 / (1 + ERROR) * 1.001
    assert tbot["ci95"][1] > 33 / 26.6 * (1 + ERROR) * 0.999
    assert "1.24x faster" in out
    baselines = {c["label"]: c["speedup"] and c["speedup"]["baseline"] for c in result["cells"]}
    assert baselines == {
        "eager b1 EST": None,
        "inductor b1 EST": "eager b1 EST",
        "eager b1 4L": None,
        "eager b1 8L": None,
        "inductor b1 4L": "eager b1 4L",
        "inductor b1 8L": "eager b1 8L",
    }


def test_what_the_line_may_be_off_decides_no_verdict(run):
    """1.5 % faster on paper: within what such estimates were wrong by."""
    engines = depths("inductor", 0.000985, JITTER) | depths("eager", 0.001, JITTER)
    _, _, result = run(engines, *BOTH)
    speedup = estimate_in(result, "inductor")["speedup"]["metrics"]["tbot_s"]
    assert speedup["ratio"] == pytest.approx(33 / 32.52)
    assert speedup["verdict"] == "inconclusive"


def test_no_depth_wins_back_its_cold_start(run):
    """The second of them may have used what was compiled for the first."""
    _, _, result = run(depths("inductor", 0.0008) | depths(), *BOTH)
    measured = [cell for cell in result["cells"] if not cell["estimated"]]
    assert [cell["cold_start"]["payback_tokens"] for cell in measured] == [None] * 4


def test_batch_sizes_have_an_estimate_each(run):
    _, _, result = run(depths() | depths(batch_size=8), "--batch-size", "1", "8")
    labels = [cell["label"] for cell in result["cells"] if cell["estimated"]]
    assert labels == ["eager b1 EST", "eager b8 EST"]


@pytest.mark.parametrize("wrong", ["eager b1 4L", "eager b1 8L"])
def test_a_wrong_output_at_either_depth_leaves_no_estimate(run, wrong):
    engines = depths()
    engines[wrong]["check"] = WRONG
    code, out, result = run(engines)
    assert code == 1
    assert not any(cell["estimated"] for cell in result["cells"])
    assert out.startswith("llama3.1-8b [4 and 8 of 32 layers], own lengths")
    assert "eager b1: no estimate, which takes sound runs of both depths" in out
    assert "EST" not in out


def test_a_wrong_output_stays_wrong_when_the_session_is_interrupted(run):
    engines = depths()
    engines["eager b1 4L"]["check"] = WRONG
    # The first prefill prepares; interrupted in the third round.
    engines["eager b1 8L"] |= {"fail_at": 4, "error": KeyboardInterrupt()}
    code, _, result = run(engines)
    assert code == 130
    assert [cell["status"] for cell in result["cells"]] == ["wrong_output", "partial"]
    assert not any(cell["estimated"] for cell in result["cells"])


def test_a_depth_that_fails_leaves_no_estimate_of_its_mode_alone(run):
    engines = depths("inductor", fail_at=3, error=ValueError("broke")) | depths()
    code, out, result = run(engines, *BOTH)
    assert code == 1
    assert [cell["mode"] for cell in result["cells"] if cell["estimated"]] == ["eager"]
    assert "inductor b1: no estimate" in out


def test_an_interrupted_round_counts_for_nothing(run):
    engines = depths()
    engines["eager b1 8L"] |= {"fail_at": 5, "error": KeyboardInterrupt()}
    code, _, result = run(engines)
    assert code == 130
    assert [cell["summary"]["n"] for cell in result["cells"]] == [3, 3, 3]
    assert estimate_in(result)["status"] == "partial"


def test_noise_that_leaves_the_full_model_no_time_is_no_estimate(run):
    engines = {
        "eager b1 4L": {"script": steady(0.1, 0.010)},
        "eager b1 8L": {"script": steady(0.1, 0.008)},
    }
    code, out, result = run(engines)
    assert code == 1
    cell = estimate_in(result)
    assert (cell["status"], cell["samples"]["metrics"]["ttft_s"]) == ("failed", [])
    assert "no estimate: in some round" in " ".join(out.split())
    assert "FAILED" in out


def test_an_estimate_is_as_good_as_its_sources_and_its_own_times(run):
    def rising(count):
        for number in range(100):
            yield [0.1 + count * 0.001 * (1 + 0.02 * number)] + [0.001 * count] * 4

    engines = {f"eager b1 {count}L": {"script": rising(count)} for count in (4, 8)}
    engines["eager b1 4L"]["compile_counts"] = [0, 0, 0, 2]  # two of them in preparation
    _, _, result = run(engines)
    estimate, small, large = (
        {reason["code"] for reason in cell["validity"]["reasons"]} for cell in result["cells"]
    )
    assert "recompiled" in small
    assert "recompiled" not in large
    assert "recompiled" in estimate
    assert "drift" in estimate - small - large
    reasons = result["cells"][0]["validity"]["reasons"]
    assert len(reasons) == len({tuple(reason.values()) for reason in reasons})


# Memory


def test_the_deepest_one_is_built_and_every_depth_has_caches():
    small, large = LLAMA.with_layers(4), LLAMA.with_layers(8)
    need = predict([(small, BF16, 2), (large, BF16, 2)], 1000, 1024)
    assert need.weights == large.weight_bytes(BF16)
    assert need.kv_cache == 2 * 1024 * 4096 * (4 + 8)


def test_each_captured_prompt_keeps_its_activations():
    short, long = ([(LLAMA, BF16, size)] for size in (4, 5))
    for cells in (short, long):
        assert predict(cells, 1000, 1024).captured == 0  # without graphs
    need = predict(2 * short, 1000, 1024, with_graphs=2 * short)
    assert need.captured == 2 * need.activations
    assert need.total == predict(2 * short, 1000, 1024).total + need.captured
    assert predict(long, 1000, 1024, with_graphs=long).captured == 0  # too long to be captured


def test_each_cell_that_quantises_has_quantised_weights_of_its_own():
    small, large = LLAMA.with_layers(4), LLAMA.with_layers(8)
    fp8 = Precision.of("bf16", "fp8")
    cells = [(model, precision, 1) for model in (small, large) for precision in (fp8, BF16)]
    weights = predict(cells, 1000, 1024).weights
    quantized = small.linear_parameters + large.linear_parameters
    assert weights == large.weight_bytes(BF16) + quantized


def test_advice_where_it_does_not_fit_is_a_pair():
    def cells_of(*pair):
        flags = ["--device", "cpu", "--mode", "eager", "--model-name", "llama3.1-8b"]
        flags += ["--input-length", "1000", "--output-length", "24", "--extrapolate", *pair]
        request = resolve(make_parser().parse_args(flags))
        return request, plan_cells(request)[0]

    request, cells = cells_of("4", "8")
    available = need(cells_of("1", "3")[1]).total
    assert largest_fit(cells, request, 1, available) == "--extrapolate 1 3 with --batch-size 1"


# compare_results


@pytest.fixture
def files(run, tmp_path, monkeypatch, capsys):
    """(an estimate's file, that of a measurement of the full model)."""
    _, _, estimated = run(depths("inductor", jitter=JITTER) | depths(jitter=JITTER), *BOTH)
    engines = {
        f"{name} b1": {"script": steady(0.084, 0.033, JITTER[::-1])}
        for name in ("inductor", "eager")
    }
    _, _, measured = whole_session(monkeypatch, capsys)(
        engines, "--model-name", "llama3.1-8b", *RUNS, *BOTH
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
    comparison = compared(capsys, measured, estimated)
    rows = {row["label"]: row for row in comparison["rows"]}
    assert set(rows) == {"inductor b1 EST", "eager b1 EST"}
    row = rows["inductor b1 EST"]
    assert row["baseline_label"] == "inductor b1"
    ratio = row["metrics"]["tbot_s"]["ratio"]
    assert ratio["ratio"] == pytest.approx(1.0, abs=0.001)
    assert ratio["verdict"] == "inconclusive"  # one session a side
    assert any(": an estimate from 4 and 8 layers, not a" in note for note in comparison["notes"])
    skipped = {skip["label"]: skip["reason"] for skip in comparison["skipped"]}
    assert "num_layers 4 | 32" in skipped["eager b1 4L"]


def test_estimates_are_not_pooled_with_measurements(files, capsys):
    comparison = compared(capsys, *files, "--baseline", "eager")
    full = [row for row in comparison["rows"] if ", 32 layers" in row["title"]]
    assert {(row["name"], row["baseline_label"]) for row in full} == {
        ("inductor", "eager b1"),
        ("inductor EST 4-8", "eager b1"),
        ("eager EST 4-8", "eager b1"),
    }
    assert {row["unit"] for row in full} == {"rounds", "sessions"}


def test_within_a_session_each_depth_is_compared_for_itself(files, capsys):
    rows = compared(capsys, files[0])["rows"]
    assert [(row["label"], row["baseline_label"]) for row in rows] == [
        ("inductor b1 EST", "eager b1 EST"),
        ("inductor b1 4L", "eager b1 4L"),
        ("inductor b1 8L", "eager b1 8L"),
    ]
    assert ["4 of 32 layers" in row["title"] for row in rows] == [False, True, False]
