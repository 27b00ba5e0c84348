"""A model family in one file: presets, how config.json is read, what checkpoints call tensors.

    python examples/model_family.py --model-name plain-130m --mode eager

The invented "Plain" models have layers without RoPE among those with it, and call the feed-forward
network `ffn`. In the project itself this is a file in inference_benchmark/model/families, listed in
families/__init__.py, and a line per model in models.py. Parts it could use: model/parts.py.
"""

from inference_benchmark.model.config import ModelConfig, every
from inference_benchmark.model.config_json import common, heads, size
from inference_benchmark.model.family import Family, by_name
from inference_benchmark.model.parts import DenseFeedForward, GroupedQueryAttention, Rope
from inference_benchmark.models import register_family


def attention(num_heads: int, num_kv_heads: int, head_dim: int, num_layers: int) -> tuple:
    """Every third layer carries no positions."""
    rope = GroupedQueryAttention(num_heads, num_kv_heads, head_dim)
    without = GroupedQueryAttention(num_heads, num_kv_heads, head_dim, uses_rope=False)
    return every(3, without, rope, num_layers)


# fmt: off
PRESETS = by_name(
    #           name         vocab hidden layers attention            feed-forward            context RoPE
    ModelConfig("plain-5m",    1000, 256,  6, attention(4, 2, 64, 6),    DenseFeedForward(704),  4096, Rope(10000.0),
                tied_embeddings=True, family="plain"),
    ModelConfig("plain-130m", 32000, 768, 12, attention(12, 4, 64, 12), DenseFeedForward(2048), 4096, Rope(10000.0),
                tied_embeddings=True, family="plain"),
)
# fmt: on


def read(name: str, config: dict) -> ModelConfig:
    fields = common(name, config, "plain")
    return ModelConfig(
        **fields,
        attention=attention(*heads(config), fields["num_layers"]),
        feed_forward=DenseFeedForward(size(config, "intermediate_size")),
    )


PLAIN = Family("plain", PRESETS, {"PlainForCausalLM": read}, tensor_names={"mlp": "ffn"})
register_family(PLAIN)

if __name__ == "__main__":
    from inference_benchmark.benchmark_inference import run_program

    run_program()
