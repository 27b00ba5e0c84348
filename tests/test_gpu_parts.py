"""On a GPU: parts of a layer, launched and in a CUDA graph, against the same in fp32."""

from dataclasses import replace

import pytest

from inference_benchmark.engines.base import EnginePlan, Resources
from inference_benchmark.engines.parts.engine import PartEngine
from inference_benchmark.model.layer_part import LayerPart
from inference_benchmark.model.weights import build_decoder
from inference_benchmark.models import MODELS
from inference_benchmark.output_check.part import check_part_before, check_timed_part

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("decode", [False, True], ids=["prompt", "decode"])
@pytest.mark.parametrize("name", ["math", "flash", "efficient", "cudnn", "flex", "ours"])
def test_an_implementation_of_attention_and_its_graph(name, decode):
    """Launched and in a CUDA graph, from a cold L2 cache, of heads that share nothing."""
    part = LayerPart("attention", 200, decode=decode)
    decoder = build_decoder(MODELS["llama2-7b"].one_layer(), "bf16", "cuda", 200)
    with PartEngine(EnginePlan(2, 200, 0, mode=name, part=part), Resources(decoder)) as engine:
        engine.load(0)
        engine.step()
        engine.capture_if_short()
        assert engine.has_graph
        before = check_part_before(engine, 1, "bf16")
        assert before["passed"], before["failures"]
        engine.load(2)
        engine.flush()
        engine.forward()
        engine.replay()
        assert check_timed_part(engine, "bf16", before)["passed"]
        assert engine.step_peak_bytes() > 0


def test_a_latent_step_of_ours():
    model = MODELS["deepseekv3-670b"].one_layer()
    attention = replace(model.attention, num_heads=16)
    dense = MODELS["llama2-7b"].one_layer().feed_forward
    model = replace(model, attention=attention, feed_forward=dense)
    decoder = build_decoder(model, "bf16", "cuda", 200)
    part = LayerPart("attention", 200, decode=True)
    with PartEngine(EnginePlan(2, 200, 0, mode="ours", part=part), Resources(decoder)) as engine:
        engine.load(0)
        engine.step()
        record = check_part_before(engine, 1, "bf16")
        assert record["passed"], record["failures"]
