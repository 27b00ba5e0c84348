"""One model in several weight formats: decoders that share everything but the layers' matrices.

They are made while the model itself is built, or after it was read: layer by layer, each matrix
stored in every format, before the next layer is there. Where nobody runs the model as it is, its
own matrices are given up again layer by layer, so that no two copies of it exist at any time.
"""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import nn

from inference_benchmark.model.config import ModelConfig, Precision
from inference_benchmark.model.decoder import Decoder
from inference_benchmark.model.linear import QuantizedLinear
from inference_benchmark.model.stored_modules import modules_to_store, stored
from inference_benchmark.model.weights import empty_decoder, initialize
from inference_benchmark.parallel.sharding import Shard

AfterLayer = Callable[[int], None]


class FormatDecoders:
    """A decoder `base` and, by the name of their precision, `decoders` that store its matrices
    otherwise.

    keeps_base: whether base keeps its matrices, or loses those of each layer that was stored.
    """

    def __init__(self, base: Decoder, precisions: Sequence[Precision], keeps_base: bool) -> None:
        self.base = base
        self.keeps_base = keeps_base
        self._precisions = {precision.name: precision for precision in precisions}
        self.decoders = {name: _sibling(base, p) for name, p in self._precisions.items()}

    @torch.no_grad()
    def store_layer(self, index: int) -> None:
        """Store the matrices of a layer, which the base decoder must have, in every format."""
        for path, module in modules_to_store(self.base.layers[index]).items():
            for name, precision in self._precisions.items():
                in_format = stored(module, precision.weight_format)
                setattr(self.decoders[name].layers[index], path, in_format)

    @torch.no_grad()
    def release_layer(self, index: int) -> None:
        """Give up the base decoder's own matrices of a layer, unless they are kept."""
        if self.keeps_base:
            return
        for module in modules_to_store(self.base.layers[index]).values():
            module.to_empty(device="meta")

    @torch.no_grad()
    def store_rest(self) -> None:
        """The head, which is complete after all layers."""
        for name, precision in self._precisions.items():
            decoder = self.decoders[name]
            if precision.with_head:
                head = QuantizedLinear(self.base.lm_head.weight, precision.head_format)
                decoder.lm_head = head


def _sibling(base: Decoder, precision: Precision) -> Decoder:
    """A decoder of the very same modules, in containers of its own."""
    sibling = _shallow(base)
    sibling.layers = nn.ModuleList(_shallow(layer) for layer in base.layers)
    sibling.weight_format = precision.weight_format
    sibling.head_format = precision.head_format if precision.with_head else None
    return sibling


def _shallow(module: nn.Module):
    """A copy that shares the module's parameters and parts, and may be given others."""
    shallow = copy.copy(module)
    for name in ("_modules", "_parameters", "_buffers"):
        setattr(shallow, name, dict(getattr(module, name)))
    return shallow


def build_decoders(
    config: ModelConfig,
    precisions: Sequence[Precision],
    keeps_base: bool,
    device: torch.device | str,
    context_length: int,
    seed: int,
    shard: Shard | None = None,
    watch: Callable[[FormatDecoders], AfterLayer] | None = None,
) -> FormatDecoders:
    """Random weights, the same as build_decoder's, in the base type and in these precisions.

    watch: makes what is told of each layer when all of its decoders have it.
    """
    base = empty_decoder(config, precisions[0].base, device, shard, is_lazy=True)
    base.set_context_length(context_length)
    made = FormatDecoders(base, precisions, keeps_base)
    told = watch(made) if watch is not None else None

    def after_layer(index: int) -> None:
        made.store_layer(index)
        if told is not None:
            told(index)
        made.release_layer(index)

    initialize(base, seed, after_layer)
    made.store_rest()
    return made


def store_all(made: FormatDecoders, told: AfterLayer) -> None:
    """The same for a base decoder that is complete, as one that was read from files."""
    for index in range(len(made.base.layers)):
        made.store_layer(index)
        told(index)
        made.release_layer(index)
    made.store_rest()
