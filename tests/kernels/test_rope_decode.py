"""Rotation, cache update and attention in one kernel, against two steps in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from kernel_checks import (
    DEVICE,
    assert_close,
    interpreted_only,
    on_gpu,
    run_in_interpreter,
    same_bits,
    starts_interpreter,
)

from inference_benchmark.kernels._registration import NAMESPACE
from inference_benchmark.kernels.attention_plan import Plan
from inference_benchmark.kernels.flash_decode import flash_decode_reference
from inference_benchmark.kernels.rope_cache import rope_and_cache_reference
from inference_benchmark.kernels.rope_decode import (
    launch_rope_decode,
    rope_decode,
    rope_decode_reference,
)


@dataclass(frozen=True)
class Case:
    """One attention shape, visited at each position with fresh caches."""

    batch: int = 2
    kv_heads: int = 2
    group: int = 4
    head_dim: int = 64
    cache_length: int = 37
    positions: tuple[int, ...] = (0, 1, 15, 16, 17, 32, 36)
    dtype: torch.dtype = torch.float32
    plan: Plan | None = None
    rotates: bool = True
    norm_eps: float | None = None

    def inputs(self, position: int, device: str = DEVICE) -> tuple[torch.Tensor | None, ...]:
        """qkv, cos, sin, caches and position; whatever is not filled yet is poison."""
        torch.manual_seed(position)
        rows = self.kv_heads * (self.group + 2)
        qkv = torch.randn(self.batch, rows, self.head_dim, device=device)
        angles = torch.randn(1, self.head_dim // 2, device=device)
        cos, sin = angles.cos().repeat(1, 2), torch.cat((-angles.sin(), angles.sin()), dim=-1)
        shape = (self.batch, self.kv_heads, self.cache_length, self.head_dim)
        caches = [torch.randn(shape, device=device).to(self.dtype) for _ in range(2)]
        for cache in caches:
            cache[:, :, position::2] = math.nan
            cache[:, :, position + 1 :: 2] = math.inf
        where = torch.full((1,), position, dtype=torch.int64, device=device)
        if not self.rotates:
            cos = sin = None
        return (qkv.to(self.dtype), cos, sin, *caches, where)


def check_rope_decode(case: Case, compute: Callable) -> None:
    for position in case.positions:
        inputs = case.inputs(position)
        expected = in_steps(case, inputs)
        before = [cache.clone() for cache in inputs[3:5]]
        assert_close(compute(*inputs, case.norm_eps), expected[0], case.dtype)
        for cache, new, old in zip(inputs[3:5], expected[1:], before, strict=True):
            assert_close(cache[:, :, position], new, case.dtype)
            assert same_bits(cache[:, :, :position], old[:, :, :position])
            assert same_bits(cache[:, :, position + 1 :], old[:, :, position + 1 :])


def in_steps(case: Case, inputs: tuple[torch.Tensor | None, ...]) -> tuple[torch.Tensor, ...]:
    """In float64 the norm, the rotation and, of queries and caches as their type holds them,
    attention: its result, the new keys and the new values."""
    qkv, cos, sin, *caches, position = inputs
    heads, kv_heads = case.kv_heads * case.group, case.kv_heads
    q, k, v = qkv.double()[:, :, None].split((heads, kv_heads, kv_heads), dim=1)
    if case.norm_eps is not None:
        q, k = (x / (x.square().mean(-1, keepdim=True) + case.norm_eps).sqrt() for x in (q, k))
    copies = [cache.double() for cache in caches]
    if cos is not None:
        q = rope_and_cache_reference(q, k, v, cos.double(), sin.double(), *copies, position)
    else:
        for copy, new in zip(copies, (k, v), strict=True):
            copy.index_copy_(2, position, new)
    q, *copies = (x.to(case.dtype).double() for x in (q, *copies))
    context = flash_decode_reference(q[:, :, 0], *copies, position)
    return context, *(copy[:, :, int(position)] for copy in copies)


# The references, and the operators on a CPU.


@pytest.mark.parametrize("rotates", [True, False])
@pytest.mark.parametrize("norm_eps", [None, 0.5])
def test_one_kernel_is_norm_rotation_and_attention(rotates: bool, norm_eps: float | None) -> None:
    case = Case(dtype=torch.float64, rotates=rotates, norm_eps=norm_eps)
    for position in (0, 5, 36):
        inputs = case.inputs(position, "cpu")
        context, *new = in_steps(case, inputs)
        torch.testing.assert_close(rope_decode_reference(*inputs, norm_eps), context)
        for cache, values in zip(inputs[3:5], new, strict=True):
            torch.testing.assert_close(cache[:, :, position], values)


def test_operators_are_registered_correctly() -> None:
    operators = getattr(torch.ops, NAMESPACE)
    torch.library.opcheck(operators.rope_decode.default, Case().inputs(36, "cpu"))
    without = Case(rotates=False).inputs(36, "cpu")
    torch.library.opcheck(operators.rope_decode.default, (*without, 1e-5))


def test_compiling_refuses_caches_that_share_storage() -> None:
    qkv, cos, sin, k_cache, _, position = Case().inputs(36, "cpu")
    caches = torch.zeros(2, *k_cache.shape)
    compiled = torch.compile(rope_decode, fullgraph=True, backend="aot_eager")
    with pytest.raises(Exception, match="must not share storage"):
        compiled(qkv, cos, sin, caches[0], caches[1], position)


def test_what_does_not_fit_is_refused() -> None:
    qkv, cos, sin, k_cache, v_cache, position = Case().inputs(0, "cpu")
    with pytest.raises(ValueError, match="do not fit"):
        launch_rope_decode(qkv[:1], cos, sin, k_cache, v_cache, position)
    with pytest.raises(ValueError, match="of one position"):
        launch_rope_decode(qkv, cos.repeat(2, 1), sin, k_cache, v_cache, position)
    with pytest.raises(ValueError, match="of one position"):
        launch_rope_decode(qkv, cos, None, k_cache, v_cache, position)
    with pytest.raises(ValueError, match="power of two"):
        launch_rope_decode(qkv[..., :48], cos, sin, k_cache, v_cache, position)


# Through Triton's interpreter.

INTERPRETED_CASES = [
    Case(positions=(16, 36), plan=Plan(3, 16)),
    Case(batch=1, group=1, dtype=torch.float16, plan=Plan(2, 16)),
    Case(batch=1, kv_heads=1, group=5, positions=(0, 16, 36), plan=Plan(1, 16)),
    Case(batch=1, head_dim=128, cache_length=161, positions=(15, 16, 159, 160)),
    Case(batch=1, kv_heads=1, head_dim=16, cache_length=170, positions=(168,), plan=Plan(11, 16)),
    Case(batch=1, group=5, positions=(16, 36), plan=Plan(2, 16), norm_eps=0.5),
    Case(positions=(0, 17), plan=Plan(2, 16), rotates=False),
    Case(batch=1, positions=(36,), plan=Plan(1, 16), rotates=False, norm_eps=0.5),
    # The first tile ahead: of one tile a program, of parts that are no whole tiles, and of several.
    Case(batch=1, plan=Plan(3, 16, ahead=True)),
    Case(
        batch=1,
        kv_heads=1,
        cache_length=170,
        positions=(0, 47, 48, 168),
        plan=Plan(4, 32, ahead=True),
    ),
    Case(batch=1, cache_length=80, positions=(16, 79), plan=Plan(2, 16, ahead=True), norm_eps=0.5),
]


@interpreted_only
@pytest.mark.parametrize("case", INTERPRETED_CASES, ids=str)
def test_interpreted_rope_decode(case: Case, poisoned_memory: None) -> None:
    check_rope_decode(case, lambda *inputs: launch_rope_decode(*inputs, plan=case.plan))


class TestInterpreter:
    pytestmark = starts_interpreter

    def test_kernels_in_the_interpreter(self) -> None:
        run_in_interpreter(__file__)


# On a GPU.

GPU_POSITIONS = (0, 1, 15, 16, 63, 64, 65, 127, 128, 255, 256)
GPU_CASES = [
    Case(group=group, head_dim=dim, cache_length=257, positions=GPU_POSITIONS, dtype=dtype)
    for group in (1, 4, 5)
    for dim in (64, 128)
    for dtype in (torch.bfloat16, torch.float32)
] + [
    Case(1, 8, 4, 128, 2048, (0, 1, 255, 256, 1499, 2047), torch.bfloat16),
    Case(1, 8, 4, 64, 2048, (0, 1023, 1024, 2047), torch.bfloat16),
    Case(1, 8, 4, 128, 5000, (2048, 4100, 4999), torch.bfloat16),  # several tiles a program
    Case(1, 8, 4, 128, 2048, (1023, 2047), torch.float32),
    Case(1, 1, 8, 128, 2048, (0, 1024, 2047), torch.bfloat16),  # many programs a pair
    Case(32, 8, 4, 128, 700, (0, 64, 511, 699), torch.bfloat16),
    Case(3, 1, 8, 64, 999, (0, 512, 998), torch.float16),
    Case(1, 8, 5, 128, 1200, (0, 999, 1199), torch.bfloat16, norm_eps=1e-5),
    Case(1, 8, 5, 128, 1200, (0, 999, 1199), torch.bfloat16, rotates=False),
    Case(32, 8, 5, 128, 700, (0, 511, 699), torch.bfloat16, norm_eps=1e-5),
]


class TestOnGpu:
    pytestmark = on_gpu

    @pytest.mark.parametrize("case", GPU_CASES, ids=str)
    def test_rope_decode(self, case: Case, poisoned_memory: None) -> None:
        check_rope_decode(case, rope_decode)

    def test_one_graph_serves_every_position(self, poisoned_memory: None) -> None:
        case = Case(1, 8, 4, 128, 300, (0, 1, 63, 64, 298, 299, 7), torch.bfloat16)
        static = case.inputs(299)
        rope_decode(*static)  # compiles the kernel
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = rope_decode(*static)

        def replay(*inputs: torch.Tensor | None) -> torch.Tensor:
            for target, value in zip(static, inputs[:-1], strict=True):
                target.copy_(value)
            graph.replay()
            for cache, filled in zip(inputs[3:5], static[3:5], strict=True):
                cache.copy_(filled)
            return out

        check_rope_decode(case, replay)
