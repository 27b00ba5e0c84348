"""What a part of a layer has to do, counted by hand for Llama 2 7B and Llama 3.1 8B."""

import pytest

from inference_benchmark.engines.parts import IMPLEMENTATIONS
from inference_benchmark.model.config import Precision
from inference_benchmark.model.layer_part import LayerPart
from inference_benchmark.models import MODELS

LLAMA2 = MODELS["llama2-7b"].one_layer()  # 32 heads of 128, hidden 4096, intermediate 11008
LLAMA3 = MODELS["llama3.1-8b"].one_layer()  # the same with 8 KV heads, intermediate 14336
BF16 = Precision.of("bf16")


def work(name: str, length: int, model=LLAMA2, batch_size: int = 1, **options):
    return LayerPart(name, length, **options).work(model, BF16, batch_size)


def test_attention_of_a_prompt_counts_half_the_square():
    counted = work("attention", 1000, batch_size=2)
    # Q K^T and P V: 2 x 2 x 128 FLOPs per head and pair of tokens, 1000 x 1001 / 2 pairs
    assert counted.flops == 2 * 4 * 32 * 128 * 500_500
    # queries, keys, values and the result, 2 bytes each
    assert counted.bytes == 2 * 4 * 1000 * 4096 * 2


def test_attention_of_a_single_token_reads_the_cache():
    counted = work("attention", 1000, LLAMA3, decode=True)
    assert counted.flops == 4 * 32 * 128 * 1000
    # keys and values of 8 heads for 1000 slots, a row of queries and one of results
    assert counted.bytes == (2 * 1000 * 8 * 128 + 2 * 4096) * 2


def test_feed_forward_networks():
    swiglu, gelu = work("ffn", 10), work("ffn", 10, feed_forward="gelu")
    assert swiglu.flops == 2 * 3 * 4096 * 11008 * 10
    assert swiglu.bytes == (3 * 4096 * 11008 + 2 * 10 * 4096) * 2
    assert gelu.flops == 2 * 2 * 4096 * 16384 * 10
    assert work("ffn", 10, decode=True).flops == swiglu.flops / 10


def test_a_layer_is_its_matrices_and_its_attention():
    counted = work("layer", 1000, decode=True)
    matrices = 4 * 4096 * 4096 + 3 * 4096 * 11008
    assert counted.flops == 2 * matrices + 4 * 32 * 128 * 1000
    # two norms, keys and values of 1000 slots, the residual stream in and out
    assert counted.bytes == (matrices + 2 * 4096 + 2 * 1000 * 4096 + 2 * 4096) * 2


def test_a_backward_pass_doubles_what_a_forward_pass_does():
    forward, both = work("layer", 64), work("layer", 64, backward=True)
    assert (both.flops, both.bytes) == (3 * forward.flops, 3 * forward.bytes)


def test_latent_attention_and_experts_as_one_layer_of_deepseek_has_them():
    model = MODELS["deepseekv3-670b"].one_layer()
    prompt, decode = work("attention", 100, model), work("attention", 100, model, decode=True)
    # 128 heads; keys of 192, values of 128; absorbed 576 and 512, of one cache of 576
    assert prompt.flops == 2 * 128 * (192 + 128) * 100 * 101 / 2
    assert prompt.bytes == 2 * 128 * 100 * (2 * 192 + 2 * 128)
    assert decode.flops == 2 * 128 * (576 + 512) * 100
    assert decode.bytes == 2 * (128 * (576 + 512) + 100 * 576)
    ffn = work("ffn", 1, model, decode=True)
    # 8 experts and the shared one, and a router of 256 rows with a bias in fp32
    experts, router = 9 * 3 * 7168 * 2048, 256 * 7168 + 256
    assert ffn.flops == pytest.approx(2 * (experts + router))
    assert ffn.bytes == pytest.approx(2 * experts + 4 * router + 2 * 2 * 7168)


@pytest.mark.parametrize(
    ("model", "decode", "left_out"),
    [
        ("llama2-7b", False, set()),
        ("llama3.1-8b", True, {"efficient"}),  # query heads share KV heads
        # keys of 576 values, absorbed
        (
            "deepseekv3-670b",
            True,
            {"flash", "efficient", "cudnn", "flex", "flash-attn", "flashinfer"},
        ),
    ],
)
def test_only_what_is_known_to_serve_is_timed_unasked(model, decode, left_out):
    layer, part = MODELS[model].one_layer(), LayerPart("attention", 64, decode=decode)
    entries = IMPLEMENTATIONS["attention"]
    assert {name for name, entry in entries.items() if not entry.suits(layer, part)} == left_out
    assert entries["flash"].refusal(part, "fp32", "cuda").startswith("has no fp32")
    assert entries["flash"].refusal(part, "fp32", "cpu") is None


@pytest.mark.parametrize(
    ("model", "part", "words"),
    [
        ("deepseekv3-670b", LayerPart("attention", 64, decode=True), None),
        ("llama4-scout", LayerPart("layer", 64, backward=True), "have no backward pass"),
        ("llama4-scout", LayerPart("attention", 10_000), "attends within 8192 tokens"),
        ("deepseekv3-670b", LayerPart("ffn", 64, feed_forward="gelu", backward=True), None),
        ("llama4-scout", LayerPart("attention", 64), None),
    ],
)
def test_what_can_not_be_timed_alone_says_why(model, part, words):
    reason = part.unsupported(MODELS[model].one_layer())
    assert reason is None if words is None else words in reason
