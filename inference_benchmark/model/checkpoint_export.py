"""The decoder's weights for other programs: as a Hugging Face folder, or as tensors in memory.

Other engines are given the very weights that ours have, so that what they generate can be compared.
A folder holds config.json and safetensors files, under the names that checkpoints of the family use.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from inference_benchmark.errors import CannotRun
from inference_benchmark.model.checkpoint_names import tensors
from inference_benchmark.model.decoder import Decoder
from inference_benchmark.model.families import FAMILIES

_FILE_BYTES = 4_000_000_000  # as checkpoints are cut


def config_json(decoder: Decoder) -> dict:
    """The config.json of the decoder's model, as transformers and others read it.

    Raises:
        CannotRun: the family's weights can't be handed over.
    """
    model = decoder.config
    write = FAMILIES[model.family].write
    if write is None or len(model.layer_kinds) > 1 or decoder_is_quantised(decoder):
        raise CannotRun(
            f"the weights of {model.label} can't be handed to an engine that brings its own model: "
            f"dense models of {', '.join(writable())} in bf16, fp16 or fp32 can"
        )
    dtype = str(decoder.norm.weight.dtype).removeprefix("torch.")
    return {**write(model), "torch_dtype": dtype}


def decoder_is_quantised(decoder: Decoder) -> bool:
    return decoder.weight_format is not None and decoder.weight_format.module is not None


def writable() -> list[str]:
    """Families whose weights can be handed over."""
    return [family.name for family in FAMILIES.values() if family.write is not None]


def export_safetensors(decoder: Decoder, folder: Path) -> None:
    """Write config.json and safetensors files into the folder.

    Raises:
        CannotRun: the family's weights can't be handed over.
        OSError: there is no room.
    """
    from safetensors.torch import save_file

    export_config(decoder, folder)
    files: dict[str, list[str]] = {}
    for number, part in enumerate(_parts(tensors(decoder))):
        name = f"model-{number + 1:05d}.safetensors"
        # Views of one matrix are several tensors to a file: each gets memory of its own.
        save_file(
            {key: value.to("cpu", copy=True).contiguous() for key, value in part.items()},
            folder / name,
            metadata={"format": "pt"},
        )
        files[name] = list(part)
    index = {key: name for name, keys in files.items() for key in keys}
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )


def export_config(decoder: Decoder, folder: Path) -> None:
    """Write config.json alone.

    Raises:
        CannotRun: the family's weights can't be handed over.
    """
    (folder / "config.json").write_text(json.dumps(config_json(decoder)))


def _parts(weights: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The weights in groups that make a file each."""
    part: dict[str, Tensor] = {}
    size = 0
    for name, value in weights.items():
        if part and size + value.nbytes > _FILE_BYTES:
            yield part
            part, size = {}, 0
        part[name] = value
        size += value.nbytes
    yield part
