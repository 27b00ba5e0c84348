"""Every tensor that a decoder needs, by its name in a Hugging Face checkpoint of its family."""

import re
from collections.abc import Collection, Container, Iterator

from torch import Tensor

from inference_benchmark.model.checkpoint_layout import Layout, Target
from inference_benchmark.model.decoder import Decoder
from inference_benchmark.model.families import FAMILIES, Family
from inference_benchmark.model.part_modules import layer_tensors

# Multimodal checkpoints keep their text model under this name.
_TEXT_PREFIXES = ("", "language_model.")
# Tensors that follow from others: RoPE's tables of older files.
_DERIVED = re.compile(r"\.rotary_emb\.inv_freq$")


def targets(decoder: Decoder, available: Container[str]) -> dict[str, Target]:
    """Every tensor the decoder needs, by its name in the checkpoint.

    Raises:
        KeyError: one is not available; the message names it.
    """
    prefix = _prefix(available)
    named = _all(decoder, prefix, available, decoder.config.rope.interleaved)
    needed = {f"{prefix}{name}": target for name, target in named}
    for name in needed:
        if name not in available:
            raise KeyError(f"{name} is missing in the checkpoint")
    return needed


class _Everything:
    """Holds each name that a plain text model has."""

    def __contains__(self, name: object) -> bool:
        return True


def tensors(decoder: Decoder) -> dict[str, Tensor]:
    """The decoder's weights by their names in a checkpoint of its family: views, no copies.

    Raises:
        ValueError: a tensor is laid out otherwise than in such a checkpoint.
    """
    config = decoder.config
    # Of the families that can be handed over a GGUF file alone has pairs side by side. It is what the
    # weights came from; a checkpoint has the halves that the decoder has.
    interleaved = config.rope.interleaved and FAMILIES[config.family].write is None
    every = _all(decoder, "", _Everything(), interleaved)
    return {name: target.tensor for name, target in every}


def _prefix(available: Container[str]) -> str:
    return next(
        (prefix for prefix in _TEXT_PREFIXES if f"{prefix}model.embed_tokens.weight" in available),
        "",
    )


def _all(
    decoder: Decoder, prefix: str, available: Container[str], interleaved: bool
) -> Iterator[tuple[str, Target]]:
    yield "model.embed_tokens.weight", Target(decoder.embed_tokens.weight)
    yield "model.norm.weight", Target(decoder.norm.weight)
    if not decoder.config.tied_embeddings:
        yield "lm_head.weight", Target(decoder.lm_head.weight, shard=decoder.shards.get("lm_head"))
    config = decoder.config
    family = FAMILIES[config.family]
    for index, (layer, layer_config) in enumerate(zip(decoder.layers, config.layers, strict=True)):
        path = f"model.layers.{index}"
        stacked = f"{prefix}{path}.{_renamed('mlp.experts.gate_up_proj', family)}" in available
        layout = Layout(interleaved, stacked, family.experts_input_first)
        within = f"layers.{index}."
        shards = {
            name.removeprefix(within): shard
            for name, shard in decoder.shards.items()
            if name.startswith(within)
        }
        for name, target in layer_tensors(layer, layer_config, layout, shards):
            yield f"{path}.{_renamed(name, family)}", target


def _renamed(name: str, family: Family) -> str:
    """A tensor's name within a layer as the family has it; the longest matching path decides."""
    for path in sorted(family.tensor_names, key=len, reverse=True):
        if name == path or name.startswith(f"{path}."):
            return family.tensor_names[path] + name[len(path) :]
    return name


def unexpected(decoder: Decoder, available: Collection[str]) -> list[str]:
    """Tensors of the text model that no part of the full model takes: another model's weights.

    Layers beyond those that are built belong to the full model, layers beyond that one do not,
    those for multi-token prediction aside.
    """
    config, prefix = decoder.config, _prefix(available)
    family = FAMILIES[config.family]
    full_num_layers = config.full_num_layers or config.num_layers
    needed = targets(decoder, available)
    return [
        name
        for name in sorted(available)
        if name.startswith(f"{prefix}model.") or name == f"{prefix}lm_head.weight"
        if name not in needed
        and not _DERIVED.search(name)
        and not (name == f"{prefix}lm_head.weight" and config.tied_embeddings)
        and not _is_unbuilt(name, prefix, config.num_layers, full_num_layers)
        and not _is_extra_layer(name, prefix, family, available)
    ]


def _layer_index(name: str, prefix: str) -> int | None:
    match = re.match(rf"{re.escape(prefix)}model\.layers\.(\d+)\.", name)
    return None if match is None else int(match[1])


def _is_unbuilt(name: str, prefix: str, num_layers: int, full_num_layers: int) -> bool:
    index = _layer_index(name, prefix)
    return index is not None and num_layers <= index < full_num_layers


def _is_extra_layer(name: str, prefix: str, family: Family, available: Container[str]) -> bool:
    """Whether it belongs to a layer that the family marks as not being one of the decoder's."""
    index = _layer_index(name, prefix)
    if index is None or family.extra_layer_tensor is None:
        return False
    return f"{prefix}model.layers.{index}.{family.extra_layer_tensor}" in available
