"""Which weight formats a model can be stored in."""

import pytest

from inference_benchmark.errors import CannotRun, RequestError
from inference_benchmark.options.flags import make_parser
from inference_benchmark.options.resolution import resolve


def resolved(*arguments: str):
    parser = make_parser()
    lengths = ("--input-length", "8", "--output-length", "2", "--num-layers", "4")
    return resolve(parser.parse_args([*arguments, *lengths, "--device", "cpu", "--mode", "eager"]))


@pytest.mark.parametrize("name", ["int8:torchao", "int4:torchao", "nf4:bitsandbytes"])
@pytest.mark.parametrize("model", ["deepseekv3-670b", "llama4-scout"])
def test_packages_store_no_experts(name, model):
    names = "int8, int4, int4-asymmetric, nf4, fp8, fp8-dynamic"
    message = (
        f"--quantize {name} would leave the experts of {model} as they are: {names} store them"
    )
    with pytest.raises(CannotRun, match=message):
        resolved("--model-name", model, "--quantize", "none", name)


def test_experts_are_stored_in_4_bits():
    for model in ("deepseekv3-670b", "llama4-scout", "llama4-maverick"):
        request = resolved(
            "--model-name", model, "--quantize", "none", "int4", "int4-asymmetric", "nf4"
        )
        sizes = [request.model.linear_bytes(request.precision_of(s)) for s in request.specs]
        kept = sum(
            2 * matrix.parameters
            for layer in request.model.layers
            for part in (layer.attention, layer.feed_forward)
            for matrix in part.matrices(request.model.hidden_size)
            if matrix.keeps_base_type
        )
        plain, *stored = ((size - kept) * 8 for size in sizes)
        bits = [16 * size / plain for size in stored]
        assert bits == pytest.approx([4 + 16 / 128, 4 + 24 / 128, 4 + 8 / 64 + 32 / 64 / 256], 1e-5)


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
