"""Which weight formats a model can be stored in."""

import pytest

from inference_benchmark.errors import CannotRun, RequestError
from inference_benchmark.options.flags import make_parser
from inference_benchmark.options.resolution import resolve


def resolved(*arguments: str):
    parser = make_parser()
    lengths = ("--input-length", "8", "--output-length", "2", "--num-layers", "4")
    return resolve(parser.parse_args([*arguments, *lengths, "--device", "cpu", "--mode", "eager"]))


@pytest.mark.parametrize("name", ["int4", "int4-asymmetric", "nf4"])
@pytest.mark.parametrize("model", ["deepseekv3-670b", "llama4-scout"])
def test_experts_have_no_formats_of_4_bits(name, model):
    message = f"--quantize {name} would leave the experts .* int8, fp8, fp8-dynamic store them"
    with pytest.raises(CannotRun, match=message):
        resolved("--model-name", model, "--quantize", "none", name)


def test_experts_are_stored_in_bytes():
    request = resolved("--model-name", "deepseekv3-670b", "--quantize", "none", "int8", "fp8")
    plain, *formats = (request.precision_of(spec) for spec in request.specs)
    model = request.model
    matrices = [m for layer in model.layers for m in layer.attention.matrices(model.hidden_size)]
    matrices += [
        m for layer in model.layers for m in layer.feed_forward.matrices(model.hidden_size)
    ]
    kept = [m for m in matrices if m.keeps_base_type]
    assert [(m.rows, m.columns) for m in kept] == [(128 * 256, 512)] * 4  # kv_b_proj of each layer
    stored = [m for m in matrices if not m.keeps_base_type]
    # a byte instead of two for each weight, and a scale of four bytes for each row
    saved = sum(m.count * m.rows * (m.columns - 4) for m in stored)
    for precision in formats:
        assert model.weight_bytes(plain) - model.weight_bytes(precision) == saved


def test_what_kernels_of_packages_do_not_take():
    with pytest.raises(
        CannotRun,
        match="bitsandbytes needs rows of a multiple of 64 weights: .* has a matrix of 512 rows of 1376",
    ):
        resolved("--model-name", "llama-tiny", "--quantize", "nf4:bitsandbytes")
    with pytest.raises(RequestError, match="int4:torchao needs --precision bf16; int4 takes any"):
        resolved("--model-name", "llama-tiny", "--precision", "fp16", "--quantize", "int4:torchao")
    with pytest.raises(RequestError, match="fp8-dynamic needs --precision bf16; fp8 takes any"):
        resolved("--model-name", "llama-tiny", "--precision", "fp16", "--quantize", "fp8-dynamic")
    with pytest.raises(CannotRun, match="int8:torchao would leave the experts"):
        resolved("--model-name", "llama4-scout", "--quantize", "int8:torchao")
