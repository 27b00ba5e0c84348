"""The script that times vLLM's kernels for packed weights: what it packs, and the table of it."""

import importlib.util

import pytest
import torch
from conftest import ROOT

from inference_benchmark.reporting.peers import has_formats, peer_formats_table


@pytest.fixture(scope="module")
def script():
    path = ROOT / "results" / "peers" / "vllm_formats.py"
    spec = importlib.util.spec_from_file_location("vllm_formats_script", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_gptq_by_hand(script):
    """Two rows of one group: weights that 4 bits hold exactly, at a scale of one half."""
    weight = torch.zeros(8, 128)
    weight[0, :8] = torch.tensor([3.5, -3.5, 0.5, -0.5, 1.0, 0.0, 2.0, -1.0])
    weight[1:, 0] = 3.5
    packed = script.gptq(weight, 4)
    assert packed["qweight"].shape == (16, 8)
    assert packed["scales"].T.tolist() == [[0.5]] * 8
    # Neighbouring inputs from the lowest bits on, each 8 more than it stands for.
    codes = [15, 1, 9, 7, 10, 8, 12, 6]
    assert packed["qweight"][0, 0].item() & 0xFFFFFFFF == sum(
        code << 4 * place for place, code in enumerate(codes)
    )
    assert packed["qzeros"].tolist() == [[0x77777777]]
    assert packed["g_idx"].tolist() == [0] * 128


@pytest.mark.parametrize(("bits", "largest_error"), [(4, 0.08), (8, 0.005)])
def test_gptq_stands_for_the_matrix(script, bits, largest_error):
    weight = torch.randn(16, 256, generator=torch.Generator().manual_seed(0))
    packed = script.gptq(weight, bits)
    words = packed["qweight"].T.long() & 0xFFFFFFFF
    codes = torch.stack([words >> shift & 2**bits - 1 for shift in range(0, 32, bits)], -1)
    numbers = codes.reshape(16, 2, 128) - 2 ** (bits - 1)
    read = (numbers * packed["scales"].T.float()[..., None]).reshape(16, 256)
    groups = (read - weight).view(16, 2, 128).abs().amax(-1)
    assert (groups / weight.view(16, 2, 128).abs().amax(-1)).max() < largest_error


def test_fp8_stands_for_the_matrix(script):
    weight = torch.randn(16, 32, generator=torch.Generator().manual_seed(0))
    packed = script.fp8(weight)
    read = packed["weight"].float() * packed["weight_scale"]
    assert packed["weight"].dtype == torch.float8_e4m3fn
    torch.testing.assert_close(read, weight, rtol=2**-4, atol=1e-3)


def test_other_tensors_stay(script):
    weight = torch.ones(4, 4)
    parts = dict(script._packed("model.norm.weight", weight, script.fp8))
    assert list(parts) == ["model.norm.weight"]
    assert parts["model.norm.weight"] is weight


def test_table():
    run = {"options": "int4", "weight_format": "int4", "kernels": ["Some kernel"]}
    run |= {"ttft_s": [0.03, 0.02, 0.05], "tbot_s": [0.005, 0.004, 0.006]}
    record = {"peer": "vLLM", "commit": "0.26.0", "created": "2026-11-22T10:00:00Z"}
    record |= {"batch_size": 1, "input_length": 1000, "output_length": 200, "runs": [run]}
    assert has_formats(record)
    assert not has_formats(record | {"runs": [{"options": "--compile"}]})
    row = peer_formats_table([record]).splitlines()[-1]
    assert [field.strip() for field in row.strip("|").split("|")] == [
        *("vLLM 0.26.0", "int4", "Some kernel", "1", "1000 -> 200"),
        *("30.00", "5.000", "3", "2026-11-22"),
    ]
