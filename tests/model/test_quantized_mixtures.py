"""Weight formats of mixtures: how experts are stored, and that they compute what is stored."""

from copy import deepcopy
from dataclasses import replace
from importlib import import_module

import pytest
import torch
from mixture_models import DEEPSEEK, LLAMA4, SHALLOW_DEEPSEEK, SHALLOW_LLAMA4
from step_engines import make_engine
from torch import nn

from inference_benchmark.kernels.nf4_levels import LEVELS, STORED_LEVELS
from inference_benchmark.kernels.stored_experts import STORED_EXPERTS
from inference_benchmark.model.config import Precision
from inference_benchmark.model.decoder import Decoder
from inference_benchmark.model.feed_forward.mixture import Experts, QuantizedExperts
from inference_benchmark.model.kernel_choice import KernelConfig
from inference_benchmark.model.quantized import FormatDecoders, build_decoders
from inference_benchmark.model.stored_modules import modules_to_store
from inference_benchmark.model.weight_format import QUANTIZED
from inference_benchmark.model.weight_formats import nf4, rows
from inference_benchmark.model.weights import build_decoder
from inference_benchmark.models import MODELS as PRESETS
from inference_benchmark.output_check import check_before
from inference_benchmark.parallel.sharding import Shard
from inference_benchmark.session.memory import predict

PROMPT, CACHE = 16, 40
NAMES = ("int8", "fp8", "int4", "int4-asymmetric", "nf4")
MODELS = pytest.mark.parametrize("model", [DEEPSEEK, LLAMA4], ids=lambda model: model.name)
FORMATS = pytest.mark.parametrize("name", NAMES)


def built(name, model, base="fp32", keeps_base=True) -> FormatDecoders:
    precision = Precision.quantized(base, name)
    return build_decoders(model, [precision], keeps_base, "cpu", CACHE, 0)


@torch.inference_mode()
def logits(decoder, mode="eager", kernels=None, batch=1) -> torch.Tensor:
    """[2 * batch, vocab] of a prefill and one step."""
    engine = make_engine(mode, decoder, batch, PROMPT, CACHE, kernels)
    engine.prefill(torch.arange(batch * PROMPT).view(batch, -1) % decoder.config.vocab_size)
    first = engine.logits.clone()
    engine.force(torch.full((batch, 1), 3), PROMPT)
    engine.decode()
    return torch.cat((first, engine.logits)).float()


@torch.no_grad()
def stood_for(made: FormatDecoders, name: str) -> Decoder:
    """The base decoder, whose matrices become what those of the format stand for."""
    dequantize = import_module(QUANTIZED[name].module).dequantize
    for layer, in_format in zip(made.base.layers, made.decoders[name].layers, strict=True):
        for path, module in modules_to_store(layer).items():
            tensors, columns = getattr(in_format, path).weight, module.weight.shape[-1]
            if isinstance(module, Experts) and name in ("int8", "fp8"):
                values, scales = tensors
                matrix = values.float() * scales
            else:
                of_rows = (t.flatten(0, 1) if t.dim() == 3 else t for t in tensors)
                matrix = dequantize(tuple(of_rows), columns, torch.float32)
            module.weight.copy_(matrix.view(module.weight.shape))
    return made.base


def held_bytes(decoder: nn.Module) -> int:
    tensors = {tensor.data_ptr(): tensor for tensor in decoder.parameters()}.values()
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


# How experts are stored


def test_int4_by_hand():
    """Two experts of a row each: groups of their own."""
    matrix = torch.zeros(2, 1, 128)
    matrix[0, 0, 0], matrix[0, 0, 16] = 7.5, -7.5
    matrix[1, 0, 0], matrix[1, 0, 1] = 15.0, 6.0
    words, scales = QuantizedExperts(matrix, QUANTIZED["int4"]).weight
    assert (words.shape, scales.shape) == ((2, 1, 16), (2, 1, 1))
    assert scales.flatten().tolist() == [1.0, 2.0]
    # Columns 0 and 1 share a word's lowest half bytes; stored is 8 more.
    assert words[0, 0, 0].item() == 0x8888888F - (1 << 32)
    assert words[1, 0, 0].item() == 0x888B888F - (1 << 32)
    words, scales, zeros = QuantizedExperts(matrix, QUANTIZED["int4-asymmetric"]).weight
    assert (scales.flatten().tolist(), zeros.flatten().tolist()) == ([1.0, 1.0], [8, 0])
    assert words[1, 0, 0].item() == 0x0006000F


