"""The arithmetic of DeepSeek V3 and Llama 4: published totals, figures by hand, built modules."""

import pytest
import torch
from mixture_models import DEEPSEEK, LLAMA4

from inference_benchmark.hardware import Ceilings
from inference_benchmark.model.cache import allocate_cache
from inference_benchmark.model.config import Precision, every
from inference_benchmark.model.parts import (
    GroupedQueryAttention,
    GroupLimitedRouter,
    LatentAttention,
    MixtureOfExperts,
)
from inference_benchmark.model.weights import build_decoder
from inference_benchmark.models import MODELS
from inference_benchmark.workloads.generation import Generation

BF16 = Precision.of("bf16")
DEEPSEEK_V3 = MODELS["deepseekv3-670b"]


@pytest.mark.parametrize(
    ("name", "total", "active"),
    [
        ("deepseekv3-670b", 671e9, 37e9),
        ("llama4-scout", 109e9, 17e9),
        ("llama4-maverick", 400e9, 17e9),
    ],
)
def test_parameters_are_those_published(name, total, active):
    assert MODELS[name].parameters == pytest.approx(total, rel=0.02)
    assert MODELS[name].active_parameters == pytest.approx(active, rel=0.02)


def test_deepseek_by_hand():
    attention = 7168 * (1536 + 576) + 1536 * 128 * 192 + 512 * 128 * 256 + 128 * 128 * 7168
    expert = 3 * 7168 * 2048
    dense = attention + 3 * 7168 * 18432
    mixture = attention + 257 * expert + 256 * 7168 + 256  # 1 shared; router and its bias
    norms = 61 * (2 * 7168 + 1536 + 512) + 7168
    assert DEEPSEEK_V3.parameters == 2 * 129280 * 7168 + 3 * dense + 58 * mixture + norms
    assert DEEPSEEK_V3.active_parameters == DEEPSEEK_V3.parameters - 58 * 248 * expert
    # routers stay in fp32
    fp32 = 58 * (256 * 7168 + 256)
    assert DEEPSEEK_V3.weight_bytes(BF16) == 2 * DEEPSEEK_V3.parameters + 2 * fp32
    assert DEEPSEEK_V3.kv_bytes_per_token(BF16) == 61 * 576 * 2


def test_deepseek_attention_flops_by_hand():
    """A prompt's pairs cost 192 and 128 values per head, a token's 576 and 512."""
    assert DEEPSEEK_V3.prefill_attention_flops(2, 1000) == 2 * 61 * 2 * 128 * 320 * 500_500
    linear = 2 * (DEEPSEEK_V3.active_parameters - 129280 * 7168 - DEEPSEEK_V3.norm_parameters)
    scores = 61 * 2 * 128 * (576 + 512) * 1500
    assert DEEPSEEK_V3.decode_flops(1, range(1499, 1502)) == linear + scores


def test_llama4_by_hand():
    scout, maverick = MODELS["llama4-scout"], MODELS["llama4-maverick"]
    attention = 5120 * 128 * (2 * 40 + 2 * 8)
    expert = 3 * 5120 * 8192
    rest = 2 * 202048 * 5120 + 48 * attention + (2 * 48 + 1) * 5120
    assert scout.parameters == rest + 48 * (17 * expert + 16 * 5120)
    dense = 3 * 5120 * 16384
    assert maverick.parameters == rest + 24 * dense + 24 * (129 * expert + 128 * 5120)
    assert scout.weight_bytes(BF16) == 2 * scout.parameters


def test_experts_touched():
    mixture = MixtureOfExperts(256, 8, 2048, 2048, GroupLimitedRouter(8, 4, 2.5))
    assert mixture.experts_touched(1) == pytest.approx(8)
    assert mixture.experts_touched(2) == pytest.approx(256 * (1 - (248 / 256) ** 2))
    assert mixture.experts_touched(10_000) == pytest.approx(256)
    expert = 3 * 7168 * 2048
    for num_tokens, num_experts in ((1, 8 + 1), (10_000, 256 + 1)):  # one that all share
        used = sum(matrix.parameters for matrix in mixture.matrices_used(7168, num_tokens))
        assert used == pytest.approx(num_experts * expert)
    assert sum(matrix.parameters for matrix in mixture.matrices(7168)) == 257 * expert


def test_chunked_attention_counts_its_chunk_only():
    whole, chunked = GroupedQueryAttention(4, 2, 16), GroupedQueryAttention(4, 2, 16, chunk_size=8)
    assert chunked.prefill_score_flops(8) == whole.prefill_score_flops(8)
    # two whole chunks of 36 pairs and a rest of 3 tokens, 6 pairs
    assert chunked.prefill_score_flops(19) == 4 * 4 * 16 * (2 * 36 + 6)
    attended = [chunked.attended(range(context, context + 1)) for context in (7, 8, 9, 16, 17)]
    assert attended == [7, 8, 1, 8, 1]
    assert chunked.attended(range(7, 18)) == sum([7, 8, *range(1, 9), 1]) / 11


def test_layers_are_of_the_published_kinds():
    maverick = MODELS["llama4-maverick"].layers
    assert [layer.attention.uses_rope for layer in maverick[:8]] == [True, True, True, False] * 2
    is_mixture = [isinstance(layer.feed_forward, MixtureOfExperts) for layer in maverick[:4]]
    assert is_mixture == [False, True, False, True]
    assert len(MODELS["llama4-maverick"].layer_kinds) == 3
    assert len(MODELS["llama4-scout"].layer_kinds) == 2
    deepseek = [isinstance(layer.feed_forward, MixtureOfExperts) for layer in DEEPSEEK_V3.layers]
    assert deepseek == [False] * 3 + [True] * 58
    assert all(isinstance(layer.attention, LatentAttention) for layer in DEEPSEEK_V3.layers)


def test_fewer_layers_are_the_first_ones():
    reduced = DEEPSEEK_V3.with_layers(4)
    assert reduced.layers == DEEPSEEK_V3.layers[:4]
    assert reduced.label == "deepseekv3-670b [4 of 61 layers]"
    assert reduced.with_layers(2).label == "deepseekv3-670b [2 of 61 layers]"


def test_every():
    assert every(3, "b", "a", 7) == ("a", "a", "b", "a", "a", "b", "a")


@pytest.mark.parametrize("model", [DEEPSEEK, LLAMA4], ids=lambda model: model.name)
def test_counts_match_the_built_module(model):
    decoder = build_decoder(model, "bf16", "cpu", 16)
    parameters = list(decoder.parameters())
    assert sum(p.numel() for p in parameters) == model.parameters
    assert sum(p.numel() * p.element_size() for p in parameters) == model.weight_bytes(BF16)
    assert all(torch.isfinite(p).all() for p in parameters)
    cache = allocate_cache(model, 3, 16, torch.bfloat16, "cpu")
    stored = sum(t.numel() * t.element_size() for layer in cache for t in layer)
    assert stored == model.kv_cache_bytes(BF16, 3, 16)


def test_a_prompt_that_touches_every_expert_is_bound_by_reading_them():
    cost = Generation(1000, 1).cost(DEEPSEEK_V3, BF16, 1)
    limit, prefill = cost.limit(Ceilings(4e12, 1e15, "measured")), cost.phases["prefill"]
    matmul_s, attention_s = prefill.bytes / 4e12, prefill.attention_flops / 1e15
    assert limit["metrics"]["ttft_s"] == limit["by_kind"]["prefill"]["matmul"] == matmul_s
    assert limit["by_kind"]["prefill"]["attention"] == attention_s
