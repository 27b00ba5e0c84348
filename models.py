"""Model presets and their arithmetic: parameters, bytes and FLOPs, exact and without torch.

What bounds inference follows from three counts. A decode step reads every weight that its tokens
use, and every cached key and value, once: bytes over bandwidth. A prefill multiplies every token
with every weight it uses, 2 FLOPs a weight, and adds causal attention, which grows with the square
of the prompt: FLOPs over peak. And both need the weights and the KV cache to fit.

A model is a stack of layers, which may be of several kinds; the parts of a layer count for
themselves (model_parts.py). Counted is what the algorithm needs: the embedding table is not read
per token, the head runs on the last prompt token only, causal attention is half the square, of a
mixture of experts the expected number of those that a step's tokens choose is read.
"""

from dataclasses import dataclass, replace
from functools import cached_property

from inference_benchmark.model.parts import (
    Attention,
    AttentionTemperature,
    DenseFeedForward,
    FeedForward,
    GroupedQueryAttention,
    GroupLimitedRouter,
    InputRouter,
    LatentAttention,
    LayerConfig,
    Llama3RopeScaling,
    MixtureOfExperts,
    Rope,
    YarnRopeScaling,
)

__all__ = [
    "MODELS",
    "AttentionTemperature",
    "DenseFeedForward",
    "GroupLimitedRouter",
    "GroupedQueryAttention",
    "InputRouter",
    "LatentAttention",
    "LayerConfig",
    "Llama3RopeScaling",
    "MixtureOfExperts",
    "ModelConfig",
    "Precision",
    "Rope",
    "YarnRopeScaling",
    "decode_contexts",
]

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
class ModelConfig:
    """A model. Where layers differ, attention and feed_forward are tuples with a kind per layer."""

    name: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    attention: Attention | tuple[Attention, ...]
    feed_forward: FeedForward | tuple[FeedForward, ...]
    context_length: int
    rope: Rope
    norm_eps: float = 1e-5
    tied_embeddings: bool = False
    full_num_layers: int | None = None  # set where fewer layers are built than the model has
    architecture: str = "llama"  # whose checkpoints it reads: llama, deepseek_v3, llama4
    tensor_parallel: int = 1  # over 1: this is what one of so many ranks holds and computes

    def __post_init__(self) -> None:
        for kinds in (self.attention, self.feed_forward):
            if isinstance(kinds, tuple) and len(kinds) != self.num_layers:
                raise ValueError(f"{self.name}: {len(kinds)} kinds for {self.num_layers} layers")

    @cached_property
    def layers(self) -> tuple[LayerConfig, ...]:
        """Each layer's kind, first layer first."""
        attention, feed_forward = (
            kinds if isinstance(kinds, tuple) else (kinds,) * self.num_layers
            for kinds in (self.attention, self.feed_forward)
        )
        return tuple(map(LayerConfig, attention, feed_forward))

    @property
    def layer_kinds(self) -> tuple[LayerConfig, ...]:
        """The distinct kinds of layers, in the order in which they first occur."""
        return tuple(dict.fromkeys(self.layers))

    @property
    def rope_dim(self) -> int:
        return self.layers[0].attention.rope_dim

    @property
    def supports_flash_decode(self) -> bool:
        """Whether any layer can use our decode kernels; the others then use plain PyTorch."""
        return any(layer.attention.supports_flash_decode for layer in self.layers)

    @property
    def is_plain(self) -> bool:
        """Whether every weight of a layer's matrices belongs to a linear layer of its own."""
        return self.num_experts is None and all(
            isinstance(layer.attention, GroupedQueryAttention) for layer in self.layers
        )

    @property
    def num_experts(self) -> int | None:
        """Experts of a mixture-of-experts layer; None for a dense model."""
        kinds = [layer.feed_forward for layer in self.layers]
        return max((each.num_experts for each in kinds if _is_mixture(each)), default=None)

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
        """The same model with its first num_layers layers only.

        Raises:
            ValueError: fewer than one layer, or more than the model has.
        """
        if num_layers is None:
            return self
        if not 1 <= num_layers <= self.num_layers:
            raise ValueError(f"{self.name} has {self.num_layers} layers, not {num_layers}")
        return replace(
            self,
            num_layers=num_layers,
            attention=_first(self.attention, num_layers),
            feed_forward=_first(self.feed_forward, num_layers),
            full_num_layers=self.full_num_layers or self.num_layers,
        )

    def sharded(self, size: int) -> "ModelConfig":
        """What each of `size` ranks holds: all arithmetic below is then that of one rank.

        Heads, feed-forward columns and the rows of the head are divided; the embedding table, norms,
        routers and what leads to a latent vector are on every rank.

        Raises:
            ValueError: something can't be divided.
        """
        if size == 1:
            return self
        if self.vocab_size % size:
            raise ValueError(f"{self.name}: {self.vocab_size} tokens can't be divided by {size}")
        try:
            attention, feed_forward = (
                tuple(kind.sharded(size) for kind in kinds)
                if isinstance(kinds, tuple)
                else kinds.sharded(size)
                for kinds in (self.attention, self.feed_forward)
            )
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None
        return replace(self, attention=attention, feed_forward=feed_forward, tensor_parallel=size)

    # Parameters

    @property
    def embedding_parameters(self) -> int:
        return self.vocab_size * self.hidden_size

    @property
    def head_parameters(self) -> int:
        return self.embedding_parameters // self.tensor_parallel

    @property
    def linear_parameters(self) -> int:
        """Weights of all layers' matrices, those kept in fp32 aside."""
        return sum(
            layer.attention.linear_parameters(self.hidden_size)
            + layer.feed_forward.linear_parameters(self.hidden_size)
            for layer in self.layers
        )

    @property
    def fp32_parameters(self) -> int:
        return sum(layer.feed_forward.fp32_parameters(self.hidden_size) for layer in self.layers)

    @property
    def norm_parameters(self) -> int:
        own = sum(layer.attention.norm_parameters() for layer in self.layers)
        return (2 * self.num_layers + 1) * self.hidden_size + own

    @property
    def parameters(self) -> int:
        tables = self.embedding_parameters
        tables += 0 if self.tied_embeddings else self.head_parameters
        return tables + self.linear_parameters + self.fp32_parameters + self.norm_parameters

    @property
    def active_parameters(self) -> int:
        """Parameters one token uses, the embedding table counted as in the published totals."""
        unused = sum(
            layer.feed_forward.linear_parameters(self.hidden_size)
            + layer.feed_forward.fp32_parameters(self.hidden_size)
            - layer.feed_forward.active_parameters(self.hidden_size)
            for layer in self.layers
        )
        return self.parameters - unused

    # Bytes

    def weight_bytes(self, precision: Precision) -> int:
        """Bytes all weights occupy."""
        linear, fp32 = self.linear_parameters, self.fp32_parameters
        rest = self.parameters - linear - fp32
        return (
            linear * precision.linear_bytes
            + rest * precision.base_bytes
            + fp32 * BYTES_PER_VALUE["fp32"]
        )

    def kv_bytes_per_token(self, precision: Precision) -> int:
        """KV cache bytes one token of one sequence occupies over all layers."""
        values = sum(layer.attention.cache_values_per_token() for layer in self.layers)
        return values * precision.base_bytes

    def kv_cache_bytes(self, precision: Precision, batch_size: int, cache_length: int) -> int:
        return batch_size * cache_length * self.kv_bytes_per_token(precision)

    def step_weight_bytes(self, precision: Precision, num_tokens: int) -> int:
        """Weight bytes that one forward over num_tokens tokens reads, each once.

        The head is read whole, of the embedding table one row per token, of a mixture's experts
        the expected number of distinct ones.
        """
        linear = sum(
            layer.attention.linear_parameters(self.hidden_size)
            + layer.feed_forward.parameters_read(self.hidden_size, num_tokens)
            for layer in self.layers
        )
        rest = self.head_parameters + self.norm_parameters + num_tokens * self.hidden_size
        return (
            linear * precision.linear_bytes
            + rest * precision.base_bytes
            + self.fp32_parameters * BYTES_PER_VALUE["fp32"]
        )

    def decode_kv_bytes(self, precision: Precision, batch_size: int, contexts: range) -> float:
        """KV cache bytes a decode step reads; with chunked attention those of the last chunk."""
        values = sum(
            layer.attention.cache_values_per_token() * layer.attention.attended(contexts)
            for layer in self.layers
        )
        return batch_size * values * precision.base_bytes

    def decode_bytes(self, precision: Precision, batch_size: int, contexts: range) -> float:
        """Bytes of one decode step, the mean of steps whose tokens have these contexts."""
        kv = self.decode_kv_bytes(precision, batch_size, contexts)
        return self.step_weight_bytes(precision, batch_size) + kv

    def prefill_bytes(self, precision: Precision, batch_size: int, input_length: int) -> int:
        """Bytes of a prefill: the weights read once, the KV cache written once."""
        weights = self.step_weight_bytes(precision, batch_size * input_length)
        return weights + self.kv_cache_bytes(precision, batch_size, input_length)

    # FLOPs

    @property
    def linear_flops_per_token(self) -> int:
        return 2 * sum(
            layer.attention.linear_parameters(self.hidden_size)
            + layer.feed_forward.active_parameters(self.hidden_size)
            for layer in self.layers
        )

    @property
    def head_flops(self) -> int:
        return 2 * self.head_parameters

    def prefill_flops(self, batch_size: int, input_length: int) -> int:
        """FLOPs of a prefill: all tokens through all layers, the last one through the head."""
        linear = batch_size * (input_length * self.linear_flops_per_token + self.head_flops)
        return linear + self.prefill_attention_flops(batch_size, input_length)

    def prefill_attention_flops(self, batch_size: int, input_length: int) -> int:
        """The part of prefill_flops that grows with the square of the prompt."""
        return batch_size * sum(
            layer.attention.prefill_score_flops(input_length) for layer in self.layers
        )

    def decode_flops(self, batch_size: int, contexts: range) -> float:
        """FLOPs of one decode step over batch_size tokens, the mean of steps with these contexts."""
        linear = batch_size * (self.linear_flops_per_token + self.head_flops)
        return linear + self.decode_attention_flops(batch_size, contexts)

    def decode_attention_flops(self, batch_size: int, contexts: range) -> float:
        """The part of decode_flops that grows with the context."""
        scores = sum(layer.attention.decode_score_flops(contexts) for layer in self.layers)
        return batch_size * scores


