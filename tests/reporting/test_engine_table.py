"""--table engines: each figure from the cell's own record, by hand."""

import pytest
from scripted import steady, whole_session

from inference_benchmark.reporting.engine_table import (
    checked,
    engine_table,
    measured_engines,
    peak_memory,
)
from inference_benchmark.reporting.summary import summary_notes
from inference_benchmark.reporting.tables import headline


@pytest.fixture
def result(monkeypatch, capsys):
    run = whole_session(monkeypatch, capsys)
    engines = {
        "eager b1": {"script": steady(0.1, 0.01, (0.0, 0.1, -0.1))},
        "inductor b1": {"script": steady(0.1, 0.005), "check": None},
    }
    flags = ("--num-iterations", "6", "--warmup-iterations", "0")
    _, _, saved = run(engines, "--mode", "eager", "inductor", "--baseline", "eager", *flags)
    eager, inductor = saved["cells"]
    eager["cold_start"] |= {
        "build_s": 2.0,
        "load_s": None,
        "setup_s": 0.5,
        "compile_prefill_s": 1.5,
    }
    eager["engine"]["weights"] = "session"
    eager["memory"] |= {"peak_allocated_bytes": 3_000_000_000}
    inductor["memory"] |= {"peak_allocated_bytes": 1, "process_bytes": 21_500_000_000}
    inductor["options"]["compiler"] = {"version": "9.1", "kv_cache_dtype": "bfloat16"}
    return saved


def test_numbers_by_hand(result):
    lines = engine_table(result).splitlines()
    eager, inductor = (line.split() for line in lines[3:5])
    # 5 tokens of 0.1 + 4 x 0.01 s: 28 ms each, 35.71 a second, in the fastest run 0.126 s
    assert eager[2:] == ["2.50", "1,500", "100.0", "15.0x", "28.00", "35.71", "39.68", "3.00"]
    assert inductor[-4:] == ["24.00", "41.67", "41.67", "21.50"]
    facts = [line.split() for line in lines if line.startswith(("eager b1", "inductor b1"))][2:]
    assert facts[0][2:] == ["bf16", "bf16", "wall", "own", "cache", "-"]
    assert facts[1][2:] == ["bf16", "bf16", "wall", "worker", "unchecked", "9.1"]


def test_it_fits_a_terminal(result):
    assert max(map(len, engine_table(result).splitlines())) <= 80


def test_a_wrong_output_has_no_row(result):
    result["cells"][0]["output_check"]["passed"] = False
    result["cells"][0]["status"] = "wrong_output"
    assert "eager b1" not in engine_table(result).split("what they are")[0]


def test_what_precision_and_compiling_change(result):
    eager, inductor = result["cells"]
    assert "compilation benefit: inductor b1 is 1.99x (" in " ".join(engine_table(result).split())
    inductor["options"]["compiler"] = {}
    inductor["options"]["precision"] = "fp16"
    table = " ".join(engine_table(result).split())
    assert "precision impact, fp16 for bf16: inductor b1 is 1.99x (" in table
    assert ") as fast as eager b1 in TBOT, faster" in table
    inductor["engine"]["granularity"] = "stream"
    inductor["options"] |= {"compiler": {"version": "1"}, "precision": "bf16"}
    assert "benefit" not in engine_table(result)


def test_memory_has_a_legend_where_it_is_known(result):
    assert "GB: the most memory" in " ".join(engine_table(result).split())
    for cell in result["cells"]:
        cell["memory"] = {}
    assert "GB" not in engine_table(result)


def test_the_headline_names_the_types_that_were_measured(result):
    assert ", bf16, " in headline(result)
    for cell, name in zip(result["cells"], ("fp32", "fp16"), strict=True):
        cell["options"]["precision"] = name
    assert ", fp32, fp16, " in headline(result)
    result["cells"][0]["options"]["precision"] = "int8"
    assert ", bf16, " in headline(result)


def test_a_published_row_by_hand(result):
    header, _, inductor, eager = (  # the faster one first
        [part.strip() for part in line.strip("|").split("|")]
        for line in measured_engines([result]).splitlines()
    )
    assert dict(zip(header, eager, strict=True)) == {
        "model": "llama3.1-8b",
        "batch": "1",
        "engine": "eager",
        "TTFT ms": "100.0±10.0",
        "TBOT ms": "10.00±1.00",
        "tok/s": "35.71",
        "load s": "2.50",
        "cold ms": "1,500",
        "GB": "3.00",
        "memory of": "own",
        "KV type": "bf16",
        "clock": "wall",
        "checked": "cache",
        "version": "-",
        "n": "6",
        "verdict": "suspect",
    }
    assert inductor[-5:-2] == ["wall", "unchecked", "9.1"]


def test_only_modes_that_step_our_decoder_can_have_its_kernels(result):
    eager, inductor = result["cells"]
    result["environment"]["gpu"] = {"name": "NVIDIA H200", "count": 1}  # on a CPU there are none
    inductor["engine"]["weights"] = "session"
    assert any("add eager+kernels inductor+kernels to" in note for note in summary_notes(result))
    inductor["engine"]["granularity"] = "stream"  # it has the weights, but a decoder of its own
    assert any("add eager+kernels to --mode" in note for note in summary_notes(result))
    eager["engine"]["weights"] = "copy"
    assert not any("+kernels" in note for note in summary_notes(result))


@pytest.mark.parametrize("refusing", ["implementation", "attention"])
def test_kernels_are_not_advised_where_they_would_be_refused(result, refusing):
    eager, _ = result["cells"]
    result["environment"]["gpu"] = {"name": "NVIDIA H200", "count": 1}
    assert any("add eager+kernels" in note for note in summary_notes(result))
    if refusing == "implementation":
        eager["options"]["implementation"] = "transformers"
    else:
        result["config"] |= {"attention": "sdpa", "linear": "torch"}
    assert not any("+kernels" in note for note in summary_notes(result))


def test_clocks_that_differ_are_said(result):
    assert not [note for note in summary_notes(result) if note.startswith("clock:")]
    result["cells"][0]["timer"] = "cuda_event"
    (note,) = [note for note in summary_notes(result) if note.startswith("clock:")]
    assert note == (
        "clock: the host's, when the process has a token, of inductor b1; else the GPU's"
    )


def test_evidence_and_memory():
    assert checked({"output_check": None}) == "unchecked"
    assert checked({"output_check": {"checked": ["tokens"]}}) == "tokens"
    assert checked({"output_check": {"checked": ["tokens", "logits"]}}) == "logits"
    assert peak_memory({"memory": None}) == (None, "-")