def test_nf4_by_hand():
    """Scales are 2 of one expert and 6 of the other: one mean, one scale of scales for both."""
    levels = torch.tensor(LEVELS)
    matrix = levels.repeat(2, 1, 8) * torch.tensor([2.0, 6.0])[:, None, None]
    words, scales, scale_scales, mean, kept = QuantizedExperts(matrix, QUANTIZED["nf4"]).weight
    assert (words.shape, scales.shape) == ((2, 1, 16), (2, 1, 2))
    assert mean.item() == 4.0
    assert scales.float().tolist() == [[[-448.0, -448.0]], [[448.0, 448.0]]]
    assert scale_scales.tolist() == pytest.approx([2 / 448])
    assert kept.tolist() == torch.tensor(STORED_LEVELS).tolist()
    assert torch.equal(words[0], words[1])


def test_groups_of_nf4_are_counted_over_all_experts():
    """Three experts of 100 groups: the second block of 256 begins within the third expert."""
    matrix = torch.randn(3, 50, 128) * torch.tensor([1.0, 1.0, 30.0])[:, None, None]
    stored = QuantizedExperts(matrix, QUANTIZED["nf4"]).weight
    assert stored[2].numel() == 2
    whole = nf4.quantize(matrix.view(150, 128))
    for tensor, expected in zip(stored, whole, strict=True):
        assert torch.equal(tensor.flatten().view(torch.uint8), expected.flatten().view(torch.uint8))
    expected = nf4.dequantize(whole, 128, torch.float32).view(3, 50, 128)
    assert torch.equal(
        STORED_EXPERTS["nf4"](*stored).widen(range(2, 3), 128, torch.float32), expected[2:]
    )


@FORMATS
def test_quantising_by_parts_is_the_same(name, monkeypatch):
    """Also where a part ends within an expert."""
    matrix = torch.randn(3, 5, 130)
    whole = QuantizedExperts(matrix, QUANTIZED[name]).weight
    monkeypatch.setattr(rows, "_WEIGHTS_AT_A_TIME", 4 * 130)
    for tensor, other in zip(whole, QuantizedExperts(matrix, QUANTIZED[name]).weight, strict=True):
        assert torch.equal(tensor.view(torch.uint8), other.view(torch.uint8))


@MODELS
@FORMATS
def test_experts_are_stored_and_routers_are_not(name, model):
    made = built(name, model, "bf16")
    base, layer = made.base.layers[1], made.decoders[name].layers[1]
    assert layer.router is base.router
    matrix = base.expert_down_proj.weight
    experts = STORED_EXPERTS[QUANTIZED[name].experts](*layer.expert_down_proj.weight)
    assert experts.shape == matrix.shape[:2]
    stored = experts.widen(range(3, 4), matrix.shape[2], torch.float32)[0]
    error = {"int8": 0.01, "fp8": 0.03}.get(name, 0.12)
    assert (stored - matrix[3].float()).norm() < error * matrix[3].float().norm()
    if model is DEEPSEEK:
        assert layer.kv_b_proj is base.kv_b_proj
        assert isinstance(layer.o_proj.weight, tuple)
    if name != "int8":  # whose experts' rows are not filled up
        precision = Precision.quantized("bf16", name)
        assert held_bytes(made.decoders[name]) == model.weight_bytes(precision)


def test_a_mixture_that_nobody_runs_as_it_is_gives_its_experts_up():
    made = built("int4", DEEPSEEK, keeps_base=False)
    assert all(layer.expert_gate_up_proj.weight.is_meta for layer in list(made.base.layers)[1:])
    assert not made.base.layers[1].router.weight.is_meta
    kept = built("int4", DEEPSEEK)
    assert torch.equal(logits(made.decoders["int4"]), logits(kept.decoders["int4"]))