def _is_mixture(feed_forward: FeedForward) -> bool:
    return isinstance(feed_forward, MixtureOfExperts)


def _first(kinds, count: int):
    return kinds[:count] if isinstance(kinds, tuple) else kinds


def decode_contexts(input_length: int, output_length: int) -> range:
    """How long the context of each decode step of a run is, its own token included.

    Of a run without decode steps, that of the step which would be the first.
    """
    first = input_length + 1
    return range(first, max(input_length + output_length, first + 1))


_LLAMA31_ROPE = Rope(500000.0, Llama3RopeScaling(factor=8.0))
_LLAMA32_ROPE = Rope(500000.0, Llama3RopeScaling(factor=32.0))
_LLAMA2_ROPE = Rope(10000.0)


def _gqa(num_heads: int, num_kv_heads: int, head_dim: int = 128) -> GroupedQueryAttention:
    return GroupedQueryAttention(num_heads, num_kv_heads, head_dim)


def every(period: int, special, other, num_layers: int) -> tuple:
    """One kind per layer: each period-th layer is special, all layers between are other."""
    return tuple(special if (i + 1) % period == 0 else other for i in range(num_layers))


_DEEPSEEK_YARN = YarnRopeScaling(40.0, 4096, 32.0, 1.0, mscale=1.0, mscale_all_dim=1.0)
_DEEPSEEK_ATTENTION = LatentAttention(
    num_heads=128,
    query_rank=1536,
    latent_dim=512,
    nope_dim=128,
    rope_dim=64,
    value_dim=128,
    softmax_factor=_DEEPSEEK_YARN.softmax_factor,
)
_DEEPSEEK_EXPERTS = MixtureOfExperts(256, 8, 2048, 2048, GroupLimitedRouter(8, 4, scale=2.5))
_DEEPSEEK_LAYERS = (DenseFeedForward(18432),) * 3 + (_DEEPSEEK_EXPERTS,) * 58

