"""What layers are made of, and what each part costs: parameters, cache values, FLOPs. No torch.

A layer is an attention part and a feed-forward part. Each kind of part counts for itself, so that a
new kind brings its own arithmetic along:

- grouped-query attention caches keys and values per KV head;
- latent attention (MLA) caches one compressed vector per token for all heads, and multiplies more
  per token of context in return;
- a mixture of experts stores many feed-forward networks and uses a few of them per token, so that
  a step over n tokens reads those experts which at least one token chose: all of them only for
  large n.
"""

import math
from dataclasses import dataclass, replace

_MIN_TILE_DIM = 16


def _share(count: int, size: int, what: str) -> int:
    """One of `size` equal shares.

    Raises:
        ValueError: there are none.
    """
    if count % size:
        raise ValueError(f"{count} {what} can't be divided by {size}")
    return count // size


def _fits_tiles(dim: int) -> bool:
    """Whether our decode kernels can have tiles of so many columns."""
    return dim >= _MIN_TILE_DIM and dim & (dim - 1) == 0


@dataclass(frozen=True)
class Llama3RopeScaling:
    """Llama 3.1's frequency-dependent stretching of RoPE (config.json: rope_type "llama3")."""

    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context_length: int = 8192


@dataclass(frozen=True)
class YarnRopeScaling:
    """YaRN (arXiv 2309.00071): frequencies that turn fewer than beta_slow times over the original
    context are stretched, those that turn more than beta_fast times kept, those between blended.

    A longer context flattens the softmax; YaRN sharpens it again, by a factor on the tables
    (`table_factor`) or on the scores (`softmax_factor`).
    """

    factor: float
    original_context_length: int = 4096
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 0.0
    mscale_all_dim: float = 0.0

    def _sharpening(self, mscale: float) -> float:
        return 1.0 if self.factor <= 1 else 0.1 * mscale * math.log(self.factor) + 1.0

    @property
    def table_factor(self) -> float:
        if not (self.mscale and self.mscale_all_dim):
            return self._sharpening(1.0)
        return self._sharpening(self.mscale) / self._sharpening(self.mscale_all_dim)

    @property
    def softmax_factor(self) -> float:
        return self._sharpening(self.mscale_all_dim) ** 2


@dataclass(frozen=True)
class Rope:
    """interleaved: checkpoints of this model store the two values of a rotated pair side by side,
    not half a head apart; architectures/checkpoint_names.py sorts them once, when they are read."""

    theta: float
    scaling: Llama3RopeScaling | YarnRopeScaling | None = None
    interleaved: bool = False


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
    divided by their root mean square. chunk_size: a token attends within its chunk of the context
    only. temperature: scales queries by position.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    uses_rope: bool = True
    normalizes_qk: bool = False
    chunk_size: int | None = None
    temperature: AttentionTemperature | None = None

    def sharded(self, size: int) -> "GroupedQueryAttention":
        """One rank's heads; a KV head that serves the heads of several ranks is on each of them."""
        heads = _share(self.num_heads, size, "query heads")
        if self.num_kv_heads >= size:
            kv_heads = _share(self.num_kv_heads, size, "KV heads")
        else:
            _share(size, self.num_kv_heads, f"ranks (KV heads: {self.num_kv_heads})")
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
        return _fits_tiles(self.head_dim)

    def linear_parameters(self, hidden_size: int) -> int:
        q_and_o = 2 * self.num_heads * self.head_dim
        k_and_v = 2 * self.num_kv_heads * self.head_dim
        return hidden_size * (q_and_o + k_and_v)

    def norm_parameters(self) -> int:
        return 0

    def cache_shapes(self, cache_length: int) -> tuple[tuple[int, ...], ...]:
        """Shapes of a sequence's keys and values, [kv_heads, cache_length, head_dim] each."""
        return ((self.num_kv_heads, cache_length, self.head_dim),) * 2

    def cache_values_per_token(self) -> int:
        return 2 * self.num_kv_heads * self.head_dim

    def attended(self, contexts: range) -> float:
        """Tokens that a context's last token attends to, its own included; the contexts' mean."""
        pairs = self._query_key_pairs(contexts[-1]) - self._query_key_pairs(contexts[0] - 1)
        return pairs / len(contexts)

    def score_flops(self, query_key_pairs: float) -> float:
        """Q K^T and P V: two products of 2 * head_dim FLOPs per head and pair."""
        return 4 * self.num_heads * self.head_dim * query_key_pairs

    def _query_key_pairs(self, length: int) -> int:
        """Of all tokens of a prompt with those that they attend to."""
        if self.chunk_size is None:
            return _causal_pairs(length)
        whole, rest = divmod(length, self.chunk_size)
        return whole * _causal_pairs(self.chunk_size) + _causal_pairs(rest)

    def prefill_score_flops(self, length: int) -> int:
        return self.score_flops(self._query_key_pairs(length))

    def decode_score_flops(self, contexts: range) -> float:
        return self.score_flops(self.attended(contexts))

    def activation_values_per_token(self) -> int:
        """Fused projections, keys and values repeated for all heads, and the result."""
        heads = self.num_heads + 2 * self.num_kv_heads + 3 * self.num_heads
        return heads * self.head_dim


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

    def sharded(self, size: int) -> "LatentAttention":
        """One rank's heads; what leads to the latent vector, and the cache, are on every rank."""
        return replace(self, num_heads=_share(self.num_heads, size, "heads"))

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
        return _fits_tiles(self.latent_dim) and _fits_tiles(self.rope_dim)

    def linear_parameters(self, hidden_size: int) -> int:
        down = hidden_size * (self.query_rank + self.cache_dim)
        queries = self.query_rank * self.num_heads * self.query_dim
        keys_and_values = self.latent_dim * self.num_heads * (self.nope_dim + self.value_dim)
        return down + queries + keys_and_values + self.num_heads * self.value_dim * hidden_size

    def norm_parameters(self) -> int:
        return self.query_rank + self.latent_dim

    def cache_shapes(self, cache_length: int) -> tuple[tuple[int, ...], ...]:
        return ((1, cache_length, self.cache_dim),)

    def cache_values_per_token(self) -> int:
        return self.cache_dim

    def attended(self, contexts: range) -> float:
        return sum(contexts) / len(contexts)

    def prefill_score_flops(self, length: int) -> int:
        return 2 * self.num_heads * (self.query_dim + self.value_dim) * _causal_pairs(length)

    def decode_score_flops(self, contexts: range) -> float:
        return 2 * self.num_heads * (self.cache_dim + self.latent_dim) * self.attended(contexts)

    def activation_values_per_token(self) -> int:
        """Queries twice (before and after RoPE), keys and values as projected and as laid out."""
        queries = 2 * self.query_dim
        keys_and_values = self.nope_dim + self.value_dim + self.query_dim
        return self.num_heads * (queries + keys_and_values + self.value_dim)


