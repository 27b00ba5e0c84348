"""A model of an architecture that is not ours: what its folder says of it, for engines that know it.

The transformers library builds it, so that it can be timed and checked against itself. What it computes
per token is not known here: it has no FLOPs, no limits, no KV cache size of its own. Imports no torch.
"""

import json
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import ClassVar

from inference_benchmark.errors import printable
from inference_benchmark.model.checkpoint_config import (
    CheckpointError,
    read_json,
    weight_files,
)
from inference_benchmark.model.config import ModelConfig, Precision

_NO_LIMIT = 1 << 30  # tokens
_WIDEST = (
    8  # times the hidden size: a gated feed-forward of usual width, for the prediction of memory
)


@dataclass(frozen=True)
class ForeignModelConfig(ModelConfig):
    """architecture: as config.json names it. stored_parameters: in the files."""

    architecture: str = ""
    stored_parameters: int = 0

    is_foreign: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """It has no layers that are known."""

    @property
    def is_plain(self) -> bool:
        return False

    @property
    def parameters(self) -> int:
        return self.stored_parameters

    @property
    def active_parameters(self) -> None:
        return None

    def with_layers(self, num_layers: int | None) -> "ForeignModelConfig":
        """
        Raises:
            ValueError: it can only be had whole.
        """
        if num_layers is None:
            return self
        raise ValueError(f"{self.architecture} is built by transformers, whole")

    def sharded(self, size: int) -> "ForeignModelConfig":
        """
        Raises:
            ValueError: it is not for several ranks.
        """
        if size == 1:
            return self
        raise ValueError(f"{self.architecture} is built by transformers, on one GPU")

    def weight_bytes(self, precision: Precision) -> int:
        return self.stored_parameters * precision.base_bytes

    def kv_bytes_per_token(self, precision: Precision) -> None:
        return None

    def kv_cache_bytes(self, precision: Precision, batch_size: int, cache_length: int) -> int:
        """The most that is likely: keys and values of every layer as wide as the hidden state."""
        values = 2 * self.num_layers * self.hidden_size
        return batch_size * cache_length * values * precision.base_bytes

    def widest_activation_values(self) -> int:
        return _WIDEST * self.hidden_size

    def check_bytes(self, precision: Precision, tokens: int) -> int:
        """Of the output check: the model once more in fp32, or fp64 where it is fp32 itself, with
        activations and logits of so many tokens in both."""
        wide = 2 * precision.base_bytes if precision.base_bytes > 2 else 4
        values = (4 + _WIDEST) * self.hidden_size + 3 * self.vocab_size
        return self.stored_parameters * wide + tokens * values * (wide + precision.base_bytes)


def read_foreign_model(folder: Path) -> ForeignModelConfig:
    """
    Raises:
        CheckpointError: there are no safetensors files, or transformers does not know the model.
    """
    files = weight_files(folder)
    path = folder / "config.json"
    listed = read_json(path).get("architectures")
    architecture = listed[0] if isinstance(listed, list) and listed else "none"
    config = _transformers_config(folder)
    try:
        return ForeignModelConfig(
            name=printable(folder.resolve().name),
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            num_layers=config.num_hidden_layers,
            attention=(),
            feed_forward=(),
            context_length=_context_length(config),
            rope=None,
            tied_embeddings=bool(getattr(config, "tie_word_embeddings", False)),
            family=config.model_type,
            architecture=str(architecture),
            stored_parameters=sum(map(_count_values, files)),
        )
    except AttributeError as error:
        raise CheckpointError(f"{path}: {architecture} without a {error.name}") from None


def _context_length(config) -> int:
    """Of models without positions, such as state spaces, or with biases instead there is none."""
    named = (getattr(config, name, None) for name in ("max_position_embeddings", "seq_length"))
    return next((length for length in named if length), _NO_LIMIT)


def _transformers_config(folder: Path):
    """transformers' own reading of config.json; code that lies in the folder is never run."""
    from transformers import AutoConfig, logging
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    logging.set_verbosity_error()
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # whatever the model's own class makes of the file
        words = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"{folder}: transformers can't read config.json: {words}") from None
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise CheckpointError(
            f"{folder}: {config.model_type} is no causal language model of transformers"
        )
    return config


def _count_values(file: Path) -> int:
    """Of all tensors of a safetensors file, by its header."""
    with file.open("rb") as stream:
        head = stream.read(8)
        size = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        try:
            header = json.loads(stream.read(min(size, file.stat().st_size)))
            return sum(prod(d["shape"]) for name, d in header.items() if name != "__metadata__")
        except (ValueError, KeyError, TypeError, AttributeError):
            raise CheckpointError(f"{file} is truncated or no safetensors file") from None
