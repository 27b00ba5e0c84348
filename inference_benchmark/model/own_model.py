"""A model that is not ours, with the session's weights, behind the calls that engines make.

The contract of `build(config: PlainConfig) -> nn.Module`, in full in examples/own_model.py:

    model(input_ids [batch, length]) -> logits [batch, length, vocab]

Optional: `load_weights(weights)`, where its parameters are not named as Hugging Face's checkpoints
of the family name them; and for generation `decode(input_ids, position, caches) -> logits [batch,
vocab]` of the last position, which writes keys (rotated) and values of the input's positions into
caches, a list of (keys, values) [batch, kv_heads, cache_length, head_dim] for each layer, in place:
of a prompt from slot 0 on, of a single token at slot `position`, an int64 tensor [1].
"""

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inference_benchmark.errors import CannotRun
from inference_benchmark.model.checkpoint_names import tensors
from inference_benchmark.model.decoder import Decoder
from inference_benchmark.model.implementation import TRANSFORMERS, Implementation, PlainConfig
from inference_benchmark.model.trainer import cast_parameters


def build_own_model(implementation: Implementation, decoder: Decoder) -> nn.Module:
    """Built on the decoder's device in fp32, then cast to its type (parameters, not buffers), and
    filled with copies of its weights.

    Raises:
        CannotRun: the file has no such function, or the model can't take the weights.
        Exception: whatever the user's file raises.
    """
    weight = decoder.norm.weight
    config = PlainConfig.of(decoder.config)
    build = _find_build(implementation)
    with torch.device(weight.device):
        model = build(config)
    if not isinstance(model, nn.Module):
        raise CannotRun(f"{_called(implementation)} gave a {type(model).__name__}, not a Module")
    cast_parameters(model, weight.dtype)
    _load(model, named_weights(decoder), implementation)
    return model.requires_grad_(False).eval()


def named_weights(decoder: Decoder) -> dict[str, Tensor]:
    """Views of the decoder's weights, by their names in a Hugging Face checkpoint."""
    return tensors(decoder)


def _find_build(implementation: Implementation):
    if implementation.name == TRANSFORMERS and implementation.path is None:
        from inference_benchmark.model.transformers_model import build

        return build
    module = _import(implementation.path)
    function = getattr(module, implementation.function, None)
    if not callable(function):
        raise CannotRun(f"{_called(implementation)}: there is no such function in the file")
    return function


def _import(path: Path):
    """A file of the user's, which may import what lies beside it."""
    name = f"own_model_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(module)
    return module


def _called(implementation: Implementation) -> str:
    if implementation.path is None:
        return implementation.name
    return f"{implementation.path.name}:{implementation.function}"


@torch.no_grad()
def _load(model: nn.Module, weights: Mapping[str, Tensor], implementation: Implementation) -> None:
    if hasattr(model, "load_weights"):
        model.load_weights(weights)
        return
    parameters = dict(model.named_parameters())
    missing = sorted(set(parameters) - set(weights))
    unexpected = sorted(set(weights) - set(parameters))
    if missing or unexpected:
        raise CannotRun(
            f"{_called(implementation)}: its parameters are not named as the checkpoint's: it has "
            f"{_few(missing)}, and lacks {_few(unexpected)}; load_weights(weights) could take them"
        )
    for name, parameter in parameters.items():
        if parameter.shape != weights[name].shape:
            raise CannotRun(
                f"{_called(implementation)}: {name} is {list(parameter.shape)}, "
                f"not {list(weights[name].shape)}"
            )
        parameter.copy_(weights[name])


def _few(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more if names else "nothing else"


def can_generate(model: nn.Module) -> bool:
    return callable(getattr(model, "decode", None))


class OwnForward(nn.Module):
    """Called as decoder.Forward is."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, position: Tensor, caches) -> tuple[Tensor, ...]:
        if caches is None:
            return (self.model(tokens),)
        logits = self.model.decode(tokens, position, caches)
        return logits, torch.argmax(logits, dim=-1, keepdim=True)


class OwnLoss(nn.Module):
    """Called as training.LossForward is."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        logits = self.model(tokens)
        return F.cross_entropy(logits.reshape(-1, logits.shape[-1]).float(), targets.reshape(-1))
