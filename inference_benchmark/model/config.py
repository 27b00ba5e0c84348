"""A model: a stack of layers, which need not be alike, and the tables around it. No torch.

The parts of a layer are in parts.py; what a model of them needs to store, read and compute is in
arithmetic.py.
"""

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

from inference_benchmark.model.arithmetic import Arithmetic
from inference_benchmark.model.parts import (
    Attention,
    FeedForward,
    LayerConfig,
    MixtureOfExperts,
    Rope,
)
from inference_benchmark.model.weight_format import Precision

__all__ = ["ModelConfig", "Precision", "decode_contexts", "every"]


@dataclass(frozen=True)
class ModelConfig(Arithmetic):
    """A model. Where layers differ, attention and feed_forward are tuples with one part per layer."""

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
    family: str = "llama"  # whose checkpoints it reads: a name of model/families
    tensor_parallel: int = 1  # over 1: this is what one of so many ranks holds and computes

    is_foreign: ClassVar[bool] = False  # of an architecture that is not ours (foreign_config.py)

    def __post_init__(self) -> None:
        for parts in (self.attention, self.feed_forward):
            if isinstance(parts, tuple) and len(parts) != self.num_layers:
                raise ValueError(f"{self.name}: {len(parts)} parts for {self.num_layers} layers")

    @cached_property
    def layers(self) -> tuple[LayerConfig, ...]:
        """All layers, the first one first."""
        attention, feed_forward = (
            parts if isinstance(parts, tuple) else (parts,) * self.num_layers
            for parts in (self.attention, self.feed_forward)
        )
        return tuple(map(LayerConfig, attention, feed_forward))

    @cached_property
    def _layer_counts(self) -> Counter[LayerConfig]:
        """How many layers there are of each kind."""
        return Counter(self.layers)

    @property
    def layer_kinds(self) -> tuple[LayerConfig, ...]:
        """The distinct kinds of layers, in the order in which they first occur."""
        return tuple(self._layer_counts)

    @property
    def rope_dim(self) -> int:
        return self.layers[0].attention.rope_dim

    @property
    def supports_flash_decode(self) -> bool:
        """Whether any layer can use our decode kernels; the others then use plain PyTorch."""
        return any(layer.attention.supports_flash_decode for layer in self.layer_kinds)

    @property
    def caches_heads(self) -> bool:
        """Whether a decode step of any layer can use PyTorch's attention over the cache's slots."""
        return any(layer.attention.caches_heads for layer in self.layer_kinds)

    @property
    def is_plain(self) -> bool:
        """Whether every matrix of a layer belongs to a linear layer: what weight formats need."""
        return all(
            layer.attention.is_plain and layer.feed_forward.is_plain for layer in self.layer_kinds
        )

    @property
    def num_experts(self) -> int | None:
        """Experts of a mixture-of-experts layer; None for a dense model."""
        mixtures = (layer.feed_forward for layer in self.layer_kinds)
        counts = (part.num_experts for part in mixtures if isinstance(part, MixtureOfExperts))
        return max(counts, default=None)

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
            attention=_first_layers(self.attention, num_layers),
            feed_forward=_first_layers(self.feed_forward, num_layers),
            full_num_layers=self.full_num_layers or self.num_layers,
        )

    def one_layer(self) -> "ModelConfig":
        """The same model with a single layer, of the kind that it has most of."""
        layer, _ = self._layer_counts.most_common(1)[0]
        return replace(
            self,
            num_layers=1,
            attention=layer.attention,
            feed_forward=layer.feed_forward,
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
                tuple(part.sharded(size) for part in parts)
                if isinstance(parts, tuple)
                else parts.sharded(size)
                for parts in (self.attention, self.feed_forward)
            )
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None
        return replace(self, attention=attention, feed_forward=feed_forward, tensor_parallel=size)


def _first_layers(parts, count: int):
    return parts[:count] if isinstance(parts, tuple) else parts


def every(period: int, special, other, num_layers: int) -> tuple:
    """One part per layer: each period-th layer is special, all layers between are other."""
    return tuple(special if (i + 1) % period == 0 else other for i in range(num_layers))


def decode_contexts(input_length: int, output_length: int) -> range:
    """How long the context of each decode step of a run is, its own token included.

    Of a run without decode steps, that of the step which would be the first.
    """
    first = input_length + 1
    return range(first, max(input_length + output_length, first + 1))
