"""Weights from safetensors files, shard by shard, each tensor straight to its place on the device.

Never more than one of the checkpoint's tensors is held beside the model. All names and shapes are
checked before the first is copied, so that what is wrong shows in a second, not in minutes.
"""

from contextlib import ExitStack
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from inference_benchmark.model.checkpoint_config import CheckpointError, weight_files
from inference_benchmark.model.checkpoint_names import Target, targets
from inference_benchmark.model.decoder import Decoder
from inference_benchmark.model.weights import check_shape, copy_tensor

_DTYPES = ("BF16", "F16", "F32", "F64")


@torch.no_grad()
def load_checkpoint(decoder: Decoder, folder: Path) -> None:
    """Fill the decoder from a folder's safetensors files.

    Raises:
        CheckpointError: a file is damaged, a tensor is missing, of another shape, or quantised.
    """
    device = str(decoder.norm.weight.device)
    with ExitStack() as stack:
        shards = [stack.enter_context(_open(file, device)) for file in weight_files(folder)]
        names = {name: shard for shard in shards for name in shard.keys()}  # noqa: SIM118
        try:
            wanted = targets(decoder, names)
            for name, target in wanted.items():
                _check(name, names[name], target)
        except KeyError as error:
            raise CheckpointError(f"{folder}: {error.args[0]}") from None
        except ValueError as error:
            raise CheckpointError(f"{folder}: {error}") from None
        for shard in shards:
            for name in shard.keys():  # noqa: SIM118
                if name in wanted:
                    copy_tensor(name, shard.get_tensor(name), wanted[name])


def _open(file: Path, device: str):
    try:
        return safe_open(file, framework="pt", device=device)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is truncated or no safetensors file ({error})") from None


def _check(name: str, shard, target: Target) -> None:
    described = shard.get_slice(name)
    check_shape(name, tuple(described.get_shape()), target)
    if described.get_dtype() not in _DTYPES:
        raise ValueError(f"{name}: {described.get_dtype()} is not supported, only {_DTYPES}")
