"""A part of one decoder layer that is timed alone, and what it has to do. No torch.

FLOPs and bytes are those of the algorithm: causal attention counts half the square, inputs, weights
and outputs go through memory once, and what lies between them (scores, gate and up) never does. A
backward pass multiplies twice as much as the forward pass, for the gradients of both factors of each
product, and moves twice as much; what a kernel computes again to save memory is not counted.
"""

from dataclasses import dataclass

from inference_benchmark.model.config import ModelConfig, Precision
from inference_benchmark.model.feed_forward.dense_config import DenseFeedForward
from inference_benchmark.model.parts import GroupedQueryAttention
from inference_benchmark.model.weight_format import Matrix

FEED_FORWARDS = ("swiglu", "gelu")
GELU_WIDTH = 4  # times the hidden size, as in the first transformers
_WITH_BACKWARD = 3


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
class LayerPart:
    """
    kind: "attention" (of queries, keys and values: no projections), "ffn" or "layer".
    length: tokens of a prompt; with decode one token per sequence goes in, and this is how many slots
        of the cache it attends to, its own included.
    backward: gradients of inputs and weights as well.
    feed_forward: of "ffn": "swiglu", the model's own, or "gelu", the classic one of two matrices.
    """

    kind: str
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
        further = [self.feed_forward] if self.kind == "ffn" else []
        further += ["decode"] * self.decode + ["backward"] * self.backward
        return " ".join([self.kind, *further])

    def unsupported(self, model: ModelConfig) -> str | None:
        """Why this part of the model's first layer can't be timed; None where it can."""
        layer = model.layers[0]
        is_grouped = isinstance(layer.attention, GroupedQueryAttention)
        if self.kind != "ffn" and not is_grouped:
            return f"{model.name} has latent attention, which is not timed alone: --workload ffn is"
        if self.kind == "attention" and self.length > (layer.attention.chunk_size or self.length):
            return (
                f"{model.name} attends within {layer.attention.chunk_size} tokens: "
                f"--sequence-lengths up to that"
            )
        if self.kind == "ffn" and self.feed_forward == "gelu":
            return None
        if self.kind != "attention" and not isinstance(layer.feed_forward, DenseFeedForward):
            return f"{model.name} has a mixture of experts, which is not timed alone: use attention"
        return None

    def matrices(self, model: ModelConfig) -> tuple[Matrix, ...]:
        """Of "ffn": those of its linear layers."""
        size = model.hidden_size
        if self.feed_forward == "gelu":
            return Matrix(GELU_WIDTH * size, size), Matrix(size, GELU_WIDTH * size)
        return model.layers[0].feed_forward.matrices(size)

    def work(self, model: ModelConfig, precision: Precision, batch_size: int) -> Work:
        """model: of one layer."""
        count = {"attention": self._attention, "ffn": self._ffn, "layer": self._layer}[self.kind]
        forward = count(model, precision, batch_size)
        return forward.times(_WITH_BACKWARD) if self.backward else forward

    def _attention(self, model: ModelConfig, precision: Precision, batch_size: int) -> Work:
        attention = model.layers[0].attention
        if self.decode:
            flops = attention.decode_score_flops(range(self.length, self.length + 1))
        else:
            flops = attention.prefill_score_flops(self.length)
        queries = attention.num_heads * attention.head_dim * self.tokens  # and as many results
        values = 2 * queries + attention.cache_values_per_token() * self.length
        moved = batch_size * values * precision.base_bytes
        return Work(batch_size * flops, moved, batch_size * flops, moved)

    def _ffn(self, model: ModelConfig, precision: Precision, batch_size: int) -> Work:
        matrices, tokens = self.matrices(model), batch_size * self.tokens
        weights = sum(precision.weight_format.matrix_bytes(matrix) for matrix in matrices)
        flops = 2 * sum(matrix.parameters for matrix in matrices) * tokens
        return Work(flops, weights + _in_and_out(model, precision, tokens))

    def _layer(self, model: ModelConfig, precision: Precision, batch_size: int) -> Work:
        tokens = batch_size * self.tokens
        scores = self._attention(model, precision, batch_size)
        cached = batch_size * self.length * model.kv_bytes_per_token(precision)
        weights = model.linear_bytes(precision.weight_format)
        norms = (model.norm_parameters - model.hidden_size) * precision.base_bytes
        return Work(
            tokens * model.linear_flops_per_token + scores.flops,
            weights + norms + cached + _in_and_out(model, precision, tokens),
            scores.flops,
            cached,
        )


def _in_and_out(model: ModelConfig, precision: Precision, tokens: int) -> int:
    return 2 * tokens * model.hidden_size * precision.base_bytes
