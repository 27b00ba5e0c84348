"""What layers are made of: the configuration of every part, in one place to import from. No torch.

A layer is an attention part and a feed-forward part. Each part counts for itself (parameters, cache
values, FLOPs) beside its configuration, so a new one brings its own arithmetic along; part_modules.py
says which file has its weights and its function.
"""

from dataclasses import dataclass

from inference_benchmark.model.attention.grouped_query_config import (
    AttentionTemperature,
    GroupedQueryAttention,
)
from inference_benchmark.model.attention.latent_config import LatentAttention
from inference_benchmark.model.feed_forward.dense_config import DenseFeedForward
from inference_benchmark.model.feed_forward.mixture_config import (
    GroupLimitedRouter,
    InputRouter,
    MixtureOfExperts,
)
from inference_benchmark.model.rope_config import (
    Llama3RopeScaling,
    Rope,
    RopeFactors,
    YarnRopeScaling,
)

__all__ = [
    "Attention",
    "AttentionTemperature",
    "DenseFeedForward",
    "FeedForward",
    "GroupLimitedRouter",
    "GroupedQueryAttention",
    "InputRouter",
    "LatentAttention",
    "LayerConfig",
    "Llama3RopeScaling",
    "MixtureOfExperts",
    "Rope",
    "RopeFactors",
    "YarnRopeScaling",
]

Attention = GroupedQueryAttention | LatentAttention
FeedForward = DenseFeedForward | MixtureOfExperts


@dataclass(frozen=True)
class LayerConfig:
    """One layer. Layers that are equal share one compiled function."""

    attention: Attention
    feed_forward: FeedForward
