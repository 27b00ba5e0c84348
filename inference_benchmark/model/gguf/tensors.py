"""A GGUF file's tensors by the names of a Hugging Face checkpoint, as safetensors would give them."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from inference_benchmark.model.gguf.container import StoredTensor, read_gguf
from inference_benchmark.model.gguf.dequantize import dequantize
from inference_benchmark.model.gguf.names import ROPE_FACTORS, from_gguf


class GgufTensors:
    """What checkpoint.py needs of a safetensors file, of a file that read_model found to be sound.

    Values are taken to the device as they are stored and become numbers there.
    """

    def __init__(self, path: Path, device: str) -> None:
        self._device = device
        # Copied on write, so that torch may have it; nothing is ever written.
        self._content = np.memmap(path, np.uint8, mode="c")
        self._tensors = {
            from_gguf(name): tensor
            for name, tensor in read_gguf(path).tensors.items()
            if name != ROPE_FACTORS
        }

    def __enter__(self) -> "GgufTensors":
        return self

    def __exit__(self, *_: object) -> None:
        self._content = None

    def keys(self) -> list[str]:
        return list(self._tensors)

    def get_slice(self, name: str) -> "_Description":
        return _Description(self._tensors[name])

    def get_tensor(self, name: str) -> Tensor:
        tensor = self._tensors[name]
        stored = self._content[tensor.offset : tensor.offset + tensor.num_bytes]
        values = dequantize(torch.from_numpy(stored).to(self._device), tensor.type)
        return values.view(tensor.shape)


class _Description:
    def __init__(self, tensor: StoredTensor) -> None:
        self._tensor = tensor

    def get_shape(self) -> list[int]:
        return list(self._tensor.shape)

    def get_dtype(self) -> str:
        """Of the values, however they are stored."""
        return "F32"
