"""Weights from safetensors or GGUF files, one after the other, each tensor straight to its place.

Never more than one of the checkpoint's tensors is held beside the model. All names and shapes are
checked before the first is copied, so that what is wrong shows in a second, not in minutes. Values
are checked as they are copied: one NaN makes every output NaN, whatever executes the model.
"""

from contextlib import ExitStack
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from inference_benchmark.model.checkpoint_config import CheckpointError, weight_files
from inference_benchmark.model.checkpoint_layout import Target
from inference_benchmark.model.checkpoint_names import targets, unexpected
from inference_benchmark.model.decoder import Decoder
from inference_benchmark.model.gguf.container import is_gguf
from inference_benchmark.model.gguf.tensors import GgufTensors
from inference_benchmark.model.weights import matrices_to_quantize, quantize

_DTYPES = ("BF16", "F16", "F32", "F64")


@torch.no_grad()
def load_checkpoint(decoder: Decoder, folder: Path) -> None:
    """Fill the decoder from a folder's safetensors files, or from a GGUF file.

    Matrices that its weight format stores in several tensors are quantised when all have been read;
    until then they are there in the base type.

    Raises:
        CheckpointError: a file is damaged, a tensor is missing, one too many, of another shape,
            quantised, or holds values that are no numbers.
    """
    device = decoder.norm.weight.device
    to_quantize = matrices_to_quantize(decoder)
    for module in to_quantize.values():
        module.to_empty(device=device)
    with ExitStack() as stack:
        files = [stack.enter_context(_open(file, str(device))) for file in weight_files(folder)]
        file_of = {name: file for file in files for name in file.keys()}  # noqa: SIM118
        try:
            _copy(decoder, file_of)
        except KeyError as error:
            raise CheckpointError(f"{folder}: {error.args[0]}") from None
        except ValueError as error:
            raise CheckpointError(f"{folder}: {error}") from None
    for path in to_quantize:
        quantize(decoder, path)


def _copy(decoder: Decoder, file_of: dict) -> None:
    """file_of: the open file of each tensor; files are read one after the other."""
    wanted = targets(decoder, file_of)
    extra = unexpected(decoder, file_of)
    if extra:
        more = f" and {len(extra) - 1} more" if len(extra) > 1 else ""
        raise ValueError(
            f"{extra[0]}{more} in the weights, but not in the model that its configuration describes "
            f"({decoder.config.full_num_layers or decoder.config.num_layers} layers)"
        )
    for name, target in wanted.items():
        _check(name, file_of[name], target)
    for name, file in file_of.items():
        if name in wanted:
            value = file.get_tensor(name)
            _check_finite(name, value, "holds NaN or infinity")
            wanted[name].fill(value)
            dtype = str(wanted[name].view.dtype).removeprefix("torch.")
            _check_finite(name, wanted[name].view, f"holds values too large for {dtype}")


def _check_finite(name: str, value: Tensor, problem: str) -> None:
    """The extremes are NaN if any value is, and need no second tensor."""
    if value.numel() and not torch.isfinite(torch.stack(torch.aminmax(value))).all():
        raise ValueError(f"{name} {problem}")


def _open(file: Path, device: str):
    if is_gguf(file):
        return GgufTensors(file, device)
    try:
        return safe_open(file, framework="pt", device=device)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is truncated or no safetensors file ({error})") from None


def _check(name: str, file, target: Target) -> None:
    described = file.get_slice(name)
    shape = tuple(described.get_shape())
    if shape != target.shape:
        raise ValueError(f"{name}: shape {shape} in the checkpoint, {target.shape} expected")
    if described.get_dtype() not in _DTYPES:
        raise ValueError(f"{name}: {described.get_dtype()} is not supported, only {_DTYPES}")
