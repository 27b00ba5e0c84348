"""Weight formats of --quantize: packing by hand, what they store, decoders that share the rest."""

import pytest
import torch
from checkpoints import llama
from step_engines import make_engine

from inference_benchmark.kernels.int4_linear import unpack_int4
from inference_benchmark.kernels.nf4_levels import LEVELS, NUMBERS, STORED_LEVELS
from inference_benchmark.kernels.nf4_linear import group_scales, unpack_nf4
from inference_benchmark.model.checkpoint import load_checkpoint
from inference_benchmark.model.checkpoint_config import CheckpointError, read_model
from inference_benchmark.model.config import Precision
from inference_benchmark.model.kernel_choice import KernelConfig
from inference_benchmark.model.quantized import FormatDecoders, build_decoders, store_all
from inference_benchmark.model.weight_format import QUANTIZED, Matrix
from inference_benchmark.model.weight_formats import (
    fp8,
    fp8_dynamic,
    int4,
    int4_asymmetric,
    int8,
    nf4,
)
from inference_benchmark.model.weights import build_decoder, empty_decoder
from inference_benchmark.models import MODELS
from inference_benchmark.parallel.sharding import Shard
from inference_benchmark.session.memory import predict

TINY = MODELS["llama-tiny"].with_layers(2)
ONE_LAYER = MODELS["llama-tiny"].with_layers(1)
LLAMA_8B = MODELS["llama3.1-8b"]
PROMPT, CACHE = 16, 20
MODULES = {
    "int8": int8,
    "int4": int4,
    "int4-asymmetric": int4_asymmetric,
    "nf4": nf4,
    "fp8": fp8,
    "fp8-dynamic": fp8_dynamic,
}
PRECISIONS = [Precision.quantized("bf16", name) for name in MODULES]


# Packing, by hand


def test_int8_by_hand():
    matrix = torch.zeros(1, 100)
    matrix[0, 0], matrix[0, 1], matrix[0, 32], matrix[0, 50] = 254.0, -254.0, 3.0, 101.0
    matrix[0, 64] = -7.0
    words, scales = int8.quantize(matrix)
    assert scales.tolist() == [[2.0]]
    assert words.shape == (1, 32)  # 100 columns: two blocks of 64
    # Stored is the value plus 128; the first word has columns 0 and 32, then 1 and 33.
    assert words[0, 0].item() == 255 + (130 << 8) + (1 << 16) + (128 << 24) - (1 << 32)
    # 3 / 2 and -7 / 2 are rounded to even; 101 / 2 = 50.5 too.
    values = int8.dequantize((words, scales), 100, torch.float32)[0]
    assert values[[0, 1, 32, 50, 64]].tolist() == [254.0, -254.0, 4.0, 100.0, -8.0]


def test_int4_by_hand():
    matrix = torch.zeros(1, 129)
    matrix[0, 0], matrix[0, 16], matrix[0, 127], matrix[0, 128] = 7.5, -7.5, 3.4, -30.0
    words, scales = int4.quantize(matrix)
    assert scales.tolist() == [[1.0, 4.0]]
    stored = unpack_int4(words)[0]
    # 7.5 is rounded to 8, which is cut to 7; -7.5 to -8; stored is 8 more.
    assert stored[[0, 1, 16, 127, 128, 129]].tolist() == [15, 8, 0, 11, 0, 8]
    assert words[0, 0].item() == 0x8888888F - (1 << 32)
    values = int4.dequantize((words, scales), 129, torch.float32)[0]
    assert values[[0, 16, 127, 128]].tolist() == [7.0, -8.0, 3.0, -32.0]


def test_zero_points_by_hand():
    matrix = torch.full((1, 128), 1.0)
    matrix[0, 5], matrix[0, 6] = 20.0, -10.0
    words, scales, zeros = int4_asymmetric.quantize(matrix)
    assert (scales.tolist(), zeros.tolist()) == ([[2.0]], [[5]])  # 30 / 15, 10 / 2
    assert unpack_int4(words)[0, [5, 6, 7]].tolist() == [15, 0, 5]  # 0.5 is rounded to even
    values = int4_asymmetric.dequantize((words, scales, zeros), 128, torch.float32)[0]
    assert values[[5, 6, 7]].tolist() == [20.0, -10.0, 0.0]


def test_nf4_by_hand():
    """Two groups with scales 2 and 6: their mean is 4, and 2 above and below it are exact."""
    levels = torch.tensor(LEVELS)
    matrix = torch.cat((levels.repeat(4) * 2, levels.flip(0).repeat(4) * 6))[None]
    words, scales, scale_scales, mean, kept = nf4.quantize(matrix)
    assert kept.tolist() == torch.tensor(STORED_LEVELS).tolist()
    assert mean.item() == 4.0
    assert scales.float().tolist() == [[-448.0, 448.0]]
    assert scale_scales.item() == pytest.approx(2 / 448)
    assert group_scales(scales, scale_scales, mean).tolist()[0] == pytest.approx([2.0, 6.0])
    assert unpack_nf4(words)[0, :16].tolist() == list(NUMBERS)
    assert unpack_nf4(words)[0, 64:80].tolist() == list(reversed(NUMBERS))
    torch.testing.assert_close(nf4.dequantize(nf4.quantize(matrix), 128, torch.float32), matrix)


