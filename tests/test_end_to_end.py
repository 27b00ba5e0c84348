"""The real thing on a CPU: one command to a table and a file."""

import json
import subprocess
import sys

import jsonschema
import pytest
from conftest import ROOT
from programs import FEW, SHORT, TINY, Done
from programs import run as run_program

SCHEMA = json.loads((ROOT / "inference_benchmark" / "reporting" / "result.schema.json").read_text())


def run(*arguments: str, **settings) -> Done:
    return run_program(*TINY, *arguments, **settings)


def load_all(directory) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))]


def validate(result: dict) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(result)


def test_one_command_gives_tables_and_a_valid_file(tmp_path):
    flags = ["--mode", "eager", *SHORT, *FEW, "--details", "--save-results"]
    done = subprocess.run(
        [sys.executable, "benchmark_inference.py", *TINY, *flags, "--output-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    for words in ("ONLY 2 OF 4 LAYERS", "CPU smoke run", "throughput", "latency", "resources"):
        assert words in done.stdout
    assert max(map(len, done.stdout.splitlines()[:-1])) <= 80  # the last line is a path
    (result,) = load_all(tmp_path)
    validate(result)
    (cell,) = result["cells"]
    assert cell["timer"] == "wall"
    assert cell["status"] == "ok"
    assert cell["stop_reason"] == "fixed"
    assert cell["output_check"]["passed"]
    assert len(cell["samples"]["metrics"]["ttft_s"]) == len(cell["samples"]["steps"]["step_s"]) == 3
    assert all(len(steps) == 11 for steps in cell["samples"]["steps"]["step_s"])
    assert result["environment"]["gpu"] is None
    assert cell["limit"] is None
    reasons = {reason["code"] for reason in cell["validity"]["reasons"]}
    assert "too_few_runs" in reasons  # and on a busy machine what is busy there
    assert cell["validity"]["verdict"] == (
        "suspect" if reasons - {"too_few_runs"} else "unverified"
    )
    assert not list(tmp_path.glob(".*"))


def test_json_is_the_last_line_of_stdout_and_tables_go_to_stderr():
    done = run("--mode", "eager", *SHORT, *FEW, "--json", "--quiet")
    assert done.returncode == 0
    (line,) = done.stdout.splitlines()
    result = json.loads(line)
    validate(result)
    assert "summary (medians" in done.stderr
    summary, samples = result["cells"][0]["summary"], result["cells"][0]["samples"]
    times, rates = samples["metrics"], summary["rates"]
    totals = sorted(a + b for a, b in zip(times["ttft_s"], times["decode_s"], strict=True))
    assert rates["output_tokens_per_s"] == pytest.approx(12 / totals[1])
    assert rates["overall_tokens_per_s"] == pytest.approx(62 / totals[1])
    tbot_s = summary["metrics"]["tbot_s"]["median"]
    assert tbot_s == pytest.approx(sorted(times["decode_s"])[1] / 11)
    steps = samples["steps"]["step_s"]
    assert [sum(steps_of_run) for steps_of_run in steps] == pytest.approx(times["decode_s"])


def test_modes_and_batch_sizes_share_a_session():
    done = run(
        "--mode",
        "scripted",
        "--batch-size",
        "1",
        "2",
        *SHORT,
        *FEW,
        "--baseline",
        "eager",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    validate(result)
    labels = [cell["label"] for cell in result["cells"]]
    assert labels == ["scripted b1", "eager b1", "scripted b2", "eager b2"]
    for cell in result["cells"]:
        assert cell["status"] == "ok"
        assert cell["samples"]["round"] == [0, 1, 2]
        assert cell["memory"]["kv_cache_bytes"] == cell["batch_size"] * 62 * 2 * 2 * 2 * 64 * 4
    assert result["cells"][2]["speedup"]["baseline"] == "eager b2"
    assert result["cells"][1]["speedup"] is None


FORWARD = ["--workload", "forward", "--input-length", "30", *FEW]


def validate_forward(result: dict) -> None:
    """Logits of all positions, checked before the timing and of the very run that was timed."""
    validate(result)
    assert result["config"]["output_length"] is None
    assert [metric["name"] for metric in result["workload"]["metrics"]] == ["forward_s"]
    for cell in result["cells"]:
        check = cell["output_check"]
        assert check["passed"]
        assert check["checked"] == ["logits"]
        assert check["replayed_runs"] == 1
        assert check["measured"]["forward: logits"]["error"] < 1e-4
        assert check["measured"]["timed run: a row of logits"]["error"] < 1e-4
        times, summary = cell["samples"]["metrics"], cell["summary"]
        assert (list(times), len(times["forward_s"])) == (["forward_s"], 3)
        middle = sorted(times["forward_s"])[1]
        assert summary["rates"] == {"tokens_per_s": pytest.approx(cell["batch_size"] * 30 / middle)}
        assert cell["memory"]["kv_cache_bytes"] == 0
        assert cell["cold_start"]["compile_forward_s"] > 0


def test_one_forward_without_a_cache_in_every_engine():
    flags = ["--model-name", "llama-tiny", "--num-layers", "1", "--device", "cpu", *FORWARD]
    modes = ["eager", "inductor", "thunder"]
    done = run_program(*flags, "--precision", "fp32", "--mode", *modes, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    validate_forward(result)
    assert [cell["mode"] for cell in result["cells"]] == modes


def test_training_steps_are_checked_and_labelled():
    flags = ["--workload", "training", "--input-length", "16", "--mixed-precision", "autocast"]
    where = ["--model-name", "llama-tiny", "--num-layers", "1", "--device", "cpu"]
    done = run_program(*where, *flags, *FEW, "--mode", "eager", "--dynamic-shapes", "3", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    validate(result)
    conditions = result["workload"]["conditions"]
    assert conditions[:2] == ["AdamW", "autocast of fp32 weights"]
    assert conditions[2].startswith("3 lengths, ")
    assert "AdamW" in done.stderr
    (cell,) = result["cells"]
    assert cell["output_check"]["passed"]
    assert cell["output_check"]["checked"] == ["losses", "gradients"]
    assert cell["options"]["training"]["mixed_precision"] == "autocast"
    times = cell["samples"]["metrics"]
    assert times["iterations_s"] == pytest.approx([3 * seconds for seconds in times["training_s"]])


def test_own_implementations_are_measured_beside_ours():
    builds = ["default", str(ROOT / "examples" / "own_model.py") + ":build"]
    lengths = ["--input-length", "8", "--output-length", "4"]
    done = run("--implementation", *builds, "--mode", "eager", *lengths, *FEW, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    validate(result)
    ours, theirs = result["cells"]
    assert [cell["label"] for cell in (ours, theirs)] == ["eager b1", "eager@own_model b1"]
    assert theirs["output_check"]["checked"] == ["tokens", "logits", "cache"]
    assert theirs["output_check"]["passed"]
    assert theirs["speedup"]["baseline"] == "eager b1"
    assert ours["speedup"] is None
    assert "against default in the same mode" in done.stderr


def test_generation_in_inductor_is_checked_and_compared():
    lengths = ["--input-length", "8", "--output-length", "4", "--num-iterations", "2"]
    done = run("--mode", "inductor", "eager", *lengths, "--warmup-iterations", "1", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    validate(result)
    inductor, eager = result["cells"]
    assert inductor["output_check"]["passed"]
    assert inductor["output_check"]["checked"] == ["tokens", "logits", "cache"]
    assert inductor["cold_start"]["compile_decode_s"] > 0
    assert inductor["speedup"]["baseline"] == eager["label"]


def test_batch_sizes_are_groups_whose_rows_are_shown_when_they_are_done():
    done = run("--mode", "eager", "--batch-size", "1", "2", *FORWARD, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    validate_forward(result)
    assert [cell["batch_size"] for cell in result["cells"]] == [1, 2]
    assert "eager b1: forward" in done.stderr  # a group's rows, before the report


def test_a_scripted_engine_needs_no_weights():
    done = run("--mode", "scripted", *SHORT, *FEW, "--json")
    assert done.returncode == 0, done.stderr
    (cell,) = json.loads(done.stdout.splitlines()[-1])["cells"]
    assert cell["engine"]["weights"] == "own"
    assert cell["summary"]["metrics"]["ttft_s"]["median"] == 0.02
    assert cell["output_check"] is None
    assert cell["cold_start"]["build_s"] is None


def test_a_single_output_token_has_no_time_between_tokens():
    done = run("--mode", "eager", "--input-length", "20", "--output-length", "1", *FEW, "--json")
    assert done.returncode == 0, done.stderr
    (cell,) = json.loads(done.stdout.splitlines()[-1])["cells"]
    assert cell["summary"]["metrics"]["tbot_s"]["median"] is None
    assert cell["samples"]["metrics"]["tbot_s"] == []
    assert cell["summary"]["rates"]["decode_tokens_per_s"] is None
    assert cell["summary"]["metrics"]["ttft_s"]["median"] > 0


def test_nothing_but_text_reaches_a_pipe():
    done = run("--mode", "eager", *SHORT, *FEW)
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr


def test_two_depths_give_an_estimate_of_the_model(tmp_path):
    flags = ["--model-name", "llama-tiny", "--device", "cpu", "--precision", "fp32", *FEW]
    flags += ["--input-length", "150", "--output-length", "12", "--batch-size", "1", "2"]
    flags += ["--extrapolate", "1", "3", "--save-results", "--output-dir", str(tmp_path)]
    done = run_program("--mode", "eager", *flags)
    assert done.returncode == 0, done.stderr
    assert "TO BE ESTIMATED FROM" in done.stdout
    (path,) = tmp_path.glob("*.json")
    assert path.name.startswith("llama-tiny-est1-3_150x12_")
    result = json.loads(path.read_text())
    validate(result)
    assert [cell["label"] for cell in result["cells"]] == [
        "eager b1 EST",
        "eager b2 EST",
        "eager b1 1L",
        "eager b1 3L",
        "eager b2 1L",
        "eager b2 3L",
    ]
    estimate, _, small, large, *_ = result["cells"]
    assert small["output_check"]["passed"]
    assert large["output_check"]["passed"]
    for name in ("ttft_s", "decode_s"):
        times = zip(
            *(cell["samples"]["metrics"][name] for cell in (small, large, estimate)), strict=True
        )
        for shallow, deep, full in times:
            assert full == pytest.approx(shallow + 1.5 * (deep - shallow))
    assert large["memory"]["kv_cache_bytes"] == 3 * small["memory"]["kv_cache_bytes"]
