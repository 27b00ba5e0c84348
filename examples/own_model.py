"""A model of your own, in one file, against this project's build of the same preset.

    python benchmark_inference.py --implementation default examples/own_model.py:build \\
        --model-name llama-tiny --mode eager --workload forward

`build(config)` gets sizes in the terms of a Hugging Face config.json (PlainConfig in
inference_benchmark/model/implementation.py) and returns an nn.Module. It is called under
torch.device(the session's device), in fp32; its parameters are then cast to --precision and filled
with the session's weights, so that its outputs can be checked. What it has to have:

    forward(input_ids [batch, length]) -> logits [batch, length, vocab]

That is enough for --workload forward and training. Optional:

    decode(input_ids, position, caches) -> logits [batch, vocab] of the last position

for generation. caches is a list with one (keys, values) per layer, each [batch, kv_heads,
cache_length, head_dim], to be written in place: a prompt [batch, length] fills slots 0 .. length - 1,
a single token [batch, 1] the slot `position`, an int64 tensor [1] on the device. Keys are stored as
they are after RoPE. Without it generation is skipped, with that reason. `write_cache` does it in a
way that every mode can trace.

    load_weights(weights)

where parameters have other names than in Hugging Face's checkpoints of the model's family
(`model.layers.0.self_attn.q_proj.weight`); weights maps those names to tensors. Below, all names
are those, so it is left out. tests/model/test_own_model.py runs this file.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from inference_benchmark.model.cache import write_cache


def build(config):
    return Llama(config)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.head_dim, size = config.head_dim, config.hidden_size
        self.group = config.num_attention_heads // config.num_key_value_heads
        kv_size = config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(size, config.num_attention_heads * config.head_dim, bias=False)
        self.k_proj = nn.Linear(size, kv_size, bias=False)
        self.v_proj = nn.Linear(size, kv_size, bias=False)
        self.o_proj = nn.Linear(config.num_attention_heads * config.head_dim, size, bias=False)

    def forward(self, x, cos, sin, position=None, cache=None):
        q, k, v = (
            project(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = self.rotate(q, cos, sin), self.rotate(k, cos, sin)
        if cache is not None:
            keys, values = write_cache(cache[0], k, position), write_cache(cache[1], v, position)
        if x.shape[1] > 1:
            y = F.scaled_dot_product_attention(q, *self.shared(k, v), is_causal=True)
        else:
            filled = (torch.arange(keys.shape[2], device=x.device) <= position)[None, None, None]
            mask = filled.expand(len(x), 1, 1, -1)
            y = F.scaled_dot_product_attention(q, *self.shared(keys, values), attn_mask=mask)
        return self.o_proj(y.transpose(1, 2).flatten(2))

    def shared(self, *tensors):
        """One KV head for each query head: not every compiler's attention knows shared ones."""
        return [torch.repeat_interleave(x, self.group, dim=1) for x in tensors]

    def rotate(self, x, cos, sin):
        first, second = x.chunk(2, dim=-1)
        return x * cos + torch.cat((-second, first), dim=-1) * sin


class FeedForward(nn.Module):
    def __init__(self, config):
        super().__init__()
        sizes = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(*sizes, bias=False)
        self.up_proj = nn.Linear(*sizes, bias=False)
        self.down_proj = nn.Linear(*reversed(sizes), bias=False)

    def forward(self, x):
        return self.down_proj(self.activate(self.gate_proj(x), self.up_proj(x)))

    def activate(self, gate, up):
        return F.silu(gate) * up


class RMSNorm(nn.Module):
    """As papers write it: one operation after the other, in fp32."""

    def __init__(self, size, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x):
        wide = x.float()
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return (wide * scale).to(x.dtype) * self.weight


class Layer(nn.Module):
    attention, feed_forward, norm = Attention, FeedForward, RMSNorm

    def __init__(self, config):
        super().__init__()
        sizes = config.hidden_size, config.rms_norm_eps
        self.self_attn, self.mlp = self.attention(config), self.feed_forward(config)
        self.input_layernorm = self.norm(*sizes)
        self.post_attention_layernorm = self.norm(*sizes)

    def forward(self, x, cos, sin, position=None, cache=None):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, position, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(layer(config) for _ in range(config.num_hidden_layers))
        self.norm = layer.norm(config.hidden_size, config.rms_norm_eps)


class Llama(nn.Module):
    layer = Layer

    def __init__(self, config):
        super().__init__()
        self.model = Decoder(config, self.layer)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        self.register_buffer("frequencies", rope_frequencies(config), persistent=False)

    def forward(self, input_ids):
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        return self.lm_head(self.hidden(input_ids, positions))

    def decode(self, input_ids, position, caches):
        length = input_ids.shape[1]
        positions = position if length == 1 else torch.arange(length, device=input_ids.device)
        return self.lm_head(self.hidden(input_ids, positions, position, caches)[:, -1])

    def hidden(self, input_ids, positions, position=None, caches=None):
        x = self.model.embed_tokens(input_ids)
        angles = torch.outer(positions.float(), self.frequencies).repeat(1, 2)
        dtype = self.lm_head.weight.dtype
        cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
        caches = caches or [None] * len(self.model.layers)
        for layer, cache in zip(self.model.layers, caches, strict=True):
            x = layer(x, cos, sin, position, cache)
        return self.model.norm(x)


def rope_frequencies(config):
    """[head_dim / 2]; slow ones are stretched where config.rope_scaling says so (Llama 3.1)."""
    exponents = torch.arange(0, config.head_dim, 2).float() / config.head_dim
    frequencies = 1.0 / config.rope_theta**exponents
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies
    turns = scaling["original_max_position_embeddings"] * frequencies / (2 * math.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return frequencies * (kept + (1 - kept) / scaling["factor"])
