"""Llama 2, 3.1 and 3.2, OpenLLaMA: grouped-query attention and a dense feed-forward network in every layer."""

from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.config_json import common, heads, size, written
from inference_benchmark.model.family import Family, by_name
from inference_benchmark.model.parts import (
    DenseFeedForward,
    GroupedQueryAttention,
    Llama3RopeScaling,
    Rope,
)

_LLAMA31_ROPE = Rope(500000.0, Llama3RopeScaling(factor=8.0))
_LLAMA32_ROPE = Rope(500000.0, Llama3RopeScaling(factor=32.0))
_LLAMA2_ROPE = Rope(10000.0)


def _gqa(num_heads: int, num_kv_heads: int, head_dim: int = 128) -> GroupedQueryAttention:
    return GroupedQueryAttention(num_heads, num_kv_heads, head_dim)


# fmt: off
PRESETS = by_name(
    #           name             vocab  hidden layers heads, KV heads   feed-forward             context  RoPE
    ModelConfig("llama3.1-8b",   128256,  4096,  32, _gqa(32, 8),       DenseFeedForward(14336), 131072, _LLAMA31_ROPE),
    ModelConfig("llama3.1-70b",  128256,  8192,  80, _gqa(64, 8),       DenseFeedForward(28672), 131072, _LLAMA31_ROPE),
    ModelConfig("llama3.1-405b", 128256, 16384, 126, _gqa(128, 8),      DenseFeedForward(53248), 131072, _LLAMA31_ROPE),
    ModelConfig("llama3.2-1b",   128256,  2048,  16, _gqa(32, 8, 64),   DenseFeedForward(8192),  131072, _LLAMA32_ROPE,
                tied_embeddings=True),
    ModelConfig("llama2-7b",      32000,  4096,  32, _gqa(32, 32),      DenseFeedForward(11008),   4096, _LLAMA2_ROPE),
    ModelConfig("llama2-13b",     32000,  5120,  40, _gqa(40, 40),      DenseFeedForward(13824),   4096, _LLAMA2_ROPE),
    ModelConfig("llama2-70b",     32000,  8192,  80, _gqa(64, 8),       DenseFeedForward(28672),   4096, _LLAMA2_ROPE),
    ModelConfig("open-llama-3b",  32000,  3200,  26, _gqa(32, 32, 100), DenseFeedForward(8640),    2048, _LLAMA2_ROPE,
                norm_eps=1e-6),
    ModelConfig("llama-tiny",      1000,   512,   4, _gqa(8, 2, 64),    DenseFeedForward(1376),    8192, _LLAMA2_ROPE),
)
# fmt: on


def is_llama(config: ModelConfig) -> bool:
    """Whether all layers are alike and have what Llama has of the same size, whatever its RoPE."""
    if len(config.layer_kinds) > 1 or config.tensor_parallel > 1:
        return False
    attention, feed_forward = config.layers[0].attention, config.layers[0].feed_forward
    if not isinstance(attention, GroupedQueryAttention):
        return False
    plain = _gqa(attention.num_heads, attention.num_kv_heads, attention.head_dim)
    return isinstance(feed_forward, DenseFeedForward) and attention == plain


def read(name: str, config: dict) -> ModelConfig:
    return ModelConfig(
        **common(name, config, "llama"),
        attention=GroupedQueryAttention(*heads(config)),
        feed_forward=DenseFeedForward(size(config, "intermediate_size")),
    )


def write(model: ModelConfig) -> dict:
    return written(model, "LlamaForCausalLM", "llama")


FAMILY = Family("llama", PRESETS, {"LlamaForCausalLM": read}, write=write)
