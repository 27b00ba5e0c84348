"""Model presets and their arithmetic: parameters, bytes and FLOPs, exact and without torch.

What bounds inference follows from three counts. A decode step reads every weight that its tokens
use, and every cached key and value, once: bytes over bandwidth. A prefill multiplies every token
with every weight it uses, 2 FLOPs a weight, and adds causal attention, which grows with the square
of the prompt: FLOPs over peak. And both need the weights and the KV cache to fit.

A model is a stack of layers; a layer is an attention part and a feed-forward part, and each part
counts for itself, so that a new kind of attention or feed-forward brings its own arithmetic along.
Counted is what the algorithm needs: the embedding table is not read per token, the head runs on the
last prompt token only, causal attention is half the square.
"""

from dataclasses import dataclass, replace

BYTES_PER_VALUE = {"bf16": 2, "fp16": 2, "fp32": 4, "fp8": 1}


@dataclass(frozen=True)
class Precision:
    """How values are stored; `linear` differs from `base` where a mode quantises linear layers."""

    base: str
    linear: str

    @classmethod
    def of(cls, base: str, linear: str | None = None) -> "Precision":
        return cls(base, linear or base)

    @property
    def name(self) -> str:
        return self.linear

    @property
    def base_bytes(self) -> int:
        return BYTES_PER_VALUE[self.base]

    @property
    def linear_bytes(self) -> int:
        return BYTES_PER_VALUE[self.linear]


@dataclass(frozen=True)
class Llama3RopeScaling:
    """Llama 3.1's frequency-dependent stretching of RoPE (config.json: rope_type "llama3")."""

    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context_length: int = 8192


@dataclass(frozen=True)
class Rope:
    theta: float
    scaling: Llama3RopeScaling | None = None


@dataclass(frozen=True)
class GroupedQueryAttention:
    """num_heads query heads share num_kv_heads key and value heads, each of head_dim values."""

    num_heads: int
    num_kv_heads: int
    head_dim: int

    @property
    def group_size(self) -> int:
        return self.num_heads // self.num_kv_heads

    def linear_parameters(self, hidden_size: int) -> int:
        q_and_o = 2 * self.num_heads * self.head_dim
        k_and_v = 2 * self.num_kv_heads * self.head_dim
        return hidden_size * (q_and_o + k_and_v)

    def cache_values_per_token(self) -> int:
        return 2 * self.num_kv_heads * self.head_dim

    def score_flops(self, query_key_pairs: int) -> int:
        """Q K^T and P V: two products of 2 * head_dim FLOPs per head and pair."""
        return 4 * self.num_heads * self.head_dim * query_key_pairs


@dataclass(frozen=True)
class DenseFeedForward:
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    intermediate_size: int

    def linear_parameters(self, hidden_size: int) -> int:
        return 3 * hidden_size * self.intermediate_size

    def active_parameters(self, hidden_size: int) -> int:
        return self.linear_parameters(hidden_size)

    def parameters_read(self, hidden_size: int, num_tokens: int) -> int:
        """Weights that a step over num_tokens tokens must read."""
        return self.linear_parameters(hidden_size)


