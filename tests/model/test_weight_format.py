"""What a weight format costs, by hand, and the example of one in a model."""

import json
from dataclasses import replace

import pytest
import torch
from checkpoints import llama
from conftest import ROOT
from mixture_models import DEEPSEEK, LLAMA4, VOCAB
from step_engines import make_engine

from inference_benchmark import benchmark_inference
from inference_benchmark.errors import CannotRun
from inference_benchmark.hardware import Ceilings
from inference_benchmark.model.checkpoint import load_checkpoint
from inference_benchmark.model.checkpoint_config import read_model
from inference_benchmark.model.config import Precision
from inference_benchmark.model.kernel_choice import KernelConfig
from inference_benchmark.model.weight_format import (
    FORMATS,
    PRECISIONS,
    Matrix,
    WeightFormat,
    register,
)
from inference_benchmark.model.weights import build_decoder, empty_decoder
from inference_benchmark.models import MODELS
from inference_benchmark.parallel.sharding import Shard
from inference_benchmark.session.memory import predict
from inference_benchmark.workloads.generation import Generation

LLAMA_8B = MODELS["llama3.1-8b"]
TINY = MODELS["llama-tiny"].with_layers(2)
PROMPT, CACHE = 24, 32
INT4 = WeightFormat("int4", 4, "bf16", group_size=128, scale_bits=16)


@pytest.fixture(autouse=True)
def forget_formats():
    """Those that a test registers are gone after it."""
    before, precisions = dict(FORMATS), list(PRECISIONS)
    yield
    FORMATS.clear()
    FORMATS.update(before)
    PRECISIONS[:] = precisions


