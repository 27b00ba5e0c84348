"""Parts of a layer through the command line, and what their check finds."""

import json
from dataclasses import replace

import jsonschema
import pytest
import torch
from conftest import ROOT
from mixture_models import DEEPSEEK, LLAMA4
from programs import run

from inference_benchmark.engines.base import EnginePlan, Resources
from inference_benchmark.engines.parts.engine import PartEngine
from inference_benchmark.model.layer_part import LayerPart
from inference_benchmark.model.weights import build_decoder
from inference_benchmark.models import MODELS
from inference_benchmark.output_check.part import check_part_before, check_timed_part
from inference_benchmark.workloads.base import Run
from inference_benchmark.workloads.parts import Attention

SCHEMA = json.loads((ROOT / "inference_benchmark" / "reporting" / "result.schema.json").read_text())
CPU = ["--device", "cpu", "--num-iterations", "3", "--warmup-iterations", "1", "--json", "--quiet"]

# Of small-llama4 the kind of layer that has experts, and positions by temperature.
EXPERTS = replace(LLAMA4, attention=LLAMA4.attention[3], feed_forward=LLAMA4.feed_forward[3])


def measured(*arguments: str) -> dict:
    done = run(*CPU, *arguments)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    jsonschema.Draft202012Validator(SCHEMA).validate(result)
    return result


def test_attention_at_two_lengths_against_scores_in_memory():
    flags = ["--sequence-lengths", "32", "48", "--precision", "fp32", "--batch-size", "2"]
    result = measured("--workload", "attention", *flags)
    cells = {cell["label"]: cell for cell in result["cells"]}
    names = ("reference", "math", "flash", "ours")  # those that need no GPU
    assert list(cells) == [f"{name} b2 s{length}" for length in (32, 48) for name in names]
    assert result["workload"]["name"] == "attention"
    assert result["config"]["sequence_lengths"] == [32, 48]
    for cell in cells.values():
        assert cell["status"] == "ok"
        assert cell["summary"]["n"] == 3
        assert cell["num_layers"] == 1
        assert cell["output_check"]["measured"]["output"]["limit"] == 1e-4
    flash = cells["flash b2 s48"]
    assert flash["speedup"]["baseline"] == "reference b2 s48"
    assert flash["cost"]["attention_flops"] == 2 * 4 * 8 * 64 * 48 * 49 / 2
    per_s = flash["cost"]["attention_flops"] / flash["summary"]["metrics"]["attention_s"]["median"]
    assert flash["summary"]["rates"]["tflop_per_s"] == pytest.approx(per_s / 1e12)


@pytest.mark.parametrize(
    ("flags", "name", "checked"),
    [
        (["ffn", "--decode"], "ffn swiglu decode", ["output"]),
        (
            ["ffn", "--feed-forward", "gelu", "--backward"],
            "ffn gelu backward",
            ["output", "gradients"],
        ),
        (["layer", "--decode"], "layer decode", ["output"]),
        (["layer", "--backward"], "layer backward", ["output", "gradients"]),
    ],
)
def test_the_other_parts(flags, name, checked):
    lengths = [] if flags == ["ffn", "--decode"] else ["--sequence-lengths", "24"]
    result = measured("--workload", *flags, *lengths, "--mode", "eager")
    assert result["workload"]["name"] == name
    (cell,) = result["cells"]
    assert cell["output_check"]["checked"] == checked
    metrics = {name for name, values in cell["samples"]["metrics"].items() if values}
    both = {"forward_pass_s", "backward_pass_s"} if "--backward" in flags else set()
    assert metrics == {f"{flags[0]}_s"} | both


def engine(
    part_name: str, mode: str, precision: str = "bf16", model=MODELS["llama-tiny"], **options
) -> PartEngine:
    part = LayerPart(part_name, 40, **options)
    decoder = build_decoder(model.one_layer(), precision, "cpu", 40)
    return PartEngine(EnginePlan(1, 40, 0, mode=mode, part=part), Resources(decoder))