_SCOUT_ROPE = Rope(500000.0, Llama3RopeScaling(16.0, 1.0, 1.0, 8192), interleaved=True)
_MAVERICK_ROPE = Rope(500000.0, interleaved=True)


def _llama4_attention(normalizes_qk: bool) -> tuple[GroupedQueryAttention, ...]:
    """Three layers with RoPE and chunks of 8192 tokens, then one without either."""
    plain = _gqa(40, 8)
    chunked = replace(plain, normalizes_qk=normalizes_qk, chunk_size=8192)
    nope = replace(plain, uses_rope=False, temperature=AttentionTemperature())
    return every(4, nope, chunked, 48)


_SCOUT_EXPERTS = MixtureOfExperts(16, 1, 8192, 8192, InputRouter())
_MAVERICK_EXPERTS = MixtureOfExperts(128, 1, 8192, 8192, InputRouter())
_MAVERICK_LAYERS = every(2, _MAVERICK_EXPERTS, DenseFeedForward(16384), 48)

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
    # Layers of several kinds; text models, without multi-token prediction.
    ModelConfig("deepseekv3-670b", 129280, 7168, 61, _DEEPSEEK_ATTENTION, _DEEPSEEK_LAYERS,
                163840, Rope(10000.0, _DEEPSEEK_YARN, interleaved=True), norm_eps=1e-6,
                architecture="deepseek_v3"),
    ModelConfig("llama4-scout",    202048, 5120, 48, _llama4_attention(normalizes_qk=True),
                _SCOUT_EXPERTS, 10485760, _SCOUT_ROPE, architecture="llama4"),
    ModelConfig("llama4-maverick", 202048, 5120, 48, _llama4_attention(normalizes_qk=False),
                _MAVERICK_LAYERS, 1048576, _MAVERICK_ROPE, architecture="llama4"),
)
# fmt: on

MODELS: dict[str, ModelConfig] = {model.name: model for model in _TABLE}