def test_fp8_by_hand():
    matrix = torch.tensor([[896.0, -1.0, 33.0], [0.0, 0.0, 0.0]])
    values, scales = fp8.quantize(matrix)
    assert scales[0].item() == 2.0
    # 33 / 2 = 16.5 lies between 16 and 18
    assert values.float().tolist() == [[448.0, -0.5, 16.0], [0.0, 0.0, 0.0]]
    x = torch.tensor([[2.0, 4.0, 8.0]])
    assert fp8.plain(x, values, scales).tolist() == [[1792.0 - 4.0 + 256.0, 0.0]]
    # 2 : 4 : 8 are powers of two: the same where activations are scaled by 448 / 8
    assert fp8_dynamic.plain(x, values, scales).tolist()[0] == pytest.approx([2044.0, 0.0])


@pytest.mark.parametrize("name", MODULES)
def test_bytes_are_those_of_the_tensors(name):
    for rows, columns in ((6, 200), (20, 384)):
        weights = MODULES[name].quantize(torch.randn(rows, columns).bfloat16())
        stored = sum(tensor.numel() * tensor.element_size() for tensor in weights)
        assert QUANTIZED[name].matrix_bytes(Matrix(rows, columns)) == stored


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("int8", 0.008),
        ("int4", 0.12),
        ("int4-asymmetric", 0.11),
        ("nf4", 0.095),
        ("fp8", 0.028),
        ("fp8-dynamic", 0.028),
    ],
)
def test_errors_on_normal_weights(name, error):
    """As far as the step of each format explains; nf4 is finer than int4 where weights are many."""
    module, matrix = MODULES[name], torch.randn(64, 512)
    dequantized = module.dequantize(module.quantize(matrix), 512, torch.float32)
    relative = (dequantized - matrix).norm() / matrix.norm()
    assert 0.8 * error < relative < error


def test_quantising_by_parts_is_the_same(monkeypatch):
    from inference_benchmark.model.weight_formats import rows

    matrix = torch.randn(10, 300)
    for module in MODULES.values():
        whole = module.quantize(matrix)
        with monkeypatch.context() as patch:
            patch.setattr(rows, "_WEIGHTS_AT_A_TIME", 900)
            parts = module.quantize(matrix)
        for tensor, other in zip(whole, parts, strict=True):
            assert torch.equal(tensor.view(torch.uint8), other.view(torch.uint8))


# Decoders


def built(precisions, model=TINY, keeps_base=True, **options) -> FormatDecoders:
    return build_decoders(model, precisions, keeps_base, "cpu", CACHE, 0, **options)


@torch.inference_mode()
def logits(decoder, mode="eager", kernels=None) -> torch.Tensor:
    """[2, vocab] of a prefill and one step."""
    engine = make_engine(mode, decoder, 1, PROMPT, CACHE, kernels)
    engine.prefill(torch.arange(PROMPT)[None] % decoder.config.vocab_size)
    first = engine.logits.clone()
    engine.force(torch.full((1, 1), 3), PROMPT)
    engine.decode()
    return torch.cat((first, engine.logits)).float()


def test_decoders_share_all_but_matrices():
    made = built(PRECISIONS)
    plain = build_decoder(TINY, "bf16", "cpu", CACHE)
    for weight, expected in zip(made.base.parameters(), plain.parameters(), strict=True):
        assert torch.equal(weight, expected)  # the same weights as without --quantize
    for precision in PRECISIONS:
        decoder = made.decoders[precision.name]
        assert decoder.embed_tokens.weight is made.base.embed_tokens.weight
        assert decoder.layers[1].input_layernorm is made.base.layers[1].input_layernorm
        module, stored = MODULES[precision.name], decoder.layers[1].down_proj.weight
        expected = module.quantize(plain.layers[1].down_proj.weight)
        for stored_tensor, other in zip(stored, expected, strict=True):
            assert torch.equal(stored_tensor.view(torch.uint8), other.view(torch.uint8))
        tensors = {tensor.data_ptr(): tensor for tensor in decoder.parameters()}.values()
        held = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        assert held == TINY.weight_bytes(precision)


def test_a_base_that_nobody_runs_is_given_up_layer_by_layer():
    seen = []

    def watch(made):
        def told(index):
            present = [not layer.o_proj.weight.is_meta for layer in made.base.layers]
            seen.append((index, present))

        return told

    made = built(PRECISIONS[:1], keeps_base=False, watch=watch)
    assert seen == [(0, [True, False]), (1, [False, True])]  # one layer at a time
    assert all(layer.down_proj.weight.is_meta for layer in made.base.layers)
    kept = built(PRECISIONS[:1])
    assert torch.equal(logits(made.decoders["int8"]), logits(kept.decoders["int8"]))


