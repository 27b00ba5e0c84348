"""Which implementation of a model preset is measured: ours, transformers', or one of a user's file.

Whoever writes one gets a `PlainConfig` in the terms of a Hugging Face config.json. No torch.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.parts import (
    DenseFeedForward,
    GroupedQueryAttention,
    Llama3RopeScaling,
)

DEFAULT, TRANSFORMERS = "default", "transformers"


@dataclass(frozen=True)
class Implementation:
    """name: as it is shown. path, function: of a file that builds it, None for the two that are
    known by name."""

    name: str = DEFAULT
    path: Path | None = None
    function: str | None = None

    @property
    def is_default(self) -> bool:
        return self.name == DEFAULT and self.path is None


OURS = Implementation()


def parse(text: str) -> Implementation:
    """default, transformers or PATH:FUNCTION.

    Raises:
        ValueError: it is none of these, or there is no such file.
    """
    if text in (DEFAULT, TRANSFORMERS):
        return Implementation(text)
    path, colon, function = text.rpartition(":")
    if not colon or not function.isidentifier() or not path.endswith(".py"):
        raise ValueError(f"'{text}' is not {DEFAULT}, {TRANSFORMERS} or FILE.py:FUNCTION")
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"there is no file {path}")
    return Implementation(file.stem, file.resolve(), function)


def named_apart(implementations: list[Implementation]) -> list[Implementation]:
    """Several of one file get their function's name as well."""
    names = [implementation.name for implementation in implementations]
    return [
        replace(implementation, name=f"{implementation.name}:{implementation.function}")
        if implementation.path is not None and names.count(implementation.name) > 1
        else implementation
        for implementation in implementations
    ]


@dataclass(frozen=True)
class PlainConfig:
    """What a build function gets, named as in config.json of Hugging Face.

    rope_scaling: None, or {"rope_type": "llama3", "factor": ..., ...}. qk_norm: each head's query
    and key is divided by its root mean square, times learned weights (Qwen3).
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: dict | None
    max_position_embeddings: int
    tie_word_embeddings: bool
    qk_norm: bool
    model_type: str

    @classmethod
    def of(cls, model: ModelConfig) -> "PlainConfig":
        """
        Raises:
            ValueError: the model is not one of equal dense layers with grouped-query attention.
        """
        parts = model.layer_kinds[0]
        attention, feed_forward = parts.attention, parts.feed_forward
        if (
            len(model.layer_kinds) > 1
            or not isinstance(attention, GroupedQueryAttention)
            or not isinstance(feed_forward, DenseFeedForward)
            or attention.chunk_size is not None
        ):
            raise ValueError(f"{model.name} has other layers than Llama's")
        return cls(
            vocab_size=model.vocab_size,
            hidden_size=model.hidden_size,
            num_hidden_layers=model.num_layers,
            num_attention_heads=attention.num_heads,
            num_key_value_heads=attention.num_kv_heads,
            head_dim=attention.head_dim,
            intermediate_size=feed_forward.intermediate_size,
            rms_norm_eps=model.norm_eps,
            rope_theta=model.rope.theta,
            rope_scaling=_scaling(model.rope.scaling),
            max_position_embeddings=model.context_length,
            tie_word_embeddings=model.tied_embeddings,
            qk_norm=attention.learned_qk_norm,
            model_type=model.family,
        )

    def as_dict(self) -> dict:
        return asdict(self)


def _scaling(scaling) -> dict | None:
    if scaling is None:
        return None
    if not isinstance(scaling, Llama3RopeScaling):
        raise ValueError(f"RoPE scaling {type(scaling).__name__} has no plain description")
    return scaling.config_json()
