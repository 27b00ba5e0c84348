"""Dense layers' kernels against their references in float64, and these against plain loops."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from decode_inputs import Case, make_inputs
from kernel_checks import (
    DEVICE,
    ROOT,
    TOLERANCE,
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

from inference_benchmark.kernels import arrivals
from inference_benchmark.kernels._registration import NAMESPACE
from inference_benchmark.kernels.attention_plan import (
    Plan,
)
from inference_benchmark.kernels.flash_decode import (
    flash_decode,
    flash_decode_reference,
    launch_flash_decode,
)
from inference_benchmark.kernels.gemv import launch_gemv
from inference_benchmark.kernels.rope_cache import (
    launch_rope_and_cache,
    rope_and_cache,
    rope_and_cache_reference,
)


def assert_rounded_once(out: torch.Tensor, reference: torch.Tensor) -> None:
    """Nearly all elements are the reference's, rounded: nothing was rounded on the way (fp32)."""
    if out.dtype != torch.float32:
        assert float((out == reference.to(out.dtype)).double().mean()) > 0.95


# The references, against loops in float64.


def attention_by_loops(
    q: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor, position: int, scale: float
) -> torch.Tensor:
    out = torch.zeros_like(q)
    group = q.shape[1] // k_cache.shape[1]
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            keys = k_cache[b, h // group, : position + 1]
            values = v_cache[b, h // group, : position + 1]
            weights = torch.exp(scale * (keys @ q[b, h]))
            out[b, h] = (weights[:, None] * values).sum(dim=0) / weights.sum()
    return out


@pytest.mark.parametrize("group", [1, 2, 5])
@pytest.mark.parametrize("position", [0, 6, 16])
def test_flash_decode_reference_is_attention(group: int, position: int) -> None:
    case = Case(group=group, head_dim=16, cache_length=17, dtype=torch.float64)
    inputs = make_inputs(case, "cpu").at(position)
    arguments = inputs.flash_arguments()
    expected = attention_by_loops(*arguments[:3], position, scale=0.25)
    torch.testing.assert_close(flash_decode_reference(*arguments), expected)
    expected = attention_by_loops(*arguments[:3], position, scale=0.5)
    torch.testing.assert_close(flash_decode_reference(*arguments, 0.5), expected)


def test_rope_reference_rotates_pairs() -> None:
    case = Case(head_dim=16, cache_length=5, dtype=torch.float64)
    inputs = make_inputs(case, "cpu").at(4)
    k_before = inputs.k_cache.clone()
    rotated = rope_and_cache_reference(*inputs.rope_arguments())[:, :, 0]
    turn = torch.complex(inputs.cos.double(), -inputs.sin.double())[:, :8]
    for x, out in ((inputs.q, rotated), (inputs.k, inputs.k_cache[:, :, 4])):
        expected = torch.complex(x[..., :8], x[..., 8:]) * turn
        torch.testing.assert_close(out, torch.cat((expected.real, expected.imag), dim=-1))
    assert torch.equal(inputs.v_cache[:, :, 4], inputs.v)
    assert torch.equal(inputs.k_cache[:, :, :4], k_before[:, :, :4])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_references_round_once(dtype: torch.dtype) -> None:
    check_flash_decode(Case(dtype=dtype, positions=(0, 100, 256)), flash_decode_reference, "cpu")
    check_rope_and_cache(Case(dtype=dtype, positions=(0, 256)), rope_and_cache_reference, "cpu")
    check_prompt(Case(dtype=dtype), 5, rope_and_cache_reference, "cpu")


# The operators, as eager and compiled code calls them.


def decode_step(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    position: torch.Tensor,
) -> torch.Tensor:
    rotated = rope_and_cache(q, k, v, cos, sin, k_cache, v_cache, position)
    return flash_decode(rotated[:, :, 0], k_cache, v_cache, position).flatten(1)


def test_compiled_step_equals_eager_and_updates_the_cache() -> None:
    case = Case(head_dim=16, cache_length=21, dtype=torch.float32)
    eager, compiled = make_inputs(case, "cpu").at(7), make_inputs(case, "cpu").at(7)
    before = eager.k_cache.clone()
    expected = decode_step(*eager.rope_arguments())
    # The compiler's cache on disk does not tell shared storage from separate storage.
    with torch.compiler.config.patch(force_disable_caches=True):
        step = torch.compile(decode_step, fullgraph=True)
        out = step(*compiled.rope_arguments())
    torch.testing.assert_close(out, expected)
    assert same_bits(compiled.k_cache, eager.k_cache)
    assert same_bits(compiled.v_cache, eager.v_cache)
    assert not same_bits(compiled.k_cache, before)


def test_compiling_refuses_caches_that_share_storage() -> None:
    case = Case(head_dim=16, cache_length=21, dtype=torch.float32)
    inputs = make_inputs(case, "cpu").at(7)
    inputs.k_cache, inputs.v_cache = torch.zeros(2, *inputs.k_cache.shape)
    with pytest.raises(Exception, match="must not share storage"):
        torch.compile(rope_and_cache, fullgraph=True, backend="aot_eager")(*inputs.rope_arguments())


def test_operators_are_registered_correctly() -> None:
    inputs = make_inputs(Case(head_dim=16, cache_length=9, dtype=torch.float32), "cpu")
    operators = getattr(torch.ops, NAMESPACE)
    torch.library.opcheck(operators.flash_decode.default, inputs.flash_arguments())
    torch.library.opcheck(operators.rope_and_cache.default, inputs.rope_arguments())
    torch.library.opcheck(operators.gemv.default, (torch.randn(1, 40), torch.randn(3, 40)))


def test_kernel_files_import_without_triton() -> None:
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "import torch\n"
        "from inference_benchmark.kernels import add_norm, few_rows_linear, flash_decode, gemv, greedy_token, latent_decode, one_expert_mixture, rope_cache, rope_decode, routed_experts\n"
        "print(gemv.gemv(torch.ones(1, 4), torch.ones(3, 4)))\n"
        "from inference_benchmark.model.weight_formats import int4, int8, nf4, fp8\n"
        "for made in (int4, int8, nf4, fp8):\n"
        "    made.fast(torch.ones(1, 40), *made.quantize(torch.ones(3, 40)))\n"
        "    made.fast_swiglu(torch.ones(1, 40), *made.quantize(torch.ones(4, 40)))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
    assert run.returncode == 0, run.stderr.decode()


def test_kernels_refuse_what_they_cannot_do() -> None:
    inputs = make_inputs(Case(head_dim=48, cache_length=9, dtype=torch.float32), "cpu")
    with pytest.raises(ValueError, match="head_dim 48 is not a power of two"):
        launch_flash_decode(*inputs.flash_arguments())
    with pytest.raises(ValueError, match="head_dim 48 is not a power of two"):
        launch_rope_and_cache(*inputs.rope_arguments())
    with pytest.raises(ValueError, match="not one row"):
        launch_gemv(torch.zeros(2, 8), torch.zeros(4, 8))


# What a kernel must do, whichever way it runs.


def check_flash_decode(
    case: Case, attend: Callable[..., torch.Tensor], device: str = DEVICE
) -> None:
    inputs = make_inputs(case, device)
    plan = {} if case.plan is None else {"plan": case.plan}
    for position in case.positions:
        poisoned = inputs.at(position)
        k_before = poisoned.k_cache.clone()
        for scale in (None, 0.3) if position == case.positions[-1] else (None,):
            reference = flash_decode_reference(*doubles(poisoned.flash_arguments()), scale)
            out = attend(*poisoned.flash_arguments(), scale, **plan)
            assert_close(out, reference, case.dtype)
            assert out.is_contiguous()
            if calls_again(position, case.positions):
                again = attend(*poisoned.flash_arguments(), scale, **plan)
                assert same_bits(again, out), "the sum depends on the order of arrival"
        assert same_bits(poisoned.k_cache, k_before)


def check_rope_and_cache(
    case: Case, rotate: Callable[..., torch.Tensor], device: str = DEVICE
) -> None:
    inputs = make_inputs(case, device)
    for position in case.positions:
        kernel, reference = inputs.at(position), inputs.at(position)
        wide = replace(reference, k_cache=inputs.k_cache.double(), v_cache=inputs.v_cache.double())
        expected = rope_and_cache_reference(*doubles(wide.rope_arguments()))
        out = rotate(*kernel.rope_arguments())
        assert_close(out, expected, case.dtype)
        assert_rounded_once(out, expected)
        assert out.transpose(1, 2).is_contiguous()
        assert_close(kernel.k_cache[:, :, position], wide.k_cache[:, :, position], case.dtype)
        assert same_bits(kernel.v_cache[:, :, position].contiguous(), inputs.v.contiguous())
        for written, untouched in (
            (kernel.k_cache, reference.k_cache),
            (kernel.v_cache, reference.v_cache),
        ):
            written[:, :, position] = untouched[:, :, position]
            assert same_bits(written, untouched), "a slot other than the position's was written"


def check_prompt(
    case: Case, length: int, rotate: Callable[..., torch.Tensor], device: str = DEVICE
) -> None:
    """A prompt, cut from fused rows, in caches whose other slots hold poison."""
    torch.manual_seed(0)
    heads, kv_heads, head_dim = case.kv_heads * case.group, case.kv_heads, case.head_dim
    rows = torch.randn(case.batch, length, heads + 2 * kv_heads, head_dim, device=device)
    new = rows.to(case.dtype).transpose(1, 2).split([heads, kv_heads, kv_heads], dim=1)
    angles = torch.randn(length, head_dim // 2, device=device)
    cos, sin = angles.cos().repeat(1, 2), torch.cat((-angles.sin(), angles.sin()), dim=-1)
    inputs = make_inputs(case, device).at(-1)
    expected_caches = inputs.k_cache.double(), inputs.v_cache.double()
    # A prompt starts at slot 0, whatever the position says.
    position = torch.full_like(inputs.position, 3)
    expected = rope_and_cache_reference(*doubles((*new, cos, sin)), *expected_caches, position)
    out = rotate(*new, cos, sin, inputs.k_cache, inputs.v_cache, position)
    assert_close(out, expected, case.dtype)
    assert_rounded_once(out, expected)
    assert out.transpose(1, 2).is_contiguous()
    for cache, wide in zip((inputs.k_cache, inputs.v_cache), expected_caches, strict=True):
        assert_close(cache[:, :, :length], wide[:, :, :length], case.dtype)
        assert not torch.isfinite(cache[:, :, length:]).any(), (
            "a slot beyond the prompt was written"
        )


# Through Triton's interpreter.

SMALL_POSITIONS = (0, 15, 16, 33, 36)
SMALL = Case(cache_length=37, positions=SMALL_POSITIONS, dtype=torch.float32)
INTERPRETED_CASES = [
    replace(SMALL, batch=1, group=1, head_dim=64, plan=Plan(3, 16)),
    replace(SMALL, batch=1, group=2, dtype=torch.float16, positions=(15, 36), plan=Plan(2, 16)),
    replace(
        SMALL,
        kv_heads=1,
        head_dim=64,
        dtype=torch.float16,
        positions=(16, 36),
        plan=Plan(3, 16),
    ),
    replace(SMALL, group=5, kv_heads=1, tokens_first="k", positions=(0, 33), plan=Plan(3, 16)),
    replace(SMALL, batch=1, group=8, positions=(0, 36), plan=Plan(2, 32)),
    replace(SMALL, batch=1, kv_heads=1, group=20, head_dim=16, positions=(36,), plan=Plan(1, 16)),
    replace(SMALL, batch=1, head_dim=64, cache_length=161, positions=(15, 16, 159, 160)),
    replace(
        SMALL,
        batch=1,
        kv_heads=1,
        head_dim=16,
        cache_length=170,
        positions=(168,),
        plan=Plan(11, 16),
    ),
]


@interpreted_only
@pytest.mark.parametrize("case", INTERPRETED_CASES, ids=str)
def test_interpreted_flash_decode(case: Case, poisoned_memory: None) -> None:
    check_flash_decode(case, launch_flash_decode)


@interpreted_only
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_interpreted_rope_and_cache(dtype: torch.dtype, poisoned_memory: None) -> None:
    case = Case(head_dim=64, cache_length=5, positions=(0, 4), dtype=dtype)
    check_rope_and_cache(case, launch_rope_and_cache)
    check_rope_and_cache(replace(case, tokens_first="v", group=1), launch_rope_and_cache)
    for length, group in ((2, 1), (31, 4), (33, 2)):
        check_prompt(replace(case, cache_length=37, group=group), length, launch_rope_and_cache)


class TestInterpreter:
    pytestmark = starts_interpreter

    def test_kernels_in_the_interpreter(self) -> None:
        run_in_interpreter(__file__)


# On a GPU.

GPU_CASES = [
    *(Case(group=group, head_dim=dim) for group in (1, 2, 4, 5, 8) for dim in (64, 128)),
    *(
        Case(dtype=dtype, head_dim=dim)
        for dtype in (torch.float16, torch.float32)
        for dim in (64, 128)
    ),
    Case(batch=1, kv_heads=8, cache_length=2048, positions=(0, 1499, 2047)),
    Case(batch=3, kv_heads=1, cache_length=999, positions=(0, 511, 512, 997, 998)),
    Case(batch=32, kv_heads=8, cache_length=700, positions=(0, 63, 64, 511, 699)),
    Case(batch=64, kv_heads=8, cache_length=300, positions=(0, 63, 64, 299)),
    Case(batch=1, kv_heads=1, group=20, cache_length=3000, positions=(0, 15, 16, 2999)),
    Case(batch=1, kv_heads=2, head_dim=16, cache_length=300, positions=(0, 299)),
    Case(batch=1, kv_heads=2, head_dim=256, cache_length=300, positions=(0, 299)),
    Case(tokens_first="k"),
    Case(tokens_first="v"),
    Case(plan=Plan(7, 32)),
    Case(plan=Plan(5, 16), group=5, head_dim=64),
    Case(plan=Plan(9, 16, num_warps=2, num_stages=4)),
    Case(plan=Plan(1, 128, num_warps=8, num_stages=2)),
]


class TestOnGpu:
    pytestmark = on_gpu

    @pytest.mark.parametrize("case", GPU_CASES, ids=str)
    def test_flash_decode(self, case: Case, poisoned_memory: None) -> None:
        check_flash_decode(case, flash_decode if case.plan is None else launch_flash_decode)

    @pytest.mark.parametrize("dtype", list(TOLERANCE))
    @pytest.mark.parametrize("head_dim", [64, 128])
    @pytest.mark.parametrize(("batch", "group"), [(1, 4), (3, 5), (32, 1)])
    def test_rope_and_cache(
        self, dtype: torch.dtype, head_dim: int, batch: int, group: int, poisoned_memory: None
    ) -> None:
        case = Case(batch, 8, group, head_dim, 65, (0, 63, 64), dtype)
        check_rope_and_cache(case, rope_and_cache)
        check_rope_and_cache(replace(case, tokens_first="v"), rope_and_cache)
        for length in (2, 32, 65):
            check_prompt(case, length, rope_and_cache)
        check_prompt(replace(case, cache_length=1500, tokens_first="k"), 1000, rope_and_cache)

    def test_many_calls_give_the_same_bits(self, poisoned_memory: None) -> None:
        """A partial read before it is written is NaN here; a counter left wrong shows as well."""
        inputs = make_inputs(Case(batch=1, kv_heads=8, cache_length=2048)).at(1999)
        plan = Plan(33, 64)
        first = launch_flash_decode(*inputs.flash_arguments(), plan=plan)
        same = torch.ones((), dtype=torch.bool, device=DEVICE)
        for _ in range(3000):
            same &= (launch_flash_decode(*inputs.flash_arguments(), plan=plan) == first).all()
        assert bool(same)

    @pytest.mark.parametrize("kept_counters", [True, False])
    def test_one_graph_serves_every_position(
        self, kept_counters: bool, poisoned_memory: None
    ) -> None:
        case = Case(batch=1, kv_heads=8, cache_length=300)
        inputs = make_inputs(case)
        step_inputs = inputs.at(case.cache_length - 1)
        arguments = step_inputs.rope_arguments()
        decode_step(*arguments)  # compiles the kernels
        if not kept_counters:
            arrivals.kept_counters.clear()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = decode_step(*arguments)
        for position in (0, 1, 63, 64, 298, 299, 7):
            fresh = inputs.at(position)
            step_inputs.k_cache.copy_(fresh.k_cache)
            step_inputs.v_cache.copy_(fresh.v_cache)
            step_inputs.position.fill_(position)
            for _ in range(3):
                graph.replay()
            q = rope_and_cache_reference(*fresh.rope_arguments())[:, :, 0]
            context = flash_decode_reference(*doubles((q, *fresh.flash_arguments()[1:])))
            assert relative_error(out, context.flatten(1)) < 2 * TOLERANCE[case.dtype]
            assert same_bits(step_inputs.v_cache, fresh.v_cache)
