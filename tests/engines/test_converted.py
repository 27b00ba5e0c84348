"""PyTorch in other types than the session's: its weights, and what asks for these cells."""

import pytest
import torch

from inference_benchmark.engines import ENGINES
from inference_benchmark.engines.base import EnginePlan, Resources
from inference_benchmark.engines.converted import converted
from inference_benchmark.errors import CannotRun
from inference_benchmark.model.weights import build_decoder
from inference_benchmark.models import MODELS
from inference_benchmark.options.flags import make_parser
from inference_benchmark.options.resolution import resolve
from inference_benchmark.output_check import check_before

MODEL = MODELS["llama-tiny"].with_layers(1)
INPUT, OUTPUT = 8, 6


def request_of(*flags: str):
    return resolve(make_parser().parse_args(["--device", "cpu", *flags]))


def test_weights_are_rounded_to_the_type_and_ours_stay():
    decoder = build_decoder(MODEL, "bf16", "cpu", 16)
    before = decoder.layers[0].qkv_proj.weight.clone()
    copy = converted(decoder, "fp32")
    assert {weight.dtype for weight in copy.parameters()} == {torch.float32}
    assert torch.equal(copy.layers[0].qkv_proj.weight, before.float())
    assert torch.equal(decoder.layers[0].qkv_proj.weight, before)
    assert copy.rope_cos.shape == decoder.rope_cos.shape


@pytest.mark.parametrize(
    ("name", "precision"), [("pytorch-base", "fp32"), ("pytorch-fp16", "fp16")]
)
def test_it_is_checked_against_its_own_weights(name, precision):
    decoder = build_decoder(MODEL, "bf16", "cpu", INPUT + OUTPUT)
    engine = ENGINES[name].load()(EnginePlan(2, INPUT, INPUT + OUTPUT), Resources(decoder))
    generator = torch.Generator().manual_seed(1)
    prompts = [torch.randint(1000, (2, INPUT), generator=generator) for _ in range(2)]
    record = check_before(engine, engine.decoder, prompts, precision, seed=0)
    assert record["passed"], record["failures"]
    # fp16 rounds eight times finer than bf16 does, fp32 by far
    assert record["floor"] < {"fp16": 2e-3, "fp32": 1e-5}[precision]


def test_flags_ask_for_cells():
    base = request_of("--pytorch-base")
    assert [spec.label for spec in base.specs] == ["pytorch-base"]
    assert base.precision_of(base.specs[0]).name == "fp32"
    both = request_of("--pytorch-base", "--pytorch-optimised")
    assert [spec.label for spec in both.specs] == [
        "pytorch-base",
        "pytorch-fp16",
        "pytorch-optimised",
    ]
    assert both.baseline == "pytorch-fp16"
    beside = request_of("--pytorch-optimised", "--mode", "eager", "--baseline", "eager")
    assert [spec.label for spec in beside.specs] == ["eager", "pytorch-optimised"]
    assert beside.baseline == "eager"


def test_several_ranks_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(CannotRun, match="on one GPU alone"):
        request_of("--pytorch-base")
