"""The arithmetic of models.py, against figures worked out by hand and against built modules."""

from dataclasses import replace

import pytest

from inference_benchmark.model.cache import allocate_cache
from inference_benchmark.model.config import Precision, decode_contexts
from inference_benchmark.model.weights import empty_decoder
from inference_benchmark.models import MODELS

BF16 = Precision.of("bf16")
LLAMA_8B = MODELS["llama3.1-8b"]


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("llama3.1-8b", 8_030_261_248),
        ("llama3.1-70b", 70_553_706_496),
        ("llama3.1-405b", 405_853_388_800),
        ("llama3.2-1b", 1_235_814_400),
        ("llama2-7b", 6_738_415_616),
        ("llama2-13b", 13_015_864_320),
        ("llama2-70b", 68_976_648_192),
    ],
)
def test_parameters_are_those_of_the_published_checkpoints(name, published):
    assert MODELS[name].parameters == published


def test_8b_by_hand():
    # weights without the embedding table, two bytes each, plus one embedding row
    read = 8_030_261_248 - 128_256 * 4096 + 4096
    assert LLAMA_8B.step_weight_bytes(BF16, 1) == 2 * read
    assert LLAMA_8B.kv_bytes_per_token(BF16) == 32 * 2 * 8 * 128 * 2 == 128 * 1024
    assert LLAMA_8B.weight_bytes(BF16) == 2 * 8_030_261_248
    assert LLAMA_8B.decode_bytes(BF16, 1, range(1500, 1501)) == 2 * read + 1500 * 128 * 1024
    # two FLOPs a weight and token, half the square of attention, the head once
    layers = 2 * 218_103_808 * 32 * 1000
    attention = 4 * 32 * 128 * (1000 * 1001 // 2) * 32
    assert LLAMA_8B.prefill_flops(1, 1000) == layers + attention + 2 * 128_256 * 4096
    assert LLAMA_8B.prefill_flops(3, 1000) == 3 * LLAMA_8B.prefill_flops(1, 1000)


def test_tied_embeddings_are_stored_once_and_read_as_the_head():
    model = MODELS["llama3.2-1b"]
    assert model.parameters * 2 == model.weight_bytes(BF16)
    assert model.step_weight_bytes(BF16, 1) == model.weight_bytes(BF16) + 2048 * 2


def test_fp8_linears_keep_the_rest_in_bf16():
    linear = LLAMA_8B.linear_parameters
    expected = linear + 2 * (LLAMA_8B.parameters - linear)
    assert LLAMA_8B.weight_bytes(Precision.of("bf16", "fp8")) == expected


def test_a_step_attends_to_the_prompt_and_every_token_so_far():
    contexts = decode_contexts(1000, 250)
    assert list(contexts) == [1000 + i for i in range(1, 250)]
    kv = LLAMA_8B.decode_kv_bytes(BF16, 1, contexts)
    assert kv == 128 * 1024 * sum(contexts) / 249
    assert list(decode_contexts(1000, 1)) == [1001]


@pytest.mark.parametrize("name", ["llama-tiny", "llama3.2-1b"])
def test_counts_match_the_built_module(name):
    model = replace(MODELS[name].with_layers(2), vocab_size=1000)
    decoder = empty_decoder(model, "bf16", "cpu")
    parameters = list(decoder.parameters())
    assert sum(p.numel() for p in parameters) == model.parameters
    assert sum(p.numel() * p.element_size() for p in parameters) == model.weight_bytes(BF16)
    cache = allocate_cache(model, 3, 16, parameters[0].dtype, "cpu")
    stored = sum(t.numel() * t.element_size() for layer in cache for t in layer)
    assert stored == model.kv_cache_bytes(BF16, 3, 16)


def test_with_layers_keeps_the_full_depth_in_the_label():
    reduced = LLAMA_8B.with_layers(8)
    assert (reduced.num_layers, reduced.is_reduced) == (8, True)
    assert reduced.label == "llama3.1-8b [8 of 32 layers]"
    assert LLAMA_8B.with_layers(None).label == "llama3.1-8b"
    for wrong in (0, 33):
        with pytest.raises(ValueError, match="32 layers"):
            LLAMA_8B.with_layers(wrong)