def test_the_head_where_it_is_asked_for():
    precision = Precision.quantized("bf16", "int8", with_head=True)
    assert precision.name == "int8+head"
    made = built([precision], ONE_LAYER)
    decoder = made.decoders["int8+head"]
    words, scales = decoder.lm_head.weight
    assert torch.equal(scales, int8.quantize(made.base.lm_head.weight)[1])
    assert words.dtype == torch.int32
    expected = logits(made.base)
    assert (logits(decoder) - expected).norm() / expected.norm() < 0.02
    held = {t.data_ptr(): t.numel() * t.element_size() for t in decoder.parameters()}
    assert sum(held.values()) == ONE_LAYER.weight_bytes(precision)
    head_bytes = 2 * LLAMA_8B.head_parameters
    saved = LLAMA_8B.step_weight_bytes(Precision.quantized("bf16", "int8"), 1)
    saved -= LLAMA_8B.step_weight_bytes(precision, 1)
    assert saved == head_bytes // 2 - 4 * LLAMA_8B.vocab_size  # a scale of 4 bytes per row


def test_a_rank_stores_its_share_of_the_same_matrix():
    full = build_decoder(TINY, "bf16", "cpu", CACHE)
    share = built(PRECISIONS[:1], shard=Shard(1, 2)).decoders["int8"]
    rows = full.layers[0].gate_up_proj.weight
    width = rows.shape[0] // 4
    kept = torch.cat((rows[width : 2 * width], rows[3 * width :]))
    for stored, made in zip(share.layers[0].gate_up_proj.weight, int8.quantize(kept), strict=True):
        assert torch.equal(stored, made)


def test_a_checkpoint_is_quantised_after_it_was_read(tmp_path):
    llama().save_pretrained(tmp_path)
    base = empty_decoder(read_model(tmp_path), "bf16", "cpu")
    load_checkpoint(base, tmp_path)
    base.set_context_length(CACHE)
    expected = logits(base)
    original = base.layers[0].o_proj.weight.clone()
    made = FormatDecoders(base, PRECISIONS[:1], keeps_base=False)
    told = []
    store_all(made, told.append)
    assert told == list(range(base.config.num_layers))
    stored = made.decoders["int8"].layers[0].o_proj.weight
    assert torch.equal(stored[0], int8.quantize(original)[0])
    quantized_logits = logits(made.decoders["int8"])
    assert (quantized_logits - expected).norm() / expected.norm() < 0.05


@pytest.mark.parametrize(("method", "advice"), [("gptq", "int4"), ("fp8", "fp8"), ("hqq", "int8")])
def test_quantised_checkpoints_are_refused_by_their_method(tmp_path, method, advice):
    model = llama()
    model.config.quantization_config = {"quant_method": method}
    llama().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    text = path.read_text().rstrip().removesuffix("}").rstrip()
    path.write_text(f'{text},\n"quantization_config": {{"quant_method": "{method}"}}}}')
    with pytest.raises(CheckpointError, match=rf"{method}\).*--quantize {advice}$"):
        read_model(tmp_path)


def test_memory_counts_every_format_once():
    none, eight, four = (
        Precision.of("bf16"),
        Precision.quantized("bf16", "int8"),
        Precision.quantized("bf16", "int4"),
    )
    cells = [(LLAMA_8B, precision, 1) for precision in (none, eight, four)]
    linear = LLAMA_8B.linear_parameters
    both = predict(cells, 1000, 1002, stored=(none, eight, four)).weights
    rest = 2 * (LLAMA_8B.parameters - linear)
    rows = sum(m.rows for layer in LLAMA_8B.layers for m in LLAMA_8B._matrices(layer))
    in_four = linear // 2 + linear // 128 * 2
    assert both == rest + 2 * linear + linear + 4 * rows + in_four
    alone = predict(cells[2:], 1000, 1002, stored=(four,)).weights
    assert alone == rest + in_four + 2 * linear // 32  # and one layer while it is made


@pytest.mark.parametrize("name", ["int8", "int4", "nf4", "fp8"])
def test_kernels_and_plain_pytorch_agree_in_eager(name):
    """On a CPU each operator is its reference: what is tested is how the layers call it."""
    decoder = built([Precision.quantized("bf16", name)], ONE_LAYER).decoders[name]
    expected = logits(decoder, kernels=KernelConfig(linear="dequantized"))
    for linear in ("torch", "gemv"):
        assert torch.equal(logits(decoder, kernels=KernelConfig(linear=linear)), expected)


@pytest.mark.parametrize(
    ("mode", "name", "linear"), [("inductor", "int8", "torch"), ("thunder", "nf4", "gemv")]
)
def test_compilers_take_quantised_layers(mode, name, linear):
    decoder = built([Precision.quantized("bf16", name)], ONE_LAYER).decoders[name]
    expected = logits(decoder, kernels=KernelConfig(linear=linear))
    computed = logits(decoder, mode, KernelConfig(linear=linear))
    assert (computed - expected).norm() / expected.norm() < 0.01