@dataclass(frozen=True)
class ModelConfig:
    name: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    attention: GroupedQueryAttention
    feed_forward: DenseFeedForward
    context_length: int
    rope: Rope
    norm_eps: float = 1e-5
    tied_embeddings: bool = False
    full_num_layers: int | None = None  # set where fewer layers are built than the model has

    @property
    def is_reduced(self) -> bool:
        return self.full_num_layers is not None and self.num_layers < self.full_num_layers

    @property
    def label(self) -> str:
        """The model's name, and how many layers of it where that is not all of them."""
        if not self.is_reduced:
            return self.name
        return f"{self.name} [{self.num_layers} of {self.full_num_layers} layers]"

    def with_layers(self, num_layers: int | None) -> "ModelConfig":
        """The same model with fewer layers.

        Raises:
            ValueError: fewer than one layer, or more than the model has.
        """
        if num_layers is None:
            return self
        if not 1 <= num_layers <= self.num_layers:
            raise ValueError(f"{self.name} has {self.num_layers} layers, not {num_layers}")
        return replace(self, num_layers=num_layers, full_num_layers=self.num_layers)

    # Parameters

    @property
    def embedding_parameters(self) -> int:
        return self.vocab_size * self.hidden_size

    @property
    def linear_parameters_per_layer(self) -> int:
        attention = self.attention.linear_parameters(self.hidden_size)
        return attention + self.feed_forward.linear_parameters(self.hidden_size)

    @property
    def norm_parameters(self) -> int:
        return (2 * self.num_layers + 1) * self.hidden_size

    @property
    def parameters(self) -> int:
        tables = self.embedding_parameters * (1 if self.tied_embeddings else 2)
        return tables + self.num_layers * self.linear_parameters_per_layer + self.norm_parameters

    @property
    def active_parameters(self) -> int:
        """Parameters one token uses, the embedding table counted as in the published totals."""
        unused = self.feed_forward.linear_parameters(
            self.hidden_size
        ) - self.feed_forward.active_parameters(self.hidden_size)
        return self.parameters - self.num_layers * unused

    # Bytes

    def weight_bytes(self, precision: Precision) -> int:
        """Bytes all weights occupy."""
        linear = self.num_layers * self.linear_parameters_per_layer
        rest = self.parameters - linear
        return linear * precision.linear_bytes + rest * precision.base_bytes

    def kv_bytes_per_token(self, precision: Precision) -> int:
        """KV cache bytes one token of one sequence occupies over all layers."""
        return self.num_layers * self.attention.cache_values_per_token() * precision.base_bytes

    def kv_cache_bytes(self, precision: Precision, batch_size: int, cache_length: int) -> int:
        return batch_size * cache_length * self.kv_bytes_per_token(precision)

    def step_weight_bytes(self, precision: Precision, num_tokens: int) -> int:
        """Weight bytes that one forward over num_tokens tokens reads, each once.

        The head is read whole, of the embedding table one row per token.
        """
        per_layer = self.attention.linear_parameters(self.hidden_size)
        per_layer += self.feed_forward.parameters_read(self.hidden_size, num_tokens)
        rest = self.embedding_parameters + self.norm_parameters + num_tokens * self.hidden_size
        linear = self.num_layers * per_layer * precision.linear_bytes
        return linear + rest * precision.base_bytes

    def decode_bytes(self, precision: Precision, batch_size: int, context: float) -> float:
        """Bytes of one decode step whose tokens attend to `context` tokens, their own included."""
        kv = batch_size * context * self.kv_bytes_per_token(precision)
        return self.step_weight_bytes(precision, batch_size) + kv

    def prefill_bytes(self, precision: Precision, batch_size: int, input_length: int) -> int:
        """Bytes of a prefill: the weights read once, the KV cache written once."""
        weights = self.step_weight_bytes(precision, batch_size * input_length)
        return weights + self.kv_cache_bytes(precision, batch_size, input_length)

    # FLOPs

    @property
    def linear_flops_per_token(self) -> int:
        active = self.attention.linear_parameters(self.hidden_size)
        active += self.feed_forward.active_parameters(self.hidden_size)
        return 2 * self.num_layers * active

    @property
    def head_flops(self) -> int:
        return 2 * self.vocab_size * self.hidden_size

    def prefill_flops(self, batch_size: int, input_length: int) -> int:
        """FLOPs of a prefill: all tokens through all layers, the last one through the head."""
        linear = batch_size * (input_length * self.linear_flops_per_token + self.head_flops)
        return linear + self.prefill_attention_flops(batch_size, input_length)

    def prefill_attention_flops(self, batch_size: int, input_length: int) -> int:
        """The part of prefill_flops that grows with the square of the prompt."""
        pairs = input_length * (input_length + 1) // 2
        return batch_size * self.num_layers * self.attention.score_flops(pairs)

    def decode_flops(self, batch_size: int, context: float) -> float:
        """FLOPs of one decode step over batch_size tokens, each attending to `context` tokens."""
        scores = self.num_layers * self.attention.score_flops(1) * context
        return batch_size * (self.linear_flops_per_token + self.head_flops + scores)


def mean_decode_context(input_length: int, output_length: int) -> float:
    """Tokens a decode step attends to, its own included, averaged over a run's decode steps.

    Step i of 1 .. output_length - 1 attends to input_length + i tokens.
    """
    return input_length + output_length / 2


_LLAMA31_ROPE = Rope(500000.0, Llama3RopeScaling(factor=8.0))
_LLAMA32_ROPE = Rope(500000.0, Llama3RopeScaling(factor=32.0))
_LLAMA2_ROPE = Rope(10000.0)


def _gqa(num_heads: int, num_kv_heads: int, head_dim: int = 128) -> GroupedQueryAttention:
    return GroupedQueryAttention(num_heads, num_kv_heads, head_dim)


# Dimensions as in the published config.json of each model.
# fmt: off
_TABLE = (
    #           name             vocab  hidden layers attention          feed-forward             context  RoPE
    ModelConfig("llama3.1-8b",   128256,  4096,  32, _gqa(32, 8),       DenseFeedForward(14336), 131072, _LLAMA31_ROPE),
    ModelConfig("llama3.1-70b",  128256,  8192,  80, _gqa(64, 8),       DenseFeedForward(28672), 131072, _LLAMA31_ROPE),
    ModelConfig("llama3.1-405b", 128256, 16384, 126, _gqa(128, 8),      DenseFeedForward(53248), 131072, _LLAMA31_ROPE),
    ModelConfig("llama3.2-1b",   128256,  2048,  16, _gqa(32, 8, 64),   DenseFeedForward(8192),  131072, _LLAMA32_ROPE,
                tied_embeddings=True),
    ModelConfig("llama2-7b",      32000,  4096,  32, _gqa(32, 32),      DenseFeedForward(11008),   4096, _LLAMA2_ROPE),
    ModelConfig("llama2-13b",     32000,  5120,  40, _gqa(40, 40),      DenseFeedForward(13824),   4096, _LLAMA2_ROPE),
    ModelConfig("llama2-70b",     32000,  8192,  80, _gqa(64, 8),       DenseFeedForward(28672),   4096, _LLAMA2_ROPE),
    ModelConfig("llama-tiny",      1000,   512,   4, _gqa(8, 2, 64),    DenseFeedForward(1376),    8192, _LLAMA2_ROPE),
)
# fmt: on

MODELS: dict[str, ModelConfig] = {model.name: model for model in _TABLE}
