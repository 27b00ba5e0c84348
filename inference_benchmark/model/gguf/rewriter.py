"""A GGUF file once more with another vocabulary, its tensors byte by byte as they are stored.

For engines that take text only: what they read is the user's file but for its tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inference_benchmark.model.gguf.config import model_of
from inference_benchmark.model.gguf.container import GgufFile, StoredTensor, read_gguf
from inference_benchmark.model.gguf.names import EMBEDDING, HEAD, ROPE_FACTORS
from inference_benchmark.model.gguf.vocabulary import NUM_ADDED
from inference_benchmark.model.gguf.writer import announce, factors_of, write_file


def rewrite_gguf(source: Path, path: Path, vocabulary: str) -> None:
    """source: a file that was found to be sound. vocabulary: as write_gguf has it."""
    file = read_gguf(source)
    config = model_of(file)
    tensors = [*factors_of(config), *_kept(file, NUM_ADDED[vocabulary])]
    type_number = file.settings.get("general.file_type", 0)
    write_file(path, config, type_number, vocabulary, tensors)


@dataclass(frozen=True)
class _Kept:
    """A tensor of the file, and so many rows of zeros after it."""

    tensor: StoredTensor
    content: np.ndarray
    num_added: int

    def announce(self, writer) -> None:
        rows, *columns = self.tensor.shape
        shape = (rows + self.num_added, *columns)
        announce(writer, self.tensor.name, self.tensor.type_name, shape)

    def stored(self) -> np.ndarray:
        """Its bytes; in every type that is read, a block of zero bytes is one of zeros."""
        tensor = self.tensor
        stored = self.content[tensor.offset : tensor.offset + tensor.num_bytes]
        if not self.num_added:
            return stored
        row_bytes = tensor.num_bytes // tensor.shape[0]
        return np.concatenate((stored, np.zeros(self.num_added * row_bytes, np.uint8)))


def _kept(file: GgufFile, num_added: int) -> Iterator[_Kept]:
    content = np.memmap(file.path, np.uint8, mode="r")
    for name, tensor in file.tensors.items():
        if name != ROPE_FACTORS:
            yield _Kept(tensor, content, num_added if name in (EMBEDDING, HEAD) else 0)
