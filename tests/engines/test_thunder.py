"""thunder's own options: an option that nothing asks for is refused, never timed under its name."""

import pytest
import torch
from step_engines import make_engine

from inference_benchmark.errors import CannotRun
from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.parts import DenseFeedForward, GroupedQueryAttention, Rope
from inference_benchmark.model.weights import build_decoder

TINY = ModelConfig(
    "tiny",
    vocab_size=31,
    hidden_size=32,
    num_layers=1,
    attention=GroupedQueryAttention(num_heads=2, num_kv_heads=1, head_dim=16),
    feed_forward=DenseFeedForward(48),
    context_length=16,
    rope=Rope(10000.0),
)


def test_an_option_that_nothing_asks_for_is_refused():
    decoder = build_decoder(TINY, "fp32", "cpu", context_length=16)
    options = (("cache", "constant values"), ("nv_enable_linear", True))
    engine = make_engine("thunder", decoder, 1, 4, 16, compile_options=options)
    engine.prefill(torch.tensor([[1, 2, 3, 4]]))
    with pytest.raises(CannotRun, match="nv_enable_linear does nothing in this model's trace"):
        engine.compiler_stats()
