"""Qwen3, the dense models: as Llama, with learned norms of each head's queries and keys."""

from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.config_json import common, demand, heads, size, written
from inference_benchmark.model.family import Family, by_name
from inference_benchmark.model.parts import DenseFeedForward, GroupedQueryAttention, Rope


def _gqa(num_heads: int, num_kv_heads: int, head_dim: int = 128) -> GroupedQueryAttention:
    return GroupedQueryAttention(num_heads, num_kv_heads, head_dim, learned_qk_norm=True)


# fmt: off
PRESETS = by_name(
    #           name        vocab   hidden layers heads, KV heads  feed-forward        context RoPE
    ModelConfig("qwen3-8b", 151936, 4096, 36, _gqa(32, 8), DenseFeedForward(12288), 40960, Rope(1000000.0),
                norm_eps=1e-6, family="qwen3"),
)
# fmt: on


def read(name: str, config: dict) -> ModelConfig:
    demand(config, use_sliding_window=(False, None))
    return ModelConfig(
        **common(name, config, "qwen3"),
        attention=_gqa(*heads({"head_dim": 128, **config})),
        feed_forward=DenseFeedForward(size(config, "intermediate_size")),
    )


def write(model: ModelConfig) -> dict:
    return written(model, "Qwen3ForCausalLM", "qwen3")


FAMILY = Family("qwen3", PRESETS, {"Qwen3ForCausalLM": read}, write=write)