def _causal_pairs(length: int) -> int:
    return length * (length + 1) // 2


@dataclass(frozen=True)
class DenseFeedForward:
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    intermediate_size: int

    def sharded(self, size: int) -> "DenseFeedForward":
        return DenseFeedForward(_share(self.intermediate_size, size, "feed-forward columns"))

    def linear_parameters(self, hidden_size: int) -> int:
        return 3 * hidden_size * self.intermediate_size

    def fp32_parameters(self, hidden_size: int) -> int:
        """Weights kept in fp32 in every precision."""
        return 0

    def active_parameters(self, hidden_size: int) -> int:
        """Weights that one token uses."""
        return self.linear_parameters(hidden_size)

    def parameters_read(self, hidden_size: int, num_tokens: int) -> int:
        """Weights that a step over num_tokens tokens must read, those in fp32 aside."""
        return self.linear_parameters(hidden_size)

    def activation_values_per_token(self, hidden_size: int) -> int:
        """Gate and up, and their product."""
        return 3 * self.intermediate_size


@dataclass(frozen=True)
class GroupLimitedRouter:
    """DeepSeek V3: sigmoid scores in fp32, which weigh the experts' outputs.

    Experts lie in num_groups groups. The groups_per_token groups with the largest sum of their two
    best scores are kept, and among their experts the best are chosen. A bias, learnt to even out
    the load, joins the scores for choosing only.
    """

    num_groups: int
    groups_per_token: int
    scale: float
    normalizes: bool = True  # the chosen scores are divided by their sum

    gates_input = False
    in_fp32 = True

    def fp32_parameters(self, hidden_size: int, num_experts: int) -> int:
        return num_experts * (hidden_size + 1)


@dataclass(frozen=True)
class InputRouter:
    """Llama 4: the sigmoid of a chosen expert's score multiplies what goes into it."""

    gates_input = True
    in_fp32 = False

    def fp32_parameters(self, hidden_size: int, num_experts: int) -> int:
        return 0


@dataclass(frozen=True)
class MixtureOfExperts:
    """Each token uses experts_per_token of num_experts SwiGLU networks, and one that all share."""

    num_experts: int
    experts_per_token: int
    intermediate_size: int  # of one expert
    shared_intermediate_size: int
    router: GroupLimitedRouter | InputRouter

    def sharded(self, size: int) -> "MixtureOfExperts":
        """A share of every expert's columns: ranks are equally busy whatever the router chooses."""
        return replace(
            self,
            intermediate_size=_share(self.intermediate_size, size, "columns of an expert"),
            shared_intermediate_size=_share(
                self.shared_intermediate_size, size, "columns of the shared expert"
            ),
        )

    def _linear_parameters(self, hidden_size: int, num_experts: float) -> int:
        width = num_experts * self.intermediate_size + self.shared_intermediate_size
        router = 0 if self.router.in_fp32 else hidden_size * self.num_experts
        return round(3 * hidden_size * width) + router

    def linear_parameters(self, hidden_size: int) -> int:
        return self._linear_parameters(hidden_size, self.num_experts)

    def fp32_parameters(self, hidden_size: int) -> int:
        return self.router.fp32_parameters(hidden_size, self.num_experts)

    def active_parameters(self, hidden_size: int) -> int:
        active = self._linear_parameters(hidden_size, self.experts_per_token)
        return active + self.fp32_parameters(hidden_size)

    def experts_touched(self, num_tokens: int) -> float:
        """Expected number of distinct experts that num_tokens tokens choose, if all are alike."""
        missed = (1 - self.experts_per_token / self.num_experts) ** num_tokens
        return self.num_experts * (1 - missed)

    def parameters_read(self, hidden_size: int, num_tokens: int) -> int:
        return self._linear_parameters(hidden_size, self.experts_touched(num_tokens))

    def activation_values_per_token(self, hidden_size: int) -> int:
        """Per chosen expert its input, its output in order of experts and of tokens, gate and up
        and their product; the shared one is done by then."""
        chosen = self.experts_per_token * (3 * hidden_size + 3 * self.intermediate_size)
        return max(chosen, 3 * self.shared_intermediate_size)


Attention = GroupedQueryAttention | LatentAttention
FeedForward = DenseFeedForward | MixtureOfExperts


@dataclass(frozen=True)
class LayerConfig:
    """One layer's kind. Layers of the same kind are equal, and share one compiled function."""

    attention: Attention
    feed_forward: FeedForward
