"""Decode attention over a compressed cache: the reference against loops, the kernel against it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from kernel_checks import (
    DEVICE,
    H200_MULTIPROCESSORS,
    TOLERANCE,
    as_layer,
    assert_close,
    calls_again,
    doubles,
    interpreted_only,
    on_gpu,
    relative_error,
    run_in_interpreter,
    same_bits,
    starts_interpreter,
)

from inference_benchmark.kernels import latent_decode as latent_decode_module
from inference_benchmark.kernels.latent_decode import (
    Plan,
    choose_plan,
    latent_decode,
    latent_decode_reference,
    launch_latent_decode,
)

SCALE = 0.11


@dataclass(frozen=True)
class Case:
    """One attention shape; positions are visited one after the other with the same cache."""

    batch: int = 1
    heads: int = 16
    latent_dim: int = 32
    rope_dim: int = 16
    cache_length: int = 70
    positions: tuple[int, ...] = (0, 15, 16, 31, 32, 47, 69)
    dtype: torch.dtype = torch.float32
    plan: Plan | None = None

    def __str__(self) -> str:
        cut = (
            self.plan and f"-{self.plan.head_block}heads-{self.plan.splits}x{self.plan.tile_tokens}"
        )
        dtype = str(self.dtype).removeprefix("torch.")
        sizes = f"b{self.batch}-h{self.heads}-dim{self.latent_dim}+{self.rope_dim}"
        return f"{sizes}-length{self.cache_length}-{dtype}{cut or ''}"


Arguments = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, float]


def make_inputs(case: Case, device: str = DEVICE) -> Arguments:
    """Queries as the caller has them: a product [heads, batch, ...] and a part of a wider row."""
    generator = torch.Generator(device).manual_seed(case.heads + case.cache_length)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, device=device).to(case.dtype)

    q_latent = normal(case.heads, case.batch, case.latent_dim).transpose(0, 1)
    q_rope = normal(case.batch, case.heads, case.latent_dim + case.rope_dim)[..., -case.rope_dim :]
    cache = normal(case.batch, 1, case.cache_length, case.latent_dim + case.rope_dim)
    return q_latent, q_rope, cache, torch.zeros(1, dtype=torch.int64, device=device), SCALE


def at(arguments: Arguments, position: int) -> Arguments:
    """The same with a fresh cache, one layer of two, that holds poison beyond position."""
    q_latent, q_rope, cache, tensor, scale = arguments
    cache = as_layer(cache, layers_first=False)
    cache[:, :, position + 1 :: 2] = math.nan
    cache[:, :, position + 2 :: 2] = math.inf
    return q_latent, q_rope, cache, torch.full_like(tensor, position), scale


def wide(arguments: Arguments) -> Arguments:
    return (*doubles(arguments[:4]), arguments[4])


def score_roundings(case: Case) -> float:
    """A score is a sum of this many products of unit variance, each of whose additions rounds to
    6e-8 of the sum so far; an error of a score is a relative one of its weight."""
    dims = case.latent_dim + case.rope_dim
    return SCALE * dims * 6e-8


def check(case: Case, attend: Callable[..., torch.Tensor], device: str = DEVICE) -> None:
    inputs = make_inputs(case, device)
    plan = {} if case.plan is None else {"plan": case.plan}
    for position in case.positions:
        arguments = at(inputs, position)
        before = arguments[2].clone()
        out = attend(*arguments, **plan)
        reference = latent_decode_reference(*wide(arguments))
        assert_close(out, reference, case.dtype, roundings=score_roundings(case))
        assert out.is_contiguous()
        if calls_again(position, case.positions):
            assert same_bits(attend(*arguments, **plan), out)
        assert same_bits(arguments[2], before)


@pytest.mark.parametrize("position", [0, 6, 16])
def test_reference_is_attention_with_values_that_are_part_of_keys(position: int) -> None:
    case = Case(batch=2, heads=3, cache_length=17, dtype=torch.float64)
    arguments = at(make_inputs(case, "cpu"), position)
    q_latent, q_rope, cache = arguments[:3]
    expected = torch.zeros(2, 3, 32, dtype=torch.float64)
    for b in range(2):
        for h in range(3):
            keys = cache[b, 0, : position + 1]
            weights = torch.exp(SCALE * (keys @ torch.cat((q_latent[b, h], q_rope[b, h]))))
            expected[b, h] = (weights[:, None] * keys[:, :32]).sum(dim=0) / weights.sum()
    torch.testing.assert_close(latent_decode_reference(*arguments), expected)


@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_reference_rounds_once(dtype: torch.dtype) -> None:
    check(Case(batch=2, dtype=dtype), latent_decode, "cpu")


def test_registration() -> None:
    torch.library.opcheck(latent_decode_module._operator, at(make_inputs(Case(), "cpu"), 69))


@pytest.mark.parametrize(
    ("batch", "heads", "cache_length", "head_block", "splits"),
    [
        (1, 128, 2048, 16, 16),  # 8 blocks of heads: a program on nearly every multiprocessor
        (1, 16, 2048, 16, 64),  # one rank of eight: one tile each
        (4, 128, 2048, 16, 4),
        (8, 128, 2048, 64, 8),
        (32, 128, 2048, 64, 2),
        (256, 128, 2048, 64, 1),
        (1, 128, 1, 16, 1),
    ],
)
def test_plan_fills_the_gpu(batch, heads, cache_length, head_block, splits) -> None:
    plan = choose_plan(batch, heads, cache_length, 576, 2, H200_MULTIPROCESSORS)
    assert (plan.head_block, plan.splits, plan.tile_tokens) == (head_block, splits, 32)


def test_plan_in_fp32_and_for_small_models() -> None:
    assert choose_plan(8, 128, 2048, 576, 4, H200_MULTIPROCESSORS).tile_tokens == 16
    assert choose_plan(1, 4, 64, 48, 2, H200_MULTIPROCESSORS).tile_tokens == 64


def test_what_does_not_fit_tiles_is_refused() -> None:
    for case, name in ((Case(rope_dim=8), "rope_dim 8"), (Case(latent_dim=48), "latent_dim 48")):
        with pytest.raises(ValueError, match=f"{name} is not a power of two of at least 16"):
            launch_latent_decode(*make_inputs(case, "cpu"))
    q_latent, q_rope, cache, *rest = make_inputs(Case(), "cpu")
    with pytest.raises(ValueError, match="do not fit"):
        launch_latent_decode(q_latent, q_rope, cache[..., 1:], *rest)


# Through Triton's interpreter.

INTERPRETED_CASES = [
    Case(batch=2, positions=(0, 16, 47, 69), plan=Plan(16, 3, 16, 4)),
    Case(heads=20, latent_dim=64, positions=(15, 69), plan=Plan(16, 5, 16, 4)),
    Case(heads=4, dtype=torch.float16, plan=Plan(16, 2, 32, 4)),
    Case(batch=3, heads=5, rope_dim=32, positions=(0, 69), plan=Plan(16, 1, 16, 4)),
    Case(heads=72, positions=(69,), dtype=torch.float16, plan=Plan(64, 2, 16, 8)),
    Case(batch=4, heads=32, cache_length=33, positions=(0, 31, 32)),
    Case(latent_dim=512, rope_dim=64, positions=(31, 69), dtype=torch.float16),
]


@interpreted_only
@pytest.mark.parametrize("case", INTERPRETED_CASES, ids=str)
def test_interpreted(case: Case, poisoned_memory: None) -> None:
    check(case, launch_latent_decode)


class TestInterpreter:
    pytestmark = starts_interpreter

    def test_in_the_interpreter(self) -> None:
        run_in_interpreter(__file__)


# On a GPU.

DEEPSEEK = Case(
    heads=128,
    latent_dim=512,
    rope_dim=64,
    cache_length=2064,
    positions=(0, 31, 32, 511, 1499, 2063),
    dtype=torch.bfloat16,
)
GPU_CASES = [
    DEEPSEEK,
    *(replace(DEEPSEEK, heads=heads) for heads in (64, 32, 16)),
    *(replace(DEEPSEEK, batch=batch) for batch in (2, 4, 8, 33)),
    replace(DEEPSEEK, cache_length=2001, positions=(0, 2000), dtype=torch.float16),
    replace(DEEPSEEK, batch=9, heads=64, positions=(0, 2063), dtype=torch.float16),
    replace(DEEPSEEK, batch=3, positions=(0, 1499, 2063), dtype=torch.float32),
    replace(DEEPSEEK, plan=Plan(64, 5, 32, 8)),
    replace(DEEPSEEK, plan=Plan(16, 3, 16, 4, 2)),
    *(Case(batch=2, heads=4, dtype=dtype) for dtype in TOLERANCE),
    Case(batch=3, heads=20, latent_dim=64, rope_dim=32, dtype=torch.bfloat16),
]


class TestOnGpu:
    pytestmark = on_gpu

    @pytest.mark.parametrize("case", GPU_CASES, ids=str)
    def test_latent_decode(self, case: Case, poisoned_memory: None) -> None:
        check(case, latent_decode if case.plan is None else launch_latent_decode)

    def test_many_calls_give_the_same_bits(self, poisoned_memory: None) -> None:
        """A partial result that is read before it is written is NaN here."""
        arguments = at(make_inputs(DEEPSEEK), 1999)
        first = latent_decode(*arguments)
        same = torch.ones((), dtype=torch.bool, device=DEVICE)
        for _ in range(1000):
            same &= (latent_decode(*arguments) == first).all()
        assert bool(same)

    def test_one_graph_serves_every_position(self, poisoned_memory: None) -> None:
        inputs = make_inputs(DEEPSEEK)
        arguments = at(inputs, 0)
        latent_decode(*arguments)  # compiles the kernels
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = latent_decode(*arguments)
        for position in (0, 31, 32, 2063, 7):
            fresh = at(inputs, position)
            arguments[2].copy_(fresh[2])
            arguments[3].fill_(position)
            for _ in range(3):
                graph.replay()
            expected = latent_decode_reference(*wide(fresh))
            assert relative_error(out, expected) < TOLERANCE[DEEPSEEK.dtype]
