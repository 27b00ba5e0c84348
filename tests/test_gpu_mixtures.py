"""On a GPU: DeepSeek V3 and Llama 4 in their true widths, captured in bf16, against the gate."""

from dataclasses import replace

import pytest
import torch
from step_engines import make_engine

from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.kernel_choice import KernelConfig
from inference_benchmark.model.weights import build_decoder
from inference_benchmark.models import MODELS
from inference_benchmark.output_check import check_before

pytestmark = pytest.mark.gpu
OURS = KernelConfig(attention="flash_decode", linear="gemv", experts="fused")
LOOP = KernelConfig(experts="loop")

PROMPT, CACHE = 1000, 1064


def deepseek() -> ModelConfig:
    """Three dense layers and one mixture, of 32 experts instead of 256."""
    config = MODELS["deepseekv3-670b"].with_layers(4)
    *dense, mixture = config.feed_forward
    return replace(config, feed_forward=(*dense, replace(mixture, num_experts=32)))


@pytest.fixture(
    scope="module",
    params=[deepseek, lambda: MODELS["llama4-scout"].with_layers(4)],
    ids=["deepseek", "llama4"],
)
def decoder(request):
    return build_decoder(request.param(), "bf16", "cuda", CACHE)


@pytest.mark.parametrize("mode", ["eager", "inductor", "thunder"])
@pytest.mark.parametrize("batch", [1, 3])
def test_captured_graphs_pass_the_gate(decoder, mode, batch):
    vocab = decoder.config.vocab_size
    engine = make_engine(mode, decoder, batch, PROMPT, CACHE, OURS)
    prompts = [torch.randint(vocab, (batch, PROMPT), device="cuda") for _ in range(3)]
    engine.prefill(prompts[0])
    engine.decode()
    engine.capture()
    record = check_before(engine, decoder, prompts[1:], "bf16", seed=1)
    assert record["passed"], record
