"""The arithmetic of a model: parameters, bytes and FLOPs, exact and without torch.

What bounds inference follows from three counts. A decode step reads every weight that its tokens
use, and every cached key and value, once: bytes over bandwidth. A prefill multiplies every token
with every weight it uses, 2 FLOPs a weight, and adds causal attention, which grows with the square
of the prompt: FLOPs over peak. And both need the weights and the KV cache to fit.

The parts of a layer count for themselves (parts.py). Counted is what the algorithm needs: the
embedding table is not read per token, the head runs on the last prompt token only, causal attention
is half the square, of a mixture of experts the expected number of those that a step's tokens choose
is read.
"""

from collections import Counter
from collections.abc import Callable, Iterable

from inference_benchmark.model.parts import LayerConfig
from inference_benchmark.model.weight_format import Matrix, Precision

_FP32_BYTES = 4


class Arithmetic:
    """What follows from these properties of a model; ModelConfig has them."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    tied_embeddings: bool
    tensor_parallel: int
    layer_kinds: tuple[LayerConfig, ...]
    _layer_counts: Counter[LayerConfig]

    # Parameters

    def _over_layers(self, count: Callable[[LayerConfig], float]) -> float:
        """The sum of what each layer counts."""
        return sum(number * count(layer) for layer, number in self._layer_counts.items())

    def _matrices(self, layer: LayerConfig) -> tuple[Matrix, ...]:
        size = self.hidden_size
        return (*layer.attention.matrices(size), *layer.feed_forward.matrices(size))

    def _matrices_used(self, layer: LayerConfig, num_tokens: int) -> tuple[Matrix, ...]:
        """Of a mixture's experts the expected number that so many tokens choose."""
        used = layer.feed_forward.matrices_used(self.hidden_size, num_tokens)
        return (*layer.attention.matrices(self.hidden_size), *used)

    @property
    def embedding_parameters(self) -> int:
        return self.vocab_size * self.hidden_size

    @property
    def head_parameters(self) -> int:
        return self.embedding_parameters // self.tensor_parallel

    @property
    def linear_parameters(self) -> int:
        """Weights of all layers' matrices, those kept in fp32 aside."""
        return self._over_layers(lambda layer: _parameters(self._matrices(layer)))

    @property
    def fp32_parameters(self) -> int:
        size = self.hidden_size
        return self._over_layers(lambda layer: layer.feed_forward.fp32_parameters(size))

    @property
    def norm_parameters(self) -> int:
        within = self._over_layers(lambda layer: layer.attention.norm_parameters())
        return (2 * self.num_layers + 1) * self.hidden_size + within

    @property
    def parameters(self) -> int:
        tables = self.embedding_parameters
        tables += 0 if self.tied_embeddings else self.head_parameters
        return tables + self.linear_parameters + self.fp32_parameters + self.norm_parameters

    @property
    def active_parameters(self) -> int:
        """Parameters one token uses, the embedding table counted as in the published totals."""
        return self.parameters - self.linear_parameters + self._active_linear_parameters

    @property
    def _active_linear_parameters(self) -> int:
        return self._over_layers(lambda layer: _parameters(self._matrices_used(layer, 1)))

    def widest_activation_values(self) -> int:
        """Values per token that the widest part of any layer holds in a prefill."""
        return max(
            max(
                layer.attention.activation_values_per_token(),
                layer.feed_forward.activation_values_per_token(self.hidden_size),
            )
            for layer in self.layer_kinds
        )

    # Bytes

    def linear_bytes(self, precision: Precision) -> int:
        """Bytes that all layers' matrices occupy, those kept in fp32 aside."""
        return self._over_layers(lambda layer: _bytes(self._matrices(layer), precision))

    def stored_bytes(self, precision: Precision) -> int:
        """Of those the bytes that are in the weight format, and in no other of the same model."""
        return self._over_layers(lambda layer: _bytes(self._stored(layer), precision))

    def largest_stored_bytes(self, precision: Precision) -> int:
        """The same of a single layer, the largest."""
        return max(_bytes(self._stored(layer), precision) for layer in self.layer_kinds)

    def _stored(self, layer: LayerConfig) -> list[Matrix]:
        return [matrix for matrix in self._matrices(layer) if not matrix.keeps_base_type]

    def matrices_to_store(self, with_head: bool) -> list[Matrix]:
        """What a weight format stores, each shape of it: of every kind of layer, and the head's."""
        head = Matrix(self.head_parameters // self.hidden_size, self.hidden_size)
        matrices = [matrix for layer in self.layer_kinds for matrix in self._stored(layer)]
        return [*matrices, head] if with_head else matrices

    def head_bytes(self, precision: Precision) -> int:
        """Bytes of the head's matrix; a tied one is the embedding table, unless it is quantised."""
        rows = self.head_parameters // self.hidden_size
        return round(precision.head_format.matrix_bytes(Matrix(rows, self.hidden_size)))

    def weight_bytes(self, precision: Precision) -> int:
        """Bytes all weights occupy."""
        has_own_head = precision.with_head or not self.tied_embeddings
        rest = self.embedding_parameters + self.norm_parameters
        return (
            self.linear_bytes(precision)
            + (self.head_bytes(precision) if has_own_head else 0)
            + rest * precision.base_bytes
            + self.fp32_parameters * _FP32_BYTES
        )

    def kv_bytes_per_token(self, precision: Precision) -> int:
        """KV cache bytes one token of one sequence occupies over all layers."""
        values = self._over_layers(lambda layer: layer.attention.cache_values_per_token())
        return values * precision.base_bytes

    def kv_cache_bytes(self, precision: Precision, batch_size: int, cache_length: int) -> int:
        return batch_size * cache_length * self.kv_bytes_per_token(precision)

    def step_weight_bytes(self, precision: Precision, num_tokens: int) -> int:
        """Weight bytes that one forward over num_tokens tokens reads, each once.

        The head is read whole, of the embedding table one row per token, of a mixture's experts
        the expected number of distinct ones.
        """
        linear = self._over_layers(
            lambda layer: _bytes(self._matrices_used(layer, num_tokens), precision)
        )
        rest = self.norm_parameters + num_tokens * self.hidden_size
        linear += self.head_bytes(precision)
        return linear + rest * precision.base_bytes + self.fp32_parameters * _FP32_BYTES

    def decode_kv_bytes(self, precision: Precision, batch_size: int, contexts: range) -> float:
        """KV cache bytes a decode step reads; with chunked attention those of the last chunk."""
        values = self._over_layers(
            lambda layer: (
                layer.attention.cache_values_per_token() * layer.attention.attended(contexts)
            )
        )
        return batch_size * values * precision.base_bytes

    def decode_bytes(self, precision: Precision, batch_size: int, contexts: range) -> float:
        """Bytes of one decode step, the mean of steps whose tokens have these contexts."""
        kv = self.decode_kv_bytes(precision, batch_size, contexts)
        return self.step_weight_bytes(precision, batch_size) + kv

    def prefill_bytes(
        self, precision: Precision, batch_size: int, input_length: int, context_depth: int = 0
    ) -> float:
        """Bytes of a prefill: the weights read once, the KV cache written once; of one that
        continues a context, also what of that context its tokens attend to, read once."""
        weights = self.step_weight_bytes(precision, batch_size * input_length)
        written = self.kv_cache_bytes(precision, batch_size, input_length)
        if not context_depth:
            return weights + written
        seen = range(context_depth + 1, context_depth + 2)  # by the first token, itself included
        read = self.decode_kv_bytes(precision, batch_size, seen)
        return weights + written + read - self.kv_cache_bytes(precision, batch_size, 1)

    # FLOPs

    @property
    def linear_flops_per_token(self) -> int:
        return 2 * (self._active_linear_parameters + self.fp32_parameters)

    @property
    def head_flops(self) -> int:
        return 2 * self.head_parameters

    def prefill_flops(self, batch_size: int, input_length: int, context_depth: int = 0) -> int:
        """FLOPs of a prefill: all tokens through all layers, the last one through the head."""
        linear = batch_size * (input_length * self.linear_flops_per_token + self.head_flops)
        return linear + self.prefill_attention_flops(batch_size, input_length, context_depth)

    def prefill_attention_flops(
        self, batch_size: int, input_length: int, context_depth: int = 0
    ) -> int:
        """The part of prefill_flops that grows with the square of the prompt, and with the context
        that it continues: what the whole would need, without what the context needed."""

        def scores(layer: LayerConfig) -> int:
            whole = layer.attention.prefill_score_flops(context_depth + input_length)
            return whole - layer.attention.prefill_score_flops(context_depth)

        return batch_size * self._over_layers(scores)

    def decode_flops(self, batch_size: int, contexts: range) -> float:
        """FLOPs of one decode step over batch_size tokens, the mean of steps with these contexts."""
        linear = batch_size * (self.linear_flops_per_token + self.head_flops)
        return linear + self.decode_attention_flops(batch_size, contexts)

    def decode_attention_flops(self, batch_size: int, contexts: range) -> float:
        """The part of decode_flops that grows with the context."""
        return batch_size * self._over_layers(
            lambda layer: layer.attention.decode_score_flops(contexts)
        )


def _parameters(matrices: Iterable[Matrix]) -> int:
    return round(sum(matrix.parameters for matrix in matrices))


def _bytes(matrices: Iterable[Matrix], precision: Precision) -> int:
    return round(sum(precision.matrix_bytes(matrix) for matrix in matrices))
