"""The file that holds the weights and the function of each part of a layer.

Each has modules(config, hidden_size), the weights by name; make_function(...), the pure function of
them; weight_shards(config, shard), what one of several ranks keeps; and checkpoint_tensors(...),
where each tensor of a checkpoint goes.
"""

from collections.abc import Iterator
from types import ModuleType

from torch import nn

from inference_benchmark.model.attention import grouped_query, latent
from inference_benchmark.model.checkpoint_layout import Layout, Target
from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.feed_forward import dense, mixture
from inference_benchmark.model.parts import (
    Attention,
    DenseFeedForward,
    FeedForward,
    GroupedQueryAttention,
    LatentAttention,
    LayerConfig,
    MixtureOfExperts,
)
from inference_benchmark.parallel.sharding import Shard, WeightShard, WeightShards

_FILES: dict[type, ModuleType] = {
    GroupedQueryAttention: grouped_query,
    LatentAttention: latent,
    DenseFeedForward: dense,
    MixtureOfExperts: mixture,
}


def file_of(part: Attention | FeedForward) -> ModuleType:
    return _FILES[type(part)]


def weight_shards(config: ModelConfig, shard: Shard) -> WeightShards:
    """What a rank keeps of each module of the decoder; those without an entry are on every rank.

    config: the full model.
    """
    if shard.size == 1:
        return {}
    shards = {"lm_head": WeightShard(0, (shard.rows(config.vocab_size),))}
    for index, layer in enumerate(config.layers):
        for part in (layer.attention, layer.feed_forward):
            for name, kept in file_of(part).weight_shards(part, shard).items():
                shards[f"layers.{index}.{name}"] = kept
    return shards


def layer_tensors(
    layer: nn.Module, config: LayerConfig, layout: Layout, shards: WeightShards
) -> Iterator[tuple[str, Target]]:
    """Every tensor of a layer, by the name that Llama's checkpoints give it within the layer."""
    for norm in ("input_layernorm", "post_attention_layernorm"):
        yield f"{norm}.weight", Target(getattr(layer, norm).weight)
    for path, part in (("self_attn", config.attention), ("mlp", config.feed_forward)):
        for name, target in file_of(part).checkpoint_tensors(layer, part, layout, shards):
            yield f"{path}.{name}", target
