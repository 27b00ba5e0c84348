"""The static KV cache: allocated once for the longest context, updated in place, never grown.

A layer's cache is a tuple of tensors that its attention defines: for grouped-query
attention keys and values, each [batch, kv_heads, cache_length, head_dim]; for latent attention one
tensor [batch, 1, cache_length, latent_dim + rope_dim].
"""

import torch
from torch import Tensor

from inference_benchmark.model.config import ModelConfig

LayerCache = tuple[Tensor, ...]


def allocate_cache(
    config: ModelConfig,
    batch_size: int,
    cache_length: int,
    dtype: torch.dtype,
    device: torch.device | str,
) -> list[LayerCache]:
    """Zeroed caches of all layers. Every tensor has memory of its own: torch 2.11's inductor
    misplaces in-place updates of two inputs that share an allocation."""
    return [
        tuple(
            torch.zeros((batch_size, *shape), dtype=dtype, device=device)
            for shape in layer.attention.cache_shapes(cache_length)
        )
        for layer in config.layers
    ]


def fill_cache(cache: LayerCache, layer: int, seed: int) -> None:
    """Random values in every slot, the same for every cache of this shape: the context that a depth
    starts from. Of unit variance, as random weights make keys, values and latent vectors."""
    generator = torch.Generator(cache[0].device).manual_seed(seed * 1_000_003 + layer)
    for tensor in cache:
        tensor.normal_(generator=generator)


def write_cache(cache: Tensor, values: Tensor, position: Tensor, context_depth: int = 0) -> Tensor:
    """Write values into cache in place and return the cache.

    Args:
        cache: [batch, kv_heads, cache_length, head_dim]
        values: [batch, kv_heads, length, head_dim]; a prompt (length > 1) starts at slot
            context_depth, a single token goes to slot `position`.
        position: [1], int64, on the device.

    The cache is returned so that a tracer which only follows values keeps the write before the read.
    """
    length = values.shape[2]
    if length > 1:
        cache[:, :, context_depth : context_depth + length].copy_(values)
    else:
        cache.index_copy_(2, position, values)
    return cache
