"""The decoder: weights in modules, computation in pure functions that a mode may compile.

A forward is `begin` (embedding, RoPE rows, mask), one function per layer and `finish` (norm, head,
greedy choice). All layers of one kind share one pure function of their tensors, so a compiler that
compiles or traces a layer once serves all of them. A layer takes the residual stream and the update
that the previous layer still owes it: the addition then sits beside the norm that reads its
result, where a compiler can fuse the two although it sees one layer only.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from architectures.attention import make_attention
from architectures.cache import LayerCache
from architectures.kernel_choice import Kernels
from architectures.linear import make_linear
from architectures.rope import rope_tables
from models import DenseFeedForward, GroupedQueryAttention, ModelConfig

Transform = Callable[[Callable], Callable]
LayerTransform = Callable[["DecoderLayer", Callable], Callable]


class DecoderLayer(nn.Module):
    """One layer's weights: qkv and gate/up each fused into one matrix."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        attention, hidden = config.attention, config.hidden_size
        q_rows = attention.num_heads * attention.head_dim
        kv_rows = attention.num_kv_heads * attention.head_dim
        self.input_layernorm = nn.RMSNorm(hidden, config.norm_eps)
        self.qkv_proj = nn.Linear(hidden, q_rows + 2 * kv_rows, bias=False)
        self.o_proj = nn.Linear(q_rows, hidden, bias=False)
        self.post_attention_layernorm = nn.RMSNorm(hidden, config.norm_eps)
        self.gate_up_proj = nn.Linear(hidden, 2 * config.feed_forward.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.feed_forward.intermediate_size, hidden, bias=False)

    def weights(self) -> tuple:
        """(norms, attention weights, feed-forward weights), as the layer function takes them."""
        return (
            (self.input_layernorm.weight, self.post_attention_layernorm.weight),
            (self.qkv_proj.weight, self.o_proj.weight),
            (self.gate_up_proj.weight, self.down_proj.weight),
        )


class Decoder(nn.Module):
    """All weights of a model, with RoPE tables for context_length positions."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_layers))
        self.norm = nn.RMSNorm(config.hidden_size, config.norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tied_embeddings:
            self.lm_head.weight = self.embed_tokens.weight

    def set_context_length(self, length: int) -> None:
        """(Re)build the RoPE tables [length, head_dim] in the weights' dtype and on their device."""
        weight = self.norm.weight
        head_dim = self.config.attention.head_dim
        tables = rope_tables(self.config.rope, head_dim, length, weight.dtype, weight.device)
        self.register_buffer("rope_cos", tables[0], persistent=False)
        self.register_buffer("rope_sin", tables[1], persistent=False)


class Forward(nn.Module):
    """One forward over a prompt or a single token: (logits of the last position, next token).

    Args:
        decoder: the weights.
        kernels: what computes attention and linear layers of a single token.
        transform: applied once to each distinct pure function, say torch.compile.
        layer_transform: applied to each layer and its function instead, where a compiler has to
            own the layer's weights.
    """

    def __init__(
        self,
        decoder: Decoder,
        kernels: Kernels,
        transform: Transform | None = None,
        layer_transform: LayerTransform | None = None,
    ) -> None:
        super().__init__()
        self.decoder = decoder
        transform = transform or (lambda function: function)
        config = decoder.config
        self.begin = transform(make_begin(uses_mask=kernels.attention == "sdpa"))
        shared = make_layer(config.attention, config.feed_forward, config.norm_eps, kernels)
        if layer_transform is None:
            shared = transform(shared)
            self.layer_functions = [shared] * config.num_layers
        else:
            self.layer_functions = [layer_transform(layer, shared) for layer in decoder.layers]
        self.finish = transform(make_finish(config.norm_eps, kernels.linear))

    def forward(self, tokens: Tensor, position: Tensor, caches: list[LayerCache]):
        """
        Args:
            tokens: [batch, length], int64: a prompt from position 0, or one token per sequence.
            position: [1], int64: where a single token stands; ignored for a prompt.
            caches: one tuple of tensors per layer, updated in place.

        Returns:
            logits [batch, vocab] of the last position, and the greedy next token [batch, 1].
        """
        decoder = self.decoder
        residual, update, cos, sin, mask = self.begin(
            tokens,
            position,
            caches[0][0],
            decoder.embed_tokens.weight,
            decoder.rope_cos,
            decoder.rope_sin,
        )
        layers: Iterable = zip(decoder.layers, self.layer_functions, caches, strict=True)
        for layer, function, cache in layers:
            weights = layer.weights()
            update, residual = function(update, residual, cos, sin, position, mask, weights, cache)
        return self.finish(update, residual, decoder.norm.weight, decoder.lm_head.weight)


@lru_cache
def make_begin(uses_mask: bool) -> Callable:
    def begin(tokens, position, some_cache, embedding, rope_cos, rope_sin):
        residual = F.embedding(tokens, embedding)
        length = tokens.shape[1]
        mask = None
        if length > 1:
            cos, sin = rope_cos[:length], rope_sin[:length]
        else:
            cos = torch.index_select(rope_cos, 0, position)
            sin = torch.index_select(rope_sin, 0, position)
            if uses_mask:
                slots = torch.arange(some_cache.shape[2], device=tokens.device)
                mask = (slots <= position)[None, None, None, :]  # [1, 1, 1, cache_length]
        return residual, torch.zeros_like(residual), cos, sin, mask

    return begin


@lru_cache
def make_layer(
    attention: GroupedQueryAttention,
    feed_forward: DenseFeedForward,
    norm_eps: float,
    kernels: Kernels,
) -> Callable:
    """The pure function of a layer of this kind; the same object for every such layer."""
    linear = make_linear(kernels.linear)
    attend = make_attention(attention, kernels)

    def layer(update, residual, cos, sin, position, mask, weights, cache):
        norms, attention_weights, feed_forward_weights = weights
        residual = residual + update
        hidden = rms_norm(residual, norms[0], norm_eps)
        update = attend(hidden, cos, sin, position, mask, attention_weights, cache)
        residual = residual + update
        hidden = rms_norm(residual, norms[1], norm_eps)
        return swiglu(hidden, feed_forward_weights, linear), residual

    return layer


@lru_cache
def make_finish(norm_eps: float, linear_backend: str) -> Callable:
    linear = make_linear(linear_backend)

    def finish(update, residual, norm_weight, head_weight):
        last = residual[:, -1] + update[:, -1]
        logits = linear(rms_norm(last, norm_weight, norm_eps), head_weight)
        return logits, torch.argmax(logits, dim=-1, keepdim=True)

    return finish


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), weight, eps)


def swiglu(hidden: Tensor, weights: tuple[Tensor, Tensor], linear: Callable) -> Tensor:
    gate_up_weight, down_weight = weights
    gate, up = linear(hidden, gate_up_weight).chunk(2, dim=-1)
    return linear(F.silu(gate) * up, down_weight)