def test_a_rank_stores_its_share_of_each_expert():
    model, name = replace(DEEPSEEK, vocab_size=96), "nf4"
    full = build_decoder(model, "bf16", "cpu", CACHE)
    precision = Precision.quantized("bf16", name)
    share = build_decoders(model, [precision], True, "cpu", CACHE, 0, shard=Shard(1, 2))
    kept = full.layers[1].expert_down_proj.weight.chunk(2, dim=2)[1]
    expected = QuantizedExperts(kept, QUANTIZED[name]).weight
    tensors = share.decoders[name].layers[1].expert_down_proj.weight
    for tensor, other in zip(tensors, expected, strict=True):
        assert torch.equal(tensor.view(torch.uint8), other.view(torch.uint8))


def test_memory_counts_experts_as_they_are_stored():
    """Of DeepSeek V3's first mixture, in bytes; and the layer that is quantised, beside it."""
    model = PRESETS["deepseekv3-670b"].with_layers(4)
    plain, stored = Precision.of("bf16"), Precision.quantized("bf16", "nf4")
    experts = model.layers[3].feed_forward.matrices(model.hidden_size)[:2]
    weights = 256 * 3 * 7168 * 2048
    of_groups = weights // 64 + weights // 64 // 256 * 4  # a byte each, four for 256 of them
    tables = 2 * (16 + 1) * 4  # levels and a mean, of two matrices
    assert sum(map(stored.matrix_bytes, experts)) == weights // 2 + of_groups + tables
    need = predict([(model, stored, 1)], 100, 110, stored=(stored,))
    assert need.weights == model.weight_bytes(stored) + model.largest_stored_bytes(plain)
    # One token reads 8 of 256 experts.
    chosen = model.layers[3].feed_forward.matrices_used(model.hidden_size, 1)[:2]
    read = sum(map(stored.matrix_bytes, chosen))
    assert read == pytest.approx((weights // 2 + of_groups) / 32 + tables)


# What they compute


@MODELS
@FORMATS
def test_a_mixture_computes_what_is_stored(name, model):
    made = built(name, model)
    decoder = made.decoders[name]
    expected = logits(stood_for(made, name), batch=3)
    for linear, experts in (("dequantized", "loop"), ("torch", "grouped"), ("gemv", "fused")):
        found = logits(decoder, kernels=KernelConfig(linear=linear, experts=experts), batch=3)
        assert (found - expected).norm() / expected.norm() < 1e-5


@pytest.mark.parametrize(
    ("mode", "name", "model"),
    [
        ("inductor", "int4", SHALLOW_LLAMA4),
        ("inductor", "nf4", SHALLOW_LLAMA4),
        ("thunder", "int4", SHALLOW_DEEPSEEK),
        ("thunder", "int4-asymmetric", SHALLOW_LLAMA4),
        ("thunder", "nf4", SHALLOW_DEEPSEEK),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_compilers_take_quantised_experts(mode, name, model):
    """Also of a second layer, which has tensors of its own."""
    decoder = built(name, model, keeps_base=False).decoders[name]
    expected = logits(decoder)
    assert (logits(decoder, mode) - expected).norm() / expected.norm() < 1e-5


@pytest.mark.parametrize("name", ["int4", "nf4"])
@torch.no_grad()
def test_the_check_closes_on_swapped_scales(name):
    """Two experts of a layer have each other's."""
    decoder = built(name, SHALLOW_LLAMA4, keeps_base=False).decoders[name]
    assert checked(decoder, decoder)["passed"]
    broken = deepcopy(decoder)
    scales = broken.layers[1].expert_down_proj.weight[1].view(torch.uint8)
    scales[:2] = scales[:2].flip(0)
    assert not checked(broken, decoder)["passed"]


def checked(engine_decoder: Decoder, decoder: Decoder) -> dict:
    engine = make_engine("eager", engine_decoder, 2, PROMPT, CACHE, KernelConfig())
    generator = torch.Generator().manual_seed(7)
    sizes = decoder.config.vocab_size, (2, PROMPT)
    prompts = [torch.randint(*sizes, generator=generator) for _ in range(2)]
    return check_before(engine, decoder, prompts, "fp32", seed=1)
