"""How attention over a cache is cut: every multiprocessor busy, tiles that its kernels can take."""

import pytest
from kernel_checks import H200_MULTIPROCESSORS

from inference_benchmark.kernels.attention_plan import (
    MAX_TILE_TOKENS,
    MIN_HEAD_DIM,
    MIN_TILE_TOKENS,
    TILE_BYTES_AHEAD,
    choose_plan,
)
from inference_benchmark.model.parts import GroupedQueryAttention


def test_models_know_the_least_tile() -> None:
    """models.py loads no torch and has the number a second time."""
    dims = [MIN_HEAD_DIM // 2, MIN_HEAD_DIM, 3 * MIN_HEAD_DIM]
    assert [GroupedQueryAttention(2, 1, dim).supports_flash_decode for dim in dims] == [
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("pairs", "cache_length", "splits", "tile_tokens"),
    [
        (8, 2048, 16, 64),  # batch 1 of 8 KV heads: a program on every multiprocessor
        (8, 5120, 16, 64),
        (256, 2048, 1, 64),  # batch 32
        (1, 2048, 128, 16),  # one KV head: short tiles, so that every multiprocessor has one
        (4096, 2048, 1, 64),
        (8, 1, 1, 16),
    ],
)
def test_plan_fills_the_gpu(pairs: int, cache_length: int, splits: int, tile_tokens: int) -> None:
    plan = choose_plan(pairs, cache_length, 128, 2, H200_MULTIPROCESSORS)
    assert (plan.splits, plan.tile_tokens) == (splits, tile_tokens)


@pytest.mark.parametrize(
    ("pairs", "cache_length", "head_dim", "splits", "tile_tokens"),
    [
        (8, 2048, 128, 16, 128),  # Llama 3.1 8B, chat: one tile a program
        (8, 2048, 64, 16, 128),
        (8, 1000, 128, 16, 64),
        (8, 5120, 128, 16, 128),
        (8, 8192, 128, 16, 128),
        (8, 16384, 64, 16, 128),
        (1, 2048, 128, 128, 16),
        (2, 2048, 256, 66, 32),
    ],
)
def test_first_tile_ahead_beside_other_kernels(
    pairs: int, cache_length: int, head_dim: int, splits: int, tile_tokens: int
) -> None:
    sizes = (head_dim, 2, H200_MULTIPROCESSORS)
    plan = choose_plan(pairs, cache_length, *sizes, beside_others=True)
    assert (plan.ahead, plan.splits, plan.tile_tokens) == (True, splits, tile_tokens)
    assert plan.step_tokens == MIN_TILE_TOKENS
    assert plan.tile_tokens * head_dim * 2 <= TILE_BYTES_AHEAD


def test_long_contexts_and_batches_keep_their_pipeline() -> None:
    sizes = (128, 2, H200_MULTIPROCESSORS)
    for pairs, cache_length in ((8, 8193), (256, 2048)):  # many tiles; one program a pair
        plan = choose_plan(pairs, cache_length, *sizes, beside_others=True)
        assert plan == choose_plan(pairs, cache_length, *sizes)
        assert not plan.ahead
        assert plan.num_stages == 3


@pytest.mark.parametrize("head_dim", [16, 64, 128, 256])
@pytest.mark.parametrize("element_bytes", [2, 4])
def test_plan_tiles_are_powers_of_two(head_dim: int, element_bytes: int) -> None:
    for cache_length in (1, 100, 5000, 131072):
        tile = choose_plan(3, cache_length, head_dim, element_bytes, 132).tile_tokens
        assert MIN_TILE_TOKENS <= tile <= MAX_TILE_TOKENS
        assert tile & (tile - 1) == 0
