"""Multi-head latent attention (MLA): its configuration and what it costs. No torch."""

import math
from dataclasses import dataclass, replace

from inference_benchmark.model.attention.counting import causal_pairs, fits_tiles
from inference_benchmark.model.weight_format import Matrix
from inference_benchmark.parallel.sharding import divide


@dataclass(frozen=True)
class LatentAttention:
    """MLA (arXiv 2405.04434): keys and values of all heads are projections of one latent vector.

    Cached are that vector and one rotated key that all heads share. A prompt expands them to keys
    and values per head. A single token instead carries its queries over into the latent space, and
    its result back out of it (the absorbed form): the cache is read once for all heads. Both need
    the same multiplications by the projection, and differ in the FLOPs per pair of tokens.
    """

    num_heads: int
    query_rank: int
    latent_dim: int
    nope_dim: int  # of a head's query and key: the part without positions
    rope_dim: int  # and the rotated part, whose key all heads share
    value_dim: int
    softmax_factor: float = 1.0  # on top of 1 / sqrt(nope_dim + rope_dim)

    caches_heads = False  # one latent vector per token
    is_plain = False  # the absorbed form multiplies by the projections of keys and values

    def sharded(self, size: int) -> "LatentAttention":
        """One rank's heads; what leads to the latent vector, and the cache, are on every rank."""
        return replace(self, num_heads=divide(self.num_heads, size, "heads"))

    @property
    def cache_dim(self) -> int:
        return self.latent_dim + self.rope_dim

    @property
    def query_dim(self) -> int:
        return self.nope_dim + self.rope_dim

    @property
    def softmax_scale(self) -> float:
        return self.softmax_factor / math.sqrt(self.query_dim)

    @property
    def supports_flash_decode(self) -> bool:
        return fits_tiles(self.latent_dim) and fits_tiles(self.rope_dim)

    def matrices(self, hidden_size: int) -> tuple[Matrix, ...]:
        """All projections down in one; up to queries; up to keys and values; the output."""
        key_and_value_rows = self.num_heads * (self.nope_dim + self.value_dim)
        return (
            Matrix(self.query_rank + self.cache_dim, hidden_size),
            Matrix(self.num_heads * self.query_dim, self.query_rank),
            Matrix(key_and_value_rows, self.latent_dim, keeps_base_type=True),
            Matrix(hidden_size, self.num_heads * self.value_dim),
        )

    def norm_parameters(self) -> int:
        return self.query_rank + self.latent_dim

    def cache_shapes(self, cache_length: int) -> tuple[tuple[int, ...], ...]:
        return ((1, cache_length, self.cache_dim),)

    def cache_values_per_token(self) -> int:
        return self.cache_dim

    def attended(self, contexts: range) -> float:
        return sum(contexts) / len(contexts)

    def prefill_score_flops(self, length: int) -> int:
        return 2 * self.num_heads * (self.query_dim + self.value_dim) * causal_pairs(length)

    def decode_score_flops(self, contexts: range) -> float:
        return 2 * self.num_heads * (self.cache_dim + self.latent_dim) * self.attended(contexts)

    def expanded_values_per_token(self) -> int:
        """What a prefill makes of each token of a context before it: keys and values of all heads,
        as projected and as laid out."""
        return self.num_heads * (self.nope_dim + self.value_dim + self.query_dim)

    def activation_values_per_token(self) -> int:
        """Queries twice (before and after RoPE), keys and values as projected and as laid out."""
        queries = 2 * self.query_dim
        keys_and_values = self.nope_dim + self.value_dim + self.query_dim
        return self.num_heads * (queries + keys_and_values + self.value_dim)
