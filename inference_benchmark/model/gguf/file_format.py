"""The types in which a GGUF file keeps a model's matrices, as one weight format. No torch."""

from functools import cache
from pathlib import Path

from inference_benchmark.model.gguf.container import GgufFile, StoredTensor, read_gguf
from inference_benchmark.model.gguf.names import EMBEDDING, HEAD
from inference_benchmark.model.weight_format import WeightFormat

_FLOATS = ("F32", "F16", "BF16")


@cache
def format_of_file(path: Path) -> WeightFormat:
    """Of what a decode step reads: the layers' matrices and the head, which may be the embedding
    table. Its name has their types, those with the most weights first; its bits are the mean."""
    matrices = _matrices(read_gguf(path))
    num_values: dict[str, int] = {}
    for tensor in matrices:
        name = tensor.type_name
        num_values[name] = num_values.get(name, 0) + tensor.shape[0] * tensor.shape[1]
    names = sorted(num_values, key=num_values.get, reverse=True)
    num_bytes = sum(tensor.num_bytes for tensor in matrices)
    return WeightFormat(
        ",".join(names).lower(),
        round(8 * num_bytes / sum(num_values.values()), 4),
        "base",
        made_by_engine=True,
    )


def is_quantized(path: Path) -> bool:
    """Whether products of its matrices are those of a quantised type."""
    return any(tensor.type_name not in _FLOATS for tensor in _matrices(read_gguf(path)))


def _matrices(file: GgufFile) -> list[StoredTensor]:
    unread = EMBEDDING if HEAD in file.tensors else None
    return [t for t in file.tensors.values() if len(t.shape) == 2 and t.name != unread]
