"""Weight formats as torchao and bitsandbytes make them: what their numbers mean, and their products.

What their tensors mean is tested without them; what they do with these where they are installed.
"""

from dataclasses import replace

import pytest
import torch
from step_engines import make_engine
from torch._subclasses.fake_tensor import FakeTensorMode

from inference_benchmark.kernels.nf4_levels import LEVELS
from inference_benchmark.model.config import Precision
from inference_benchmark.model.kernel_choice import KernelConfig
from inference_benchmark.model.quantized import build_decoders
from inference_benchmark.model.weight_format import QUANTIZED, Matrix
from inference_benchmark.model.weight_formats import bitsandbytes_nf4, torchao_int4, torchao_int8
from inference_benchmark.models import MODELS

MODULES = {"int8:torchao": torchao_int8, "nf4:bitsandbytes": bitsandbytes_nf4}
TINY = MODELS["llama-tiny"].with_layers(1)
TINY = replace(TINY, feed_forward=replace(TINY.feed_forward, intermediate_size=1024))
PROMPT, CACHE = 8, 10


@pytest.fixture(params=MODULES)
def installed(request) -> str:
    """A format whose package is here."""
    package = QUANTIZED[request.param].package
    pytest.importorskip(package, reason=f"needs {package}: pip install {package}")
    return request.param


# What the numbers mean


def test_tiles_of_torchao():
    """Word i of thread t has, of row t / 4 of a tile's eight, columns 32 i + 2 (t % 4) + 8 j and the
    next one, in its nibbles j and j + 4."""
    numbers = torch.randint(16, (16, 256))
    words = torch.zeros(2, 2, 32, 4, dtype=torch.int64)
    for tile, block, thread, word, j in (
        index for index in torch.cartesian_prod(*map(torch.arange, (2, 2, 32, 4, 4))).tolist()
    ):
        row, column = 8 * tile + thread // 4, 128 * block + 32 * word + 2 * (thread % 4) + 8 * j
        even, odd = numbers[row, column : column + 2].tolist()
        words[tile, block, thread, word] |= even << 4 * j | odd << 4 * j + 16
    words = words.to(torch.int32).reshape(16, -1)
    assert torch.equal(torchao_int4.unpack(words), numbers.int())
    scales, offsets = torch.rand(2, 16, 2).bfloat16()
    stored = torch.stack((scales.T, offsets.T), dim=-1).contiguous()
    matrix = torchao_int4.dequantize((words, stored), 200, torch.float32)
    assert matrix.shape == (16, 200)
    expected = (numbers[3, 130] - 8) * scales[3, 1].float() + offsets[3, 1].float()
    assert matrix[3, 130] == expected.bfloat16()


def test_pairs_of_bitsandbytes():
    """The first of two weights lies in the upper half of their byte; scales are looked up."""
    pairs = torch.zeros(2, 64, dtype=torch.uint8)
    pairs[1, 40] = 0xF0  # columns 80 and 81 of the second row: the fourth group
    scales, table = torch.tensor([0, 0, 0, 5], dtype=torch.uint8), torch.arange(256.0)
    weights = (pairs, scales, torch.tensor([0.5]), table, torch.tensor(1.0))
    matrix = bitsandbytes_nf4.dequantize(weights, 128, torch.float32)
    assert matrix[1, 79:82].tolist() == [-3.5, 3.5, -3.5]  # 5 * 0.5 + 1
    assert matrix[0, :2].tolist() == [-1.0, -1.0]
    assert LEVELS[0] == -1.0


# What the packages do


def test_bytes_and_values_are_the_package_s(installed):
    drawn = torch.randn(24, 320).bfloat16()
    weights = MODULES[installed].quantize(drawn)
    stored = sum(tensor.numel() * tensor.element_size() for tensor in weights)
    assert QUANTIZED[installed].matrix_bytes(Matrix(24, 320)) == stored
    assert weights[0].shape[0] == 24
    matrix = MODULES[installed].dequantize(weights, 320, torch.float32)
    error = (matrix - drawn.float()).norm() / drawn.float().norm()
    assert error < (0.01 if installed == "int8:torchao" else 0.1)
    ones = torch.eye(320).bfloat16()
    columns = MODULES[installed].plain(ones, *weights).T.float()
    assert (columns - matrix).norm() / matrix.norm() < 0.004  # of bf16


def test_values_are_what_bitsandbytes_says():
    functional = pytest.importorskip("bitsandbytes", reason="needs bitsandbytes").functional
    drawn = torch.randn(64, 512)
    packed, state = functional.quantize_4bit(
        drawn, blocksize=64, compress_statistics=True, quant_type="nf4"
    )
    weights = bitsandbytes_nf4.quantize(drawn)
    assert torch.equal(weights[0], packed.view(64, -1))
    expected = functional.dequantize_4bit(packed, state)
    torch.testing.assert_close(bitsandbytes_nf4.dequantize(weights, 512, torch.float32), expected)


def test_tiles_on_a_gpu_that_is_not_there(monkeypatch):
    """Shapes and bytes alone, of tensors without memory."""
    pytest.importorskip("torchao", reason="needs torchao: pip install torchao")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *device: (9, 0))
    with FakeTensorMode():
        drawn = torch.empty(4096, 14336, dtype=torch.bfloat16, device="cuda")
        words, scales = torchao_int4.quantize(drawn)
        assert (words.shape, scales.shape) == ((4096, 1792), (112, 4096, 2))
        assert torchao_int4.plain(drawn[None, :3], words, scales).shape == (1, 3, 4096)
        assert torchao_int4.dequantize((words, scales), 14336, torch.bfloat16).shape == drawn.shape
    stored = words.numel() * 4 + scales.numel() * 2
    assert QUANTIZED["int4:torchao"].matrix_bytes(Matrix(4096, 14336)) == stored


@torch.inference_mode()
def test_every_mode_takes_them(installed):
    """Compilers see operators that the packages registered, or what torchao's class stands for."""
    made = build_decoders(TINY, [Precision.quantized("bf16", installed)], True, "cpu", CACHE, 0)
    decoder = made.decoders[installed]
    held = {tensor.data_ptr(): tensor for tensor in decoder.parameters()}.values()
    stored = sum(tensor.numel() * tensor.element_size() for tensor in held)
    assert stored == TINY.weight_bytes(Precision.quantized("bf16", installed))

    def logits(mode: str, linear: str) -> torch.Tensor:
        engine = make_engine(mode, decoder, 1, PROMPT, CACHE, KernelConfig(linear=linear))
        engine.prefill(torch.arange(PROMPT)[None])
        engine.force(torch.full((1, 1), 3), PROMPT)
        engine.decode()
        return engine.logits.float().clone()

    expected = logits("eager", "dequantized")
    for mode in ("eager", "inductor", "thunder"):
        assert (logits(mode, "torch") - expected).norm() / expected.norm() < 0.01
