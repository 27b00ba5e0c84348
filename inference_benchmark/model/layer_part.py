"""A part of one decoder layer that is timed alone, and what it has to do. No torch.

FLOPs and bytes are those of the algorithm: causal attention counts half the square, inputs, weights
and outputs go through memory once, and what lies between them (scores, gate and up) never does. A
backward pass multiplies twice as much as the forward pass, for the gradients of both factors of each
product, and moves twice as much; what a kernel computes again to save memory is not counted.
"""

from dataclasses import dataclass, replace

from inference_benchmark.model.config import ModelConfig, Precision
from inference_benchmark.model.feed_forward.dense_config import DenseFeedForward
from inference_benchmark.model.parts import Attention, GroupedQueryAttention
from inference_benchmark.model.weight_format import Matrix

FEED_FORWARDS = ("swiglu", "gelu")
GELU_WIDTH = 4  # times the hidden size, as in the first transformers
_WITH_BACKWARD = 3
_FP32_BYTES = 4


def layer_for(part: str, model: ModelConfig) -> ModelConfig:
    """What is built of a model for that part of it: one layer of the kind that it has most of,
    without a vocabulary; for attention, which has no weights, with hardly a feed-forward network.
    """
    layer = replace(model.one_layer(), vocab_size=1)
    return replace(layer, feed_forward=DenseFeedForward(1)) if part == "attention" else layer


@dataclass(frozen=True)
class Work:
    """Of one step, forward and backward together."""

    flops: float
    bytes: float
    attention_flops: float = 0.0
    attention_bytes: float = 0.0

    def times(self, factor: float) -> "Work":
        return Work(
            self.flops * factor,
            self.bytes * factor,
            self.attention_flops * factor,
            self.attention_bytes * factor,
        )


@dataclass(frozen=True)
class AttentionShape:
    """Queries [num_heads, tokens, key_dim], keys [num_kv_heads, length, key_dim] and values of
    value_dim -> [num_heads, tokens, value_dim]. scale: of the scores; None: 1 / sqrt(key_dim).
    keys_hold_values: values are the first value_dim elements of the keys."""

    num_heads: int
    num_kv_heads: int
    key_dim: int
    value_dim: int
    scale: float | None = None
    keys_hold_values: bool = False

    @classmethod
    def of(cls, attention: Attention, decode: bool) -> "AttentionShape":
        """Latent attention expands a prompt's keys and values to one per head; a single token
        attends to the cache as it is."""
        heads = attention.num_heads
        if isinstance(attention, GroupedQueryAttention):
            return cls(heads, attention.num_kv_heads, attention.head_dim, attention.head_dim)
        scale = attention.softmax_scale
        if decode:
            return cls(heads, 1, attention.cache_dim, attention.latent_dim, scale, True)
        return cls(heads, heads, attention.query_dim, attention.value_dim, scale)

    def values(self, tokens: int, length: int) -> int:
        """Of all tensors that go in and come out, for one sequence."""
        per_slot = self.key_dim + (0 if self.keys_hold_values else self.value_dim)
        per_token = self.key_dim + self.value_dim
        return self.num_heads * tokens * per_token + self.num_kv_heads * length * per_slot


@dataclass(frozen=True)
class LayerPart:
    """
    name: "attention" (of queries, keys and values: no projections), "ffn" or "layer".
    length: tokens of a prompt; with decode one token per sequence goes in, and this is how many slots
        of the cache it attends to, its own included.
    backward: gradients of inputs and weights as well.
    feed_forward: of "ffn": "swiglu", the model's own, or "gelu", the classic one of two matrices.
    """

    name: str
    length: int
    decode: bool = False
    backward: bool = False
    feed_forward: str = "swiglu"

    @property
    def tokens(self) -> int:
        """Of each sequence that go in."""
        return 1 if self.decode else self.length

    @property
    def label(self) -> str:
        """What is timed: "attention", "attention decode", "ffn gelu backward"."""
        further = [self.feed_forward] if self.name == "ffn" else []
        further += ["decode"] * self.decode + ["backward"] * self.backward
        return " ".join([self.name, *further])

    def unsupported(self, model: ModelConfig) -> str | None:
        """Why this part of the model, of one layer, can't be timed; None where it can."""
        layer = model.layers[0]
        chunk_size = getattr(layer.attention, "chunk_size", None)
        if self.name == "attention" and self.length > (chunk_size or self.length):
            return f"{model.name} attends within {chunk_size} tokens: --sequence-lengths up to that"
        is_mixture = not isinstance(layer.feed_forward, DenseFeedForward)
        uses_it = self.name == "layer" or self.name == "ffn" and self.feed_forward == "swiglu"
        if self.backward and uses_it and is_mixture:
            return f"the experts of {model.name} have no backward pass here: leave out --backward"
        return None

    def matrices(self, model: ModelConfig, num_tokens: int = 1) -> tuple[Matrix, ...]:
        """Of "ffn": those that num_tokens tokens use; of experts the expected number."""
        size = model.hidden_size
        if self.feed_forward == "gelu":
            return Matrix(GELU_WIDTH * size, size), Matrix(size, GELU_WIDTH * size)
        return model.layers[0].feed_forward.matrices_used(size, num_tokens)

    def fp32_parameters(self, model: ModelConfig) -> int:
        """Of "ffn": a router's weights, where these are kept in fp32."""
        if self.feed_forward == "gelu":
            return 0
        return model.layers[0].feed_forward.fp32_parameters(model.hidden_size)

    def work(self, model: ModelConfig, precision: Precision, batch_size: int) -> Work:
        """model: of one layer."""
        count = {"attention": self._attention, "ffn": self._ffn, "layer": self._layer}[self.name]
        forward = count(model, precision, batch_size)
        return forward.times(_WITH_BACKWARD) if self.backward else forward

    def _attention(self, model: ModelConfig, precision: Precision, batch_size: int) -> Work:
        attention = model.layers[0].attention
        if self.decode:
            flops = attention.decode_score_flops(range(self.length, self.length + 1))
        else:
            flops = attention.prefill_score_flops(self.length)
        values = AttentionShape.of(attention, self.decode).values(self.tokens, self.length)
        moved = batch_size * values * precision.base_bytes
        return Work(batch_size * flops, moved, batch_size * flops, moved)

    def _ffn(self, model: ModelConfig, precision: Precision, batch_size: int) -> Work:
        tokens, fp32 = batch_size * self.tokens, self.fp32_parameters(model)
        read = self.matrices(model, tokens)
        weights = sum(precision.matrix_bytes(matrix) for matrix in read)
        multiplied = sum(matrix.parameters for matrix in self.matrices(model)) + fp32
        moved = weights + fp32 * _FP32_BYTES + _in_and_out(model, precision, tokens)
        return Work(2 * multiplied * tokens, moved)

    def _layer(self, model: ModelConfig, precision: Precision, batch_size: int) -> Work:
        tokens = batch_size * self.tokens
        scores = self._attention(model, precision, batch_size)
        cached = batch_size * self.length * model.kv_bytes_per_token(precision)
        # A step reads the head, the last norm and rows of the embedding table too; a layer has none.
        others = model.head_parameters + (tokens + 1) * model.hidden_size
        weights = model.step_weight_bytes(precision, tokens) - others * precision.base_bytes
        return Work(
            tokens * model.linear_flops_per_token + scores.flops,
            weights + cached + _in_and_out(model, precision, tokens),
            scores.flops,
            cached,
        )


def _in_and_out(model: ModelConfig, precision: Precision, tokens: int) -> int:
    return 2 * tokens * model.hidden_size * precision.base_bytes
