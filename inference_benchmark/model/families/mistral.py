"""Mistral from v0.3 on: as Llama. Attention within a sliding window (v0.1) is not supported."""

from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.config_json import Unsupported, common, heads, size, written
from inference_benchmark.model.family import Family, by_name
from inference_benchmark.model.parts import DenseFeedForward, GroupedQueryAttention, Rope

# fmt: off
PRESETS = by_name(
    #           name         vocab hidden layers heads, KV heads, dim          feed-forward             context RoPE
    ModelConfig("mistral-7b", 32768, 4096, 32, GroupedQueryAttention(32, 8, 128), DenseFeedForward(14336), 32768, Rope(1000000.0),
                family="mistral"),  # v0.3
)
# fmt: on


def read(name: str, config: dict) -> ModelConfig:
    if config["sliding_window"] is not None:  # transformers takes 4096 where it is absent
        raise Unsupported("sliding_window", config["sliding_window"])
    return ModelConfig(
        **common(name, config, "mistral"),
        attention=GroupedQueryAttention(*heads(config)),
        feed_forward=DenseFeedForward(size(config, "intermediate_size")),
    )


def write(model: ModelConfig) -> dict:
    return written(model, "MistralForCausalLM", "mistral") | {"sliding_window": None}


FAMILY = Family("mistral", PRESETS, {"MistralForCausalLM": read}, write=write)
