"""Types of GGUF tensors: one block of each by hand, many against the package's own, others refused."""

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, quants
from test_gguf import PLAIN, logits_of, read, refused, written

from inference_benchmark.model.gguf.container import READABLE
from inference_benchmark.model.gguf.dequantize import dequantize
from inference_benchmark.model.gguf.quantize import quantize

TYPES = {known.name: known for known in READABLE.values()}


def stored(content: bytes | np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(bytes(content), np.uint8).copy())


def fp16(value: float) -> bytes:
    return np.float16(value).tobytes()


# One block by hand


def test_q8_0_is_a_scale_and_signed_bytes():
    block = fp16(0.5) + bytes([0, 1, 127, 255, 128]) + bytes(27)
    values = dequantize(stored(block), TYPES["Q8_0"])
    assert values[:5].tolist() == [0, 0.5, 63.5, -0.5, -64]
    assert values.shape == (32,)


def test_q4_0_has_its_second_half_in_the_upper_bits():
    block = fp16(2.0) + bytes([0x80, 0x0F, 0xF8]) + bytes([0x88] * 13)
    values = dequantize(stored(block), TYPES["Q4_0"])
    assert values[:3].tolist() == [-16, 14, 0]  # 0, 15 and 8 less 8, times 2
    assert values[16:19].tolist() == [0, -16, 14]
    assert not values[3:16].any()


def test_q4_k_has_six_bit_factors_for_eight_groups():
    """Factors 1, 2, 3, 4 and 17, 34, 51, 5; offset factors 0, 0, 0, 1 and 0, 0, 0, 63."""
    first = [1 | 1 << 6, 2 | 2 << 6, 3 | 3 << 6, 4]  # low six bits; on top two bits of the others
    second = [0, 0, 0, 1 | 3 << 6]
    third = [1, 2, 3, 5 | 15 << 4]
    block = fp16(1.0) + fp16(0.5) + bytes(first + second + third) + bytes([0x21] * 128)
    values = dequantize(stored(block), TYPES["Q4_K"]).view(8, 32)
    # Groups take lower and upper halves in turn: 1, 2, 1, 2, ...
    assert values[:, 0].tolist() == [1, 4, 3, 8 - 0.5, 17, 68, 51, 10 - 31.5]
    assert (values == values[:, :1]).all()


def test_q5_k_has_the_fifth_bit_of_each_value_apart():
    """Groups 0 and 7, factors 1 and 33: of value 0 the fifth bit is set in both, of value 1 in none."""
    first, second, third = [1, 0, 0, 2 << 6], [0] * 4, [0, 0, 0, 1]
    fifth = bytes([0b1000_0001]) + bytes(31)
    block = fp16(1.0) + fp16(0.5) + bytes(first + second + third) + fifth + bytes([0x32] * 128)
    values = dequantize(stored(block), TYPES["Q5_K"]).view(8, 32)
    assert values[0, :2].tolist() == [16 + 2, 2]
    assert values[7, :2].tolist() == [33 * (16 + 3), 33 * 3]
    assert not values[1:7].any()


def test_q6_k_has_two_bits_of_each_value_apart():
    """Values 0 and 128 are stored as 33 and 63; the factor of the last sixteen values is -2."""
    low, high, factors = bytearray(128), bytearray(64), bytearray([1] * 15 + [0xFE])
    low[0], low[64] = 0x01, 0x0F  # in lower halves; the upper ones are 64 values further
    high[0], high[32] = 0b10, 0b11
    low[63] = 0xF0  # value 127
    high[31] = 0b11 << 6
    block = bytes(low) + bytes(high) + bytes(factors) + fp16(0.5)
    values = dequantize(stored(block), TYPES["Q6_K"])
    assert values[[0, 128, 127]].tolist() == [0.5 * (33 - 32), 0.5 * (63 - 32), 0.5 * (63 - 32)]
    assert values[1].item() == -16
    assert values[240].item() == 0.5 * -2 * -32


# Many blocks against the package


@pytest.mark.parametrize("name", ["F32", "F16", "BF16", "Q8_0", "Q4_0"])
def test_the_package_reads_the_same(name):
    values = np.random.default_rng(0).normal(size=(8, 256)).astype(np.float32)
    packed = quants.quantize(values, GGMLQuantizationType[name])
    expected = quants.dequantize(packed, GGMLQuantizationType[name])
    ours = dequantize(stored(packed.tobytes()), TYPES[name]).float()
    assert np.array_equal(ours.numpy().reshape(8, 256), expected)


@pytest.mark.parametrize(("name", "scales"), [("Q4_K", (0, 2)), ("Q5_K", (0, 2)), ("Q6_K", (208,))])
def test_the_package_reads_the_same_of_random_blocks(name, scales):
    """It has no way to make them of values."""
    shape = (64, TYPES[name].block_bytes)
    blocks = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    for first in scales:
        blocks[:, first + 1] &= 0x3B  # scales that are finite
    expected = quants.dequantize(blocks, GGMLQuantizationType[name])
    ours = dequantize(stored(blocks.tobytes()), TYPES[name])
    assert np.array_equal(ours.numpy().reshape(64, 256), expected)


def test_block_sizes_are_those_of_the_package():
    for number, known in READABLE.items():
        assert GGMLQuantizationType(number).name == known.name
        sizes = gguf.GGML_QUANT_SIZES[GGMLQuantizationType(number)]
        assert sizes == (known.block, known.block_bytes)


# Whole files


@pytest.mark.parametrize("file_type", ["q8_0", "q4_0"])
def test_a_quantised_file_is_near_to_what_was_quantised(tmp_path, file_type):
    decoder, path = written(tmp_path, PLAIN, file_type=file_type)
    expected, logits = logits_of(decoder), logits_of(read(path))
    error = (logits - expected).norm() / expected.norm()
    assert 1e-4 < error < {"q8_0": 0.03, "q4_0": 0.4}[file_type]


@pytest.mark.parametrize("name", ["Q3_K", "Q5_0", "IQ4_XS", "MXFP4"])
def test_another_type_is_named(tmp_path, capsys, name):
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    for setting, value in (("embedding_length", 256), ("block_count", 1), ("context_length", 64)):
        writer.add_uint32(f"llama.{setting}", value)
    writer.add_feed_forward_length(256)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-5)
    tensor_type = GGMLQuantizationType[name]
    block, block_bytes = gguf.GGML_QUANT_SIZES[tensor_type]
    packed = np.zeros((4, 256 // block * block_bytes), np.uint8)
    writer.add_tensor("token_embd.weight", packed, raw_dtype=tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    line = refused(tmp_path, capsys)
    assert f"holds token_embd.weight as {name}, which is not supported, only BF16, F16" in line


@pytest.mark.parametrize("name", ["Q8_0", "Q4_0"])
def test_blocks_are_made_as_the_package_makes_them(name):
    values = torch.randn(16, 96, generator=torch.Generator().manual_seed(1))
    values[0, :32] = 0  # a block without a scale
    values[1, :32] = torch.arange(32) - 15.5  # halves
    expected = quants.quantize(values.numpy(), GGMLQuantizationType[name])
    assert np.array_equal(quantize(values, name).numpy(), expected)
