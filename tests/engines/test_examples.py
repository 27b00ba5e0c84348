"""The examples of an engine and of a workload, through the command line."""

import json

import pytest
from conftest import ROOT
from programs import run_script

TINY = ["--model-name", "llama-tiny", "--num-layers", "2", "--device", "cpu", "--precision", "fp32"]
FEW = ["--num-iterations", "2", "--warmup-iterations", "1", "--input-length", "30", "--json"]


def run(name: str, *flags: str) -> list[dict]:
    done = run_script(f"examples/{name}.py", *TINY, *FEW, *flags)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])["cells"]


def test_the_engine_runs_is_checked_and_compared():
    aot_eager, eager = run(
        "engine_aot_eager", "--mode", "aot_eager", "eager", "--output-length", "5"
    )
    assert (aot_eager["label"], aot_eager["engine"]["name"]) == ("aot_eager b1", "aot_eager")
    assert aot_eager["output_check"]["passed"]
    assert aot_eager["output_check"]["checked"] == ["tokens", "logits", "cache"]
    assert aot_eager["speedup"]["baseline"] == eager["label"]


def test_the_workload_has_its_own_metric():
    (cell,) = run("workload_prefill", "--workload", "prefill", "--mode", "eager")
    assert list(cell["summary"]["metrics"]) == ["prefill_s"]
    assert cell["summary"]["rates"]["tokens_per_s"] > 0
    assert cell["output_check"]["passed"]


@pytest.mark.parametrize("name", ["engine_aot_eager", "workload_prefill"])
def test_an_example_is_short(name):
    assert len((ROOT / "examples" / f"{name}.py").read_text().splitlines()) < 60