@pytest.fixture
def int8(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    import weight_format_int8

    register(weight_format_int8.INT8)  # again, where another test imported it
    return weight_format_int8


def test_bytes_of_a_matrix_by_hand():
    assert FORMATS["bf16"].matrix_bytes(Matrix(6, 10)) == 120
    assert FORMATS["fp32"].matrix_bytes(Matrix(6, 10, 2.5)) == 600
    # 4096 rows of 2048 bytes of weights and 32 scales of 2 bytes
    assert INT4.matrix_bytes(Matrix(4096, 4096)) == 4096 * (2048 + 32 * 2)
    # a row of 130 weights: 65 bytes and two groups
    assert INT4.matrix_bytes(Matrix(3, 130)) == 3 * (65 + 2 * 2)
    # one scale per row
    assert replace(INT4, storage_bits=8, group_size=None).matrix_bytes(Matrix(3, 130)) == 3 * 132


def test_bytes_limits_and_memory_of_a_model_follow_from_its_format():
    register(INT4)
    precision = Precision.of("int4")
    assert precision == Precision("bf16", "int4")
    assert (precision.name, precision.compute, precision.base_bytes) == ("int4", "bf16", 2)
    linear = LLAMA_8B.linear_parameters
    rest = LLAMA_8B.parameters - linear
    # every row is a multiple of 128: half a byte a weight and 2 bytes for each 128 of them
    stored = linear // 2 + linear // 128 * 2
    assert LLAMA_8B.linear_bytes(precision) == stored
    assert LLAMA_8B.weight_bytes(precision) == stored + 2 * rest
    one_row = 2 * 4096
    read = stored + 2 * (rest - 128_256 * 4096) + one_row
    assert LLAMA_8B.step_weight_bytes(precision, 1) == read
    cost = Generation(1000, 2).cost(LLAMA_8B, precision, 1)
    limit = cost.limit(Ceilings(4e12, 1e15, "given"))["metrics"]
    assert limit["tbot_s"] == (read + 1001 * 128 * 1024) / 4e12
    assert cost.facts["prefill_flops"] == LLAMA_8B.prefill_flops(
        1, 1000
    )  # as many products as in bf16
    need = predict([(LLAMA_8B, precision, 1)], 1000, 1002)
    assert need.weights == stored + 2 * rest  # nothing is kept in bf16 beside


def test_an_engine_that_quantises_keeps_a_copy_beside():
    fp8 = Precision.of("bf16", "fp8")
    assert (fp8.name, fp8.compute, fp8.stored) == ("fp8", "fp8", Precision.of("bf16"))
    need = predict([(LLAMA_8B, fp8, 1)], 1000, 1002)
    assert need.weights == LLAMA_8B.weight_bytes(Precision.of("bf16")) + LLAMA_8B.linear_parameters


def test_the_record_of_the_result_file():
    expected = {"format": "int4", "storage_bits": 4, "group_size": 128, "compute": "bf16"}
    assert INT4.record() == expected


def test_a_name_that_is_taken_is_refused():
    register(FORMATS["bf16"])
    with pytest.raises(ValueError, match="there is a weight format named bf16"):
        register(replace(FORMATS["bf16"], storage_bits=4))
    with pytest.raises(ValueError, match="unknown compute type int3"):
        register(replace(INT4, compute="int3"))
    assert "int4" not in FORMATS
    assert PRECISIONS == ["bf16", "fp16", "fp32"]  # fp8 weights are made by an engine


def logits(decoder, mode="eager", kernels=None) -> torch.Tensor:
    """[1 + steps, batch, vocab] of a prefill and greedy steps."""
    engine = make_engine(mode, decoder, 2, PROMPT, CACHE, kernels)
    engine.prefill(torch.arange(2 * PROMPT).reshape(2, PROMPT) % decoder.config.vocab_size)
    seen = [engine.logits.clone()]
    for step in range(3):
        engine.force(torch.full((2, 1), step), PROMPT + step)
        engine.decode()
        seen.append(engine.logits.clone())
    return torch.stack(seen).float()


@torch.inference_mode()
def test_the_example_runs_and_is_close_to_bf16(int8):
    exact = build_decoder(TINY, "bf16", "cpu", CACHE)
    decoder = build_decoder(TINY, "int8", "cpu", CACHE)
    values, scales = decoder.layers[1].qkv_proj.weight
    assert (values.dtype, scales.dtype) == (torch.int8, torch.bfloat16)
    stored = {tensor.data_ptr(): tensor for tensor in decoder.parameters()}.values()
    held = sum(tensor.numel() * tensor.element_size() for tensor in stored)
    assert held == TINY.weight_bytes(Precision.of("int8"))
    matrix = exact.layers[1].qkv_proj.weight.float()
    # half a step of the scale, and what rounding the scale itself to bf16 adds
    error = (values.float() * scales.float() - matrix).abs().amax(dim=1, keepdim=True)
    assert (error <= 0.5 * scales.float() * (1 + 127 / 128)).all()
    ours, expected = logits(decoder), logits(exact)
    assert 0 < (ours - expected).norm() / expected.norm() < 0.05


@torch.inference_mode()
def test_compilers_and_kernels_take_the_example(int8):
    decoder = build_decoder(TINY, "int8", "cpu", CACHE)
    expected = logits(decoder)
    ours = KernelConfig(attention="flash_decode", linear="gemv")
    for computed in (logits(decoder, kernels=ours), logits(decoder, "inductor")):
        assert (computed - expected).norm() / expected.norm() < 0.02


@torch.inference_mode()
def test_a_checkpoint_and_a_prefix_in_the_example(tmp_path, int8):
    llama().save_pretrained(tmp_path)
    config = read_model(tmp_path)
    decoder = empty_decoder(config, "int8", "cpu")
    load_checkpoint(decoder, tmp_path)
    decoder.set_context_length(CACHE)
    plain = empty_decoder(config, "bf16", "cpu")
    load_checkpoint(plain, tmp_path)
    plain.set_context_length(CACHE)
    for layer, plain_layer in zip(decoder.layers, plain.layers, strict=True):
        for stored, made in zip(
            layer.down_proj.weight, int8.quantize(plain_layer.down_proj.weight), strict=True
        ):
            assert torch.equal(stored, made)
    expected = logits(plain)
    assert expected.shape[-1] == VOCAB
    assert (logits(decoder) - expected).norm() / expected.norm() < 0.1
    assert torch.isfinite(logits(decoder.prefix(1))).all()


def test_a_rank_stores_its_share_of_the_same_matrix(int8):
    full = build_decoder(TINY, "bf16", "cpu", CACHE)
    share = build_decoder(TINY, "int8", "cpu", CACHE, shard=Shard(1, 2))
    rows = full.layers[0].gate_up_proj.weight
    width = rows.shape[0] // 4
    kept = torch.cat((rows[width : 2 * width], rows[3 * width :]))
    values, scales = share.layers[0].gate_up_proj.weight
    assert torch.equal(values, int8.quantize(kept)[0])
    assert torch.equal(scales, int8.quantize(kept)[1])


@pytest.mark.parametrize("model", [DEEPSEEK, LLAMA4], ids=lambda model: model.name)
def test_formats_are_for_models_of_plain_linear_layers(int8, model):
    with pytest.raises(CannotRun, match="weight format int8 is for dense models"):
        empty_decoder(model, "int8", "cpu")


def test_the_example_is_a_precision_of_the_command_line(int8, capsys):
    flags = "--model-name llama-tiny --precision int8 --mode eager --device cpu --json --quiet "
    flags += "--input-length 24 --output-length 4 --num-iterations 2 --warmup-iterations 1"
    assert benchmark_inference.main(flags.split()) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    (cell,) = result["cells"]
    assert (cell["status"], cell["output_check"]["passed"]) == ("ok", True)
    assert cell["weights"] == int8.INT8.record()
    assert result["model"]["weight_bytes"] == MODELS["llama-tiny"].weight_bytes(
        Precision.of("int8")
    )
