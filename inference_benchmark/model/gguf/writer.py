"""Our weights as a GGUF file, for engines that read nothing else. Needs the package gguf.

Three things differ from a Hugging Face checkpoint: llama.cpp rotates values that lie side by side,
so the rows that make queries and keys are put into that order; norms are fp32; Llama 3.1's scaling
of RoPE is a tensor of factors. One tensor after the other is taken from the device to the file.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from inference_benchmark.errors import CannotRun
from inference_benchmark.model.checkpoint_layout import rope_pairs, unchanged
from inference_benchmark.model.checkpoint_names import targets
from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.decoder import Decoder
from inference_benchmark.model.families.llama import is_llama
from inference_benchmark.model.gguf.names import ROPE_FACTORS, to_gguf
from inference_benchmark.model.gguf.quantize import BLOCK, quantize
from inference_benchmark.model.gguf.vocabulary import NUM_ADDED, add_vocabulary
from inference_benchmark.model.parts import YarnRopeScaling
from inference_benchmark.model.rope import rope_factors

# How matrices can be stored: the type's name in GGUF, by the name of ours or of llama.cpp's tools.
FILE_TYPES = {"fp32": "F32", "fp16": "F16", "bf16": "BF16", "q8_0": "Q8_0", "q4_0": "Q4_0"}
_TORCH_TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@torch.no_grad()
def write_gguf(
    decoder: Decoder, path: Path, file_type: str = "bf16", vocabulary: str = "none"
) -> None:
    """Write a decoder's weights.

    Args:
        decoder: one rank's, whole, in a base type.
        file_type: of the matrices, embedding table and head included: a key of FILE_TYPES.
        vocabulary: "none" for engines that take token ids, "characters" for those that take text
            only (vocabulary.py).

    Raises:
        CannotRun: Llama's architecture in GGUF can't hold this model.
    """
    from gguf import LlamaFileType

    _check(decoder, file_type)
    tensors = list(_tensors(decoder, FILE_TYPES[file_type], NUM_ADDED[vocabulary]))
    prefix = "ALL" if file_type == "fp32" else "MOSTLY"
    type_number = int(LlamaFileType[f"{prefix}_{FILE_TYPES[file_type]}"])
    write_file(path, decoder.config, type_number, vocabulary, tensors)


def write_file(
    path: Path, config: ModelConfig, type_number: int, vocabulary: str, tensors: Sequence
) -> None:
    """A file of these tensors, each with `announce(writer)` and `stored()`, its bytes or values.

    type_number: what llama.cpp calls the file's type.
    """
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "llama")
    _add_metadata(writer, config, type_number, NUM_ADDED[vocabulary])
    add_vocabulary(writer, vocabulary, config.vocab_size)
    try:
        for tensor in tensors:
            tensor.announce(writer)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in tensors:
            writer.write_tensor_data(tensor.stored())
    finally:
        writer.close()


def announce(writer, name: str, type_name: str, shape: tuple[int, ...]) -> None:
    """Its name, type, shape and size; all of these stand before the first tensor's values."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    tensor_type = GGMLQuantizationType[type_name]
    block, block_bytes = GGML_QUANT_SIZES[tensor_type]
    num_bytes = math.prod(shape) // block * block_bytes
    writer.add_tensor_info(name, shape, np.dtype(np.float32), num_bytes, tensor_type)


@dataclass(frozen=True)
class WrittenTensor:
    """value: as our decoder has it; arrange: into its rows in the file."""

    name: str
    value: Tensor
    type_name: str
    arrange: Callable[[Tensor], Tensor] = unchanged

    def announce(self, writer) -> None:
        shape = tuple(self.arrange(self.value.to("meta")).shape)
        announce(writer, self.name, self.type_name, shape)

    def stored(self) -> np.ndarray:
        value = self.arrange(self.value)
        if self.type_name in _TORCH_TYPES:
            value = value.to(_TORCH_TYPES[self.type_name]).contiguous().cpu()
            return (value.view(torch.int16) if value.dtype == torch.bfloat16 else value).numpy()
        return quantize(value, self.type_name).cpu().numpy()


def _tensors(decoder: Decoder, matrix_type: str, num_added: int) -> Iterator[WrittenTensor]:
    config = decoder.config
    arrangements = {"q_proj": rope_pairs(config.rope_dim, config.rope_dim)}
    arrangements["k_proj"] = arrangements["q_proj"]
    if num_added:
        arrangements |= dict.fromkeys(("embed_tokens", "lm_head"), partial(_with_rows, num_added))
    yield from factors_of(config)
    for name, target in targets(decoder, _AllNames()).items():
        module = name.split(".")[-2]
        type_name = matrix_type if target.view.dim() == 2 else "F32"
        arrange = arrangements.get(module, unchanged)
        yield WrittenTensor(to_gguf(name), target.view, type_name, arrange)


def factors_of(config: ModelConfig) -> Iterator[WrittenTensor]:
    """The tensor of RoPE's factors, where there are any."""
    factors = rope_factors(config.rope, config.rope_dim)
    if factors is not None:
        yield WrittenTensor(ROPE_FACTORS, factors, "F32")


def _with_rows(count: int, weight: Tensor) -> Tensor:
    """weight [vocab, hidden], and as many rows of zeros after it."""
    return torch.cat((weight, weight.new_zeros(count, weight.shape[1])))


class _AllNames:
    """A checkpoint in which no tensor is missing."""

    def __contains__(self, name: str) -> bool:
        return True


def _check(decoder: Decoder, file_type: str) -> None:
    config = decoder.config
    if not is_llama(config) or isinstance(config.rope.scaling, YarnRopeScaling):
        raise CannotRun(f"{config.name} is not of Llama's architecture: there is no GGUF of it")
    if decoder.weight_format is not None and decoder.weight_format.module is not None:
        raise CannotRun(f"weights in {decoder.weight_format.name} can't be written as GGUF")
    matrices = config.layers[0].attention.matrices(config.hidden_size)
    matrices += config.layers[0].feed_forward.matrices(config.hidden_size)
    if file_type.startswith("q") and any(matrix.columns % BLOCK for matrix in matrices):
        raise CannotRun(f"{config.name}: {file_type} needs rows of a multiple of {BLOCK} values")


def _add_metadata(writer, config: ModelConfig, type_number: int, num_added: int) -> None:
    from gguf import GGML_QUANT_VERSION

    attention, feed_forward = config.layers[0].attention, config.layers[0].feed_forward
    writer.add_name(config.name)
    writer.add_file_type(type_number)
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_vocab_size(config.vocab_size + num_added)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(feed_forward.intermediate_size)
    writer.add_head_count(attention.num_heads)
    writer.add_head_count_kv(attention.num_kv_heads)
    writer.add_key_length(attention.head_dim)
    writer.add_value_length(attention.head_dim)
    writer.add_rope_dimension_count(config.rope_dim)
    writer.add_rope_freq_base(config.rope.theta)
    writer.add_layer_norm_rms_eps(config.norm_eps)