def test_tensors_of_a_run_are_the_same_for_all_and_others_in_each_run():
    first, second = engine("attention", "flash"), engine("attention", "math")
    first.load(5), second.load(5)
    assert torch.equal(first.problem.inputs["keys"], second.problem.inputs["keys"])
    second.load(6)
    assert not torch.equal(first.problem.inputs["keys"], second.problem.inputs["keys"])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("model", [DEEPSEEK, EXPERTS], ids=lambda model: model.name)
@pytest.mark.parametrize(
    ("part_name", "decode"),
    [("attention", False), ("attention", True), ("ffn", False), ("layer", False), ("layer", True)],
)
def test_latent_attention_and_mixtures_of_experts(part_name, decode, model, precision):
    """In a mixture rounding tips choices: the reference uses the experts that the step chose."""
    mode = "math" if part_name == "attention" else "eager"
    part_engine = engine(part_name, mode, precision, model, decode=decode)
    check = check_part_before(part_engine, 3, precision)
    assert check["passed"], check["failures"]
    assert (check["routing_difference"] is None) == (part_name == "attention")


def test_experts_that_are_chosen_wrongly_show():
    part_engine = engine("ffn", "eager", model=DEEPSEEK)
    right = part_engine._step.run

    def others():
        output, choice = right()
        return output, (choice + 1) % 16

    part_engine._step.run = others
    assert not check_part_before(part_engine, 3, "bf16")["passed"]


def faulty(part_name: str, fault, **options) -> PartEngine:
    part_engine = engine(part_name, "reference" if part_name == "attention" else "eager", **options)
    right = part_engine._step.run

    def wrong():
        outputs = right()
        return fault(outputs)

    part_engine._step.run = wrong
    return part_engine


def shifted_row(outputs):
    """One row of one head is its neighbour's, as by a mask that is off by one."""
    wrong = outputs.clone()
    wrong[0, 3, 1] = outputs[0, 3, 0]
    return wrong


@pytest.mark.parametrize(
    ("part_name", "fault"),
    [
        ("attention", shifted_row),
        ("attention", lambda output: output * 1.02),
        (
            "attention",
            lambda output: output.float().nan_to_num(0).index_fill(1, torch.tensor(7), 0),
        ),
        ("ffn", lambda outputs: outputs[0].index_fill(2, torch.tensor([5]), torch.nan)),
        ("layer", lambda outputs: (outputs[0] * 0.98, outputs[1])),
    ],
)
def test_a_fault_shows(part_name, fault):
    record = check_part_before(faulty(part_name, fault), 3, "bf16")
    assert not record["passed"]
    assert record["failures"]


def test_a_layer_that_leaves_its_cache_unfilled_shows():
    part_engine = engine("layer", "eager")
    right = part_engine._step.run

    def without_cache():
        before = part_engine.problem.inputs["cached keys"].clone()
        outputs = right()
        part_engine.problem.inputs["cached keys"].copy_(before)
        return outputs

    part_engine._step.run = without_cache
    assert "cached keys" in check_part_before(part_engine, 3, "bf16")["failures"][0]


def test_what_was_timed_is_checked_and_not_only_what_came_before():
    part_engine = engine("attention", "flash", "fp32")
    before = check_part_before(part_engine, 3, "fp32")
    assert before["passed"]
    part_engine.load(4)
    part_engine.forward()
    assert check_timed_part(part_engine, "fp32", before)["passed"]
    part_engine._outputs = (part_engine._outputs[0] * 1.001,)
    assert "timed run: output" in check_timed_part(part_engine, "fp32", before)["failures"][0]


def test_times_of_a_run_are_the_launched_step_and_the_graph():
    workload = Attention(64)
    assert workload.times(Run([3e-5, 1e-4, 2e-5], None)) == {"attention_s": 3e-5, "graph_s": 2e-5}
    assert workload.times(Run([3e-3], None)) == {"attention_s": 3e-3}
    both = Attention(64, backward=True).times(Run([1e-3, 2e-3], None))
    assert both["attention_s"] == pytest.approx(3e-3)
