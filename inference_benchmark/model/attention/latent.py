"""Multi-head latent attention: one compressed vector per token instead of keys and values per head.

The cache holds, per token, the normalised latent vector and a rotated key that all heads share. A
prompt expands them to keys and values per head and attends as usual. For a single token that would
mean expanding the whole cache, so it runs in the absorbed form: the key projection is applied to
the query instead, the value projection to the result, and all heads attend to the cache as it is,
as if to one KV head with a value that is part of its key. The scores of all heads are then a matrix
product with the cache, which many heads share: `sdpa` in plain PyTorch over the whole cache, where a
mask hides the unfilled slots, `flash_decode` by our kernel over the filled ones.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inference_benchmark.kernels.latent_decode import latent_decode
from inference_benchmark.model.attention.causal import choose_causal_attention
from inference_benchmark.model.attention.grouped_query import Attend
from inference_benchmark.model.attention.latent_config import LatentAttention
from inference_benchmark.model.cache import write_cache
from inference_benchmark.model.checkpoint_layout import Layout, Target, rope_rows, unchanged
from inference_benchmark.model.kernel_choice import KernelConfig, needs_mask
from inference_benchmark.model.linear import Linear
from inference_benchmark.model.rope import apply_rope
from inference_benchmark.parallel.sharding import Shard, WeightShard, WeightShards

# Of the two norms inside attention, whatever the others use; as published.
_NORM_EPS = 1e-6


class KeyValueUp(nn.Linear):
    """Keys and values per head of a latent vector."""

    keeps_base_type = True  # the absorbed form multiplies by slices of it, which no format has


def modules(config: LatentAttention, hidden_size: int) -> dict[str, nn.Module]:
    """The weights: what makes `down`, then in the order in which attend takes them.

    The projections down from the hidden size lie in one matrix: query rank, latent, shared key.
    """
    down_rows = config.query_rank + config.cache_dim
    key_and_value = config.nope_dim + config.value_dim
    return {
        "qkv_a_proj": nn.Linear(hidden_size, down_rows, bias=False),
        "q_a_layernorm": nn.RMSNorm(config.query_rank, _NORM_EPS),
        "q_b_proj": nn.Linear(config.query_rank, config.num_heads * config.query_dim, bias=False),
        "kv_a_layernorm": nn.RMSNorm(config.latent_dim, _NORM_EPS),
        "kv_b_proj": KeyValueUp(config.latent_dim, config.num_heads * key_and_value, bias=False),
        "o_proj": nn.Linear(config.num_heads * config.value_dim, hidden_size, bias=False),
    }


def weight_shards(config: LatentAttention, shard: Shard) -> WeightShards:
    """config: that of the full model."""
    heads = config.num_heads
    key_and_value = config.nope_dim + config.value_dim
    return {
        "q_b_proj": WeightShard(0, (shard.rows(heads * config.query_dim),)),
        "kv_b_proj": WeightShard(0, (shard.rows(heads * key_and_value),)),
        "o_proj": WeightShard(1, (shard.rows(heads * config.value_dim),)),
    }


def checkpoint_tensors(
    layer: nn.Module, config: LatentAttention, layout: Layout, shards: WeightShards
) -> Iterator[tuple[str, Target]]:
    q_down, kv_down = layer.qkv_a_proj.weight.split((config.query_rank, config.cache_dim))
    q_rows = kv_rows = unchanged
    if layout.interleaved_rope:
        q_rows = rope_rows(config.query_dim, config.rope_dim)
        kv_rows = rope_rows(config.cache_dim, config.rope_dim)
    yield "q_a_proj.weight", Target(q_down)
    yield "kv_a_proj_with_mqa.weight", Target(kv_down, kv_rows)
    yield "q_b_proj.weight", Target(layer.q_b_proj.weight, q_rows, shard=shards.get("q_b_proj"))
    for name in ("q_a_layernorm", "kv_a_layernorm", "kv_b_proj", "o_proj"):
        yield f"{name}.weight", Target(getattr(layer, name).weight, shard=shards.get(name))


def make_function(
    config: LatentAttention,
    norm_eps: float,
    kernels: KernelConfig,
    linear: Linear,
    context_depth: int = 0,
) -> Attend:
    """attend(down, cos, sin, position, mask, weights, (cache,)) -> [batch, length, hidden].

    down: what the first matrix makes of the hidden vectors; weights: the others.

    context_depth: filled slots that a prompt stands behind; it expands these as well.
    """
    heads, rope_dim = config.num_heads, config.rope_dim
    attend_absorbed = _attend_masked if needs_mask(config, kernels) else _attend_flash
    over_prompt = choose_causal_attention(kernels)

    def attend(down, cos, sin, position, mask, weights, cache):
        q_norm, q_up_weight, kv_norm, kv_up_weight, output_weight = weights
        batch, length, _ = down.shape
        q_down = down[..., : config.query_rank]
        latent = down[..., config.query_rank : -rope_dim]
        q_down = F.rms_norm(q_down, (config.query_rank,), q_norm, _NORM_EPS)
        latent = F.rms_norm(latent, (config.latent_dim,), kv_norm, _NORM_EPS)[:, None]
        q = linear(q_down, q_up_weight)
        q = q.view(batch, length, heads, config.query_dim).transpose(1, 2)
        q_nope = q[..., : config.nope_dim]
        q_rope = apply_rope(q[..., config.nope_dim :], cos, sin)
        k_rope = apply_rope(down[..., -rope_dim:][:, None], cos, sin)
        if cache:
            latent_and_key = torch.cat((latent, k_rope), dim=-1)
            filled = write_cache(cache[0], latent_and_key, position, context_depth)
        if length > 1:
            if context_depth:
                so_far = filled[:, :, : context_depth + length]
                latent, k_rope = so_far[..., :-rope_dim], so_far[..., -rope_dim:]
            k, v = _expand(config, latent, k_rope, kv_up_weight)
            q = torch.cat((q_nope, q_rope), dim=-1)
            context = over_prompt(q, k, v, config.softmax_scale)
        else:
            key_up, value_up = _absorbed(config, kv_up_weight)
            q_latent = torch.matmul(q_nope[:, :, 0].transpose(0, 1), key_up).transpose(0, 1)
            context = attend_absorbed(config, q_latent, q_rope[:, :, 0], filled, position, mask)
            context = torch.matmul(context.transpose(0, 1), value_up.transpose(1, 2))
            context = context.transpose(0, 1)[:, :, None]
        context = context.transpose(1, 2).reshape(batch, length, heads * config.value_dim)
        return linear(context, output_weight)

    return attend


def _expand(
    config: LatentAttention,
    latent: Tensor,  # [batch, 1, length, latent_dim]
    k_rope: Tensor,  # [batch, 1, length, rope_dim]
    kv_up_weight: Tensor,
) -> tuple[Tensor, Tensor]:
    """Keys and values of every head, [batch, heads, length, query_dim or value_dim]."""
    batch, _, length, _ = latent.shape
    heads, nope_dim = config.num_heads, config.nope_dim
    expanded = F.linear(latent[:, 0], kv_up_weight, None)
    expanded = expanded.view(batch, length, heads, nope_dim + config.value_dim).transpose(1, 2)
    shared = k_rope.expand(batch, heads, length, config.rope_dim)
    k = torch.cat((expanded[..., :nope_dim], shared), dim=-1)
    return k, expanded[..., nope_dim:]


def _absorbed(config: LatentAttention, kv_up_weight: Tensor) -> tuple[Tensor, Tensor]:
    """Each head's projections of the latent vector, [heads, nope_dim or value_dim, latent_dim]."""
    up = kv_up_weight.view(config.num_heads, config.nope_dim + config.value_dim, config.latent_dim)
    return up[:, : config.nope_dim], up[:, config.nope_dim :]


def _attend_masked(
    config: LatentAttention,
    q_latent: Tensor,  # [batch, heads, latent_dim]
    q_rope: Tensor,  # [batch, heads, rope_dim]
    cache: Tensor,  # [batch, 1, cache_length, latent_dim + rope_dim]
    position: Tensor,
    mask: Tensor,  # [1, 1, 1, cache_length]
) -> Tensor:
    """-> [batch, heads, latent_dim]."""
    q, keys = torch.cat((q_latent, q_rope), dim=-1), cache[:, 0]
    scores = torch.matmul(q, keys.transpose(1, 2)).to(torch.float32) * config.softmax_scale
    scores = scores.masked_fill(torch.logical_not(mask[:, 0]), float("-inf"))
    shares = torch.softmax(scores, dim=-1).to(q.dtype)
    return torch.matmul(shares, keys[..., : config.latent_dim])


def _attend_flash(
    config: LatentAttention,
    q_latent: Tensor,
    q_rope: Tensor,
    cache: Tensor,
    position: Tensor,
    mask: None,
) -> Tensor:
    """The same over the slots up to position [1]."""
    return latent_decode(q_latent, q_rope, cache, position, config.softmax_scale)
