"""GGUF files that are kept as they are: their bits, and a copy of one with another vocabulary."""

import gguf
import numpy as np
import pytest
import torch
from test_gguf import PLAIN, SCALED, TIED, logits_of, read, written

from inference_benchmark.errors import CannotRun
from inference_benchmark.model.arithmetic import Matrix
from inference_benchmark.model.checkpoint_config import read_model
from inference_benchmark.model.gguf.file_format import format_of_file, is_quantized
from inference_benchmark.model.gguf.rewriter import rewrite_gguf
from inference_benchmark.model.weight_format import Precision
from inference_benchmark.session.weight_files import WeightFiles


def tensors_of(path) -> dict:
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


@pytest.mark.parametrize("config", [PLAIN, SCALED, TIED], ids=("plain", "scaled", "tied"))
@pytest.mark.parametrize("file_type", ["q8_0", "q4_0", "bf16"])
def test_a_copy_has_the_same_bytes_and_one_token_more(tmp_path, config, file_type):
    _, path = written(tmp_path, config, file_type=file_type)
    copy = tmp_path / "copy.gguf"
    rewrite_gguf(path, copy, "characters")
    before, after = tensors_of(path), tensors_of(copy)
    assert list(before) == list(after)
    for name, tensor in before.items():
        stored, rows = after[name].data, len(tensor.data)
        assert after[name].tensor_type == tensor.tensor_type
        assert np.array_equal(stored[:rows], tensor.data)
        assert len(stored) - rows == (name in ("token_embd.weight", "output.weight"))
        assert not stored[rows:].any()
    assert read_model(copy).vocab_size == config.vocab_size + 1
    assert read_model(copy).rope == read_model(path).rope
    assert torch.equal(logits_of(read(copy))[:, : config.vocab_size], logits_of(read(path)))


def test_the_bits_of_a_file_are_those_of_what_a_step_reads(tmp_path):
    """PLAIN: 2 layers of 2 x 64 x 64 + 2 x 32 x 64 in attention and 3 x 96 x 64; a head of 96 x 64."""
    _, path = written(tmp_path, PLAIN, file_type="q8_0")
    assert format_of_file(path).storage_bits == 8.5
    assert is_quantized(path)
    mixed = tmp_path / "mixed.gguf"
    writer = gguf.GGUFWriter(mixed, "llama")
    for name, tensor in tensors_of(path).items():
        kept = tensor.data if name != "output.weight" else np.zeros((96, 64), np.float16)
        writer.add_tensor(
            name, kept, raw_dtype=None if kept is not tensor.data else tensor.tensor_type
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    in_layers, in_head = 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 96 * 64), 96 * 64
    expected = (8.5 * in_layers + 16 * in_head) / (in_layers + in_head)
    stored = format_of_file(mixed)
    assert stored.name == "q8_0,f16"
    assert stored.storage_bits == pytest.approx(expected, abs=1e-4)
    precision = Precision.of_a_file("bf16", stored)
    assert (precision.name, precision.compute, precision.stored.name) == (
        "q8_0,f16",
        "bf16",
        "bf16",
    )
    assert precision.matrix_bytes(Matrix(96, 64)) == pytest.approx(96 * 64 * expected / 8, rel=0.01)


def test_a_file_without_quantised_matrices_has_the_products_of_its_type(tmp_path):
    _, path = written(tmp_path, TIED, file_type="fp16")
    assert format_of_file(path).name == "f16"
    assert not is_quantized(path)


def test_without_a_file_there_is_none_to_keep(tmp_path):
    decoder, path = written(tmp_path)
    with pytest.raises(CannotRun, match="not read from a GGUF file"):
        WeightFiles(decoder).stored_gguf()
    assert WeightFiles(decoder, source=path).stored_gguf() == path
