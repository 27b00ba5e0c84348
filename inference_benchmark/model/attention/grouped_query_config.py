"""Grouped-query attention: its configuration and what it costs. No torch."""

from dataclasses import dataclass, replace

from inference_benchmark.model.attention.counting import causal_pairs, fits_tiles
from inference_benchmark.model.weight_format import Matrix
from inference_benchmark.parallel.sharding import divide


@dataclass(frozen=True)
class AttentionTemperature:
    """Scores are multiplied by 1 + scale * log(1 + floor((position + 1) / floor_scale)), which
    counters the flattening of the softmax over long contexts; it is 1 up to floor_scale."""

    floor_scale: int = 8192
    scale: float = 0.1


@dataclass(frozen=True)
class GroupedQueryAttention:
    """num_heads query heads share num_kv_heads key and value heads, each of head_dim values.

    uses_rope: False where a layer carries no positions (NoPE). normalizes_qk: queries and keys are
    divided by their root mean square. learned_qk_norm: the same, times learned weights, one vector
    for all query heads and one for all key heads. chunk_size: a token attends within its chunk of
    the context only. temperature: scales queries by position.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    uses_rope: bool = True
    normalizes_qk: bool = False
    chunk_size: int | None = None
    temperature: AttentionTemperature | None = None
    learned_qk_norm: bool = False

    is_plain = True  # every matrix belongs to a linear layer
    caches_heads = True  # keys and values as they are attended to: any attention over slots serves

    def sharded(self, size: int) -> "GroupedQueryAttention":
        """One rank's heads; a KV head that serves the heads of several ranks is on each of them."""
        heads = divide(self.num_heads, size, "query heads")
        if self.num_kv_heads >= size:
            kv_heads = divide(self.num_kv_heads, size, "KV heads")
        else:
            divide(size, self.num_kv_heads, f"ranks (KV heads: {self.num_kv_heads})")
            kv_heads = 1
        return replace(self, num_heads=heads, num_kv_heads=kv_heads)

    @property
    def group_size(self) -> int:
        return self.num_heads // self.num_kv_heads

    @property
    def rope_dim(self) -> int:
        return self.head_dim

    @property
    def supports_flash_decode(self) -> bool:
        return fits_tiles(self.head_dim)

    def matrices(self, hidden_size: int) -> tuple[Matrix, ...]:
        """The matrices of its linear layers: queries, keys and values in one; the output."""
        q_rows, kv_rows = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        return Matrix(q_rows + 2 * kv_rows, hidden_size), Matrix(hidden_size, q_rows)

    def norm_parameters(self) -> int:
        return 2 * self.head_dim if self.learned_qk_norm else 0

    def cache_shapes(self, cache_length: int) -> tuple[tuple[int, ...], ...]:
        """Shapes of a sequence's keys and values, [kv_heads, cache_length, head_dim] each."""
        return ((self.num_kv_heads, cache_length, self.head_dim),) * 2

    def cache_values_per_token(self) -> int:
        return 2 * self.num_kv_heads * self.head_dim

    def attended(self, contexts: range) -> float:
        """Tokens that a context's last token attends to, its own included; the contexts' mean."""
        pairs = self._query_key_pairs(contexts[-1]) - self._query_key_pairs(contexts[0] - 1)
        return pairs / len(contexts)

    def _score_flops(self, query_key_pairs: float) -> float:
        """Q K^T and P V: two products of 2 * head_dim FLOPs per head and pair."""
        return 4 * self.num_heads * self.head_dim * query_key_pairs

    def _query_key_pairs(self, length: int) -> int:
        """Of all tokens of a prompt with those that they attend to."""
        if self.chunk_size is None:
            return causal_pairs(length)
        whole, rest = divmod(length, self.chunk_size)
        return whole * causal_pairs(self.chunk_size) + causal_pairs(rest)

    def prefill_score_flops(self, length: int) -> int:
        return self._score_flops(self._query_key_pairs(length))

    def decode_score_flops(self, contexts: range) -> float:
        return self._score_flops(self.attended(contexts))

    def expanded_values_per_token(self) -> int:
        """What a prefill makes of each token of a context before it: attention reads the cache."""
        return 0

    def activation_values_per_token(self) -> int:
        """Fused projections, keys and values repeated for all heads, and the result."""
        heads = self.num_heads + 2 * self.num_kv_heads + 3 * self.num_heads
        return heads * self.head_dim
