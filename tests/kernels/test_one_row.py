"""Kernels of a single row: products on the matrix units or without, SwiGLU, the norm before them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from kernel_checks import (
    DEVICE,
    TOLERANCE,
    assert_close,
    doubles,
    interpreted_only,
    on_gpu,
    run_in_interpreter,
    same_bits,
    starts_interpreter,
)

from inference_benchmark.kernels import gemv as gemv_module
from inference_benchmark.kernels import matrix_units
from inference_benchmark.kernels._registration import NAMESPACE
from inference_benchmark.kernels.add_norm import add_norm, add_norm_reference, launch_add_norm
from inference_benchmark.kernels.gemv import (
    WAYS,
    Plan,
    gemv_reference,
    gemv_swiglu,
    gemv_swiglu_reference,
    launch_gemv,
    launch_gemv_swiglu,
)

EPS = 1e-5
LAUNCHES = {
    "gemv": (launch_gemv, gemv_reference),
    "swiglu": (launch_gemv_swiglu, gemv_swiglu_reference),
}
MATRIX_UNIT_PLANS = {WAYS[way](4096, 4096) for way in WAYS if WAYS[way](4096, 4096).matrix_units}


def check_product(
    name: str, shape: tuple[int, int], dtype: torch.dtype, plan: Plan | None = None
) -> torch.Tensor:
    """Against float64; returns what came out."""
    torch.manual_seed(0)
    launch, reference = LAUNCHES[name]
    out_features, in_features = shape
    x = torch.randn(1, 1, in_features, device=DEVICE).to(dtype)
    weight = torch.randn(out_features, in_features, device=DEVICE) / in_features**0.5
    weight = weight.to(dtype)
    out = launch(x, weight, plan)
    # A product of two sums that may nearly cancel, of which there are few here.
    roundings = 5e-6 if name == "swiglu" else 0.0
    assert_close(out, reference(x.double(), weight.double()), dtype, roundings)
    return out


def check_add_norm(features: int, dtype: torch.dtype, compute: Callable) -> None:
    torch.manual_seed(0)
    update, residual, weight = (
        torch.randn(shape, device=DEVICE).to(dtype)
        for shape in ((1, 1, features), (1, 1, features), (features,))
    )
    before = residual.clone()
    out, total = compute(update, residual, weight, EPS)
    assert torch.equal(total, update + residual)
    zeros = torch.zeros_like(total).double()
    expected, _ = add_norm_reference(zeros, *doubles((total, weight)), EPS)
    assert_close(out, expected, dtype)
    assert torch.equal(residual, before)


# The references, and the operators on a CPU.


def test_references_are_what_they_say() -> None:
    x, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.5, 1.0]])
    sigmoid = 1 / (1 + torch.exp(torch.tensor(-1.0)))
    torch.testing.assert_close(gemv_swiglu_reference(x, weight), (sigmoid * 2.5)[None, None])
    normalised, total = add_norm_reference(x, 2 * x, torch.tensor([2.0, 1.0]), 0.0)
    assert total.tolist() == [[3.0, 6.0]]
    torch.testing.assert_close(normalised, torch.tensor([[6.0, 6.0]]) / 22.5**0.5)


def test_operators_are_registered_correctly() -> None:
    operators = getattr(torch.ops, NAMESPACE)
    x, weight = torch.randn(1, 40), torch.randn(6, 40)
    torch.library.opcheck(operators.gemv_swiglu.default, (x, weight))
    torch.library.opcheck(operators.add_norm.default, (x, x.clone(), weight[0].clone(), EPS))


def test_what_does_not_fit_is_refused() -> None:
    x, weight = torch.zeros(2, 8), torch.zeros(4, 8)
    with pytest.raises(ValueError, match="not one row of 8"):
        launch_gemv_swiglu(x, weight)
    with pytest.raises(ValueError, match="not single rows of 8"):
        launch_add_norm(x, x, weight[0], EPS)
    with pytest.raises(ValueError, match="of one dtype"):
        launch_add_norm(x[:1], x[:1], weight[0].half(), EPS)


# The instructions: what a warp computes, as PTX's manual lays out the operands of mma.m16n8k16.


def mma(a: list[list], b: list[list], c: list[list[float]]) -> list[list[float]]:
    """Of each of 32 threads: four registers of pairs, two of pairs, four sums -> four sums."""
    rows = [[0.0] * 16 for _ in range(16)]
    columns = [[0.0] * 16 for _ in range(8)]
    for lane in range(32):
        quad, place = divmod(lane, 4)
        for register, (row, first) in enumerate(((0, 0), (8, 0), (0, 8), (8, 8))):
            for i in range(2):
                rows[quad + row][first + 2 * place + i] = a[lane][register][i]
        for register in range(2):
            for i in range(2):
                columns[quad][8 * register + 2 * place + i] = b[lane][register][i]

    def total(row: int, column: int) -> float:
        return sum(x * y for x, y in zip(rows[row], columns[column], strict=True))

    return [
        [c[lane][i] + total(lane // 4 + 8 * (i // 2), 2 * (lane % 4) + i % 2) for i in range(4)]
        for lane in range(32)
    ]


def carry_out(text: str, values: list[dict]) -> None:
    """The instructions in the registers of 32 threads, which they change."""
    for line in filter(None, (part.strip() for part in text.strip("{} ").split(";"))):
        operation, arguments = line.split(None, 1)
        if operation == ".reg":
            continue
        if operation.startswith("mma"):
            groups = [re.findall(r"[$\w]+", group) for group in re.findall(r"{(.*?)}", arguments)]
            target, *operands = groups
            sums = mma(*([[lane[name] for name in names] for lane in values] for names in operands))
            for lane, results in zip(values, sums, strict=True):
                lane.update(zip(target, results, strict=True))
            continue
        target, *names = re.findall(r"[$%\w]+", arguments)
        for number, lane in enumerate(values):
            given = [
                lane[name]
                if name in lane
                else number
                if name == "%laneid"
                else 0.0
                if name == "0f00000000"
                else int(name)
                for name in names
            ]
            lane[target] = {
                "mov": lambda a: a,
                "shr": lambda a, b: a >> b,
                "shl": lambda a, b: a << b,
                "and": lambda a, b: a & b,
                "add": lambda a, b: a + b,
                "setp": lambda a, b: a == b,
                "selp": lambda a, b, p: a if p else b,
            }[operation.split(".")[0]](*given)


def text_of(constant) -> str:
    return getattr(constant, "value", constant)


@pytest.mark.parametrize("shared_x", [False, True])
def test_a_warp_adds_the_products_of_its_two_rows(shared_x: bool) -> None:
    """Two steps; with shared_x the first quad alone has x, the same columns for all."""
    generator = random.Random(0)
    numbers = [[[generator.randint(-9, 9) for _ in range(24)] for _ in range(32)] for _ in range(2)]
    sums = [[0.0] * 16 for _ in range(32)]
    expected = [[0.0] * 2 for _ in range(8)]
    for step in numbers:
        lanes = []
        for lane, given in enumerate(step):
            x = step[lane % 4][:8] if shared_x else given[:8]
            for row in range(2):
                weights = given[8 + 8 * row : 16 + 8 * row]
                products = (a * b for a, b in zip(x, weights, strict=True))
                expected[lane // 4][row] += sum(products)
            passed = [0] * 8 if shared_x and lane >= 4 else x
            pairs = passed + given[8:]
            registers = {f"${16 + i}": pairs[2 * i : 2 * i + 2] for i in range(12)}
            registers |= {f"${28 + i}": sums[lane][i] for i in range(16)}
            lanes.append(registers)
        carry_out(text_of(matrix_units.MULTIPLY_BF16), lanes)
        sums = [[lane[f"${i}"] for i in range(16)] for lane in lanes]
    for row in range(2):
        lanes = [{f"${8 + i}": total[8 * row + i] for i in range(8)} for total in sums]
        if not shared_x:
            carry_out(text_of(matrix_units.CHOOSE), lanes)
            assert all(lane[f"${i}"] == 0.0 for lane in lanes for i in range(1, 8))
        first = "$8" if shared_x else "$0"
        for quad in range(8):
            kept = sum(lane[first] for lane in lanes[4 * quad : 4 * quad + 4])
            assert kept == expected[quad][row]


def test_types_differ_in_the_instruction_only() -> None:
    texts = text_of(matrix_units.MULTIPLY_BF16), text_of(matrix_units.MULTIPLY_FP16)
    assert texts[0].replace("bf16", "f16") == texts[1]
    assert text_of(matrix_units.OPERANDS).count(",") == 43


class TestLayout:
    """Triton chooses which thread holds what; the instructions need quads of one row."""

    pytestmark = starts_interpreter

    @pytest.mark.parametrize("plan", sorted(MATRIX_UNIT_PLANS, key=str), ids=str)
    def test_quads_hold_the_same_rows(self, plan: Plan) -> None:
        text = compiled(plan).asm["ttgir"]
        layouts = dict(re.findall(r"(#blocked\d*) = #ttg\.blocked<{(.*?)}>", text))
        operations = [line for line in text.splitlines() if re.search(r"mma\.sync|laneid", line)]
        assert operations
        used = {name for line in operations for name in re.findall(r"#blocked\d*", line)}
        for name in used:
            layout = {
                key: [int(n) for n in numbers.split(",")]
                for key, numbers in re.findall(r"(\w+) = \[(.*?)\]", layouts[name])
            }
            assert layout["sizePerThread"] == [1, 1, 8]
            assert layout["order"][0] == 2
            quads_share_x = plan.columns == 32
            assert layout["threadsPerWarp"] == ([8, 1, 4] if quads_share_x else [1, 1, 32])


def compiled(plan: Plan):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    constants = {
        "IN_FEATURES": 4096,
        "CHUNKS": plan.chunks,
        "PAIRS": plan.pairs,
        "COLUMNS": plan.columns,
        "NUM_WARPS": plan.num_warps,
        "SWIGLU": False,
        "UNITS": True,
        "AHEAD": plan.ahead,
        "PREFETCHED": plan.prefetched,
        "PROGRAMMATIC": True,
    }
    kernel = gemv_module._gemv_kernel
    signature = {
        name: "constexpr" if name in constants else "*bf16" if name.endswith("_ptr") else "i32"
        for name in kernel.arg_names
    }
    # The memory of tensors is aligned.
    attributes = {(i,): [["tt.divisibility", 16]] for i in range(3)}
    source = ASTSource(kernel, signature, constants, attributes)
    options = {"num_warps": plan.num_warps}
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)


# Through Triton's interpreter, which has no matrix units: their plans, and the other product.


@interpreted_only
@pytest.mark.parametrize("name", list(LAUNCHES))
@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("shape", [(6, 1024), (34, 1376)])
def test_interpreted_products(
    shape: tuple[int, int], way: str, name: str, poisoned_memory: None
) -> None:
    for plan in {WAYS[way](4096, 4096), replace(WAYS[way](4096, 4096), ahead=2)}:
        check_product(name, shape, torch.float16, plan)


@interpreted_only
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("features", [1024, 1000, 2500])
def test_interpreted_add_norm(features: int, dtype: torch.dtype, poisoned_memory: None) -> None:
    check_add_norm(features, dtype, launch_add_norm)


class TestInterpreter:
    pytestmark = starts_interpreter

    def test_kernels_in_the_interpreter(self) -> None:
        run_in_interpreter(__file__)


# On a GPU.


class TestOnGpu:
    pytestmark = on_gpu

    @pytest.mark.parametrize("name", list(LAUNCHES))
    @pytest.mark.parametrize("way", list(WAYS))
    def test_products(self, way: str, name: str, poisoned_memory: None) -> None:
        for shape in ((3072, 2048), (34, 1376)):
            check_product(name, shape, torch.bfloat16, WAYS[way](*shape))
        check_product(name, (33, 1024), torch.float16, WAYS[way](33, 1024))

    @pytest.mark.parametrize("name", list(LAUNCHES))
    @pytest.mark.parametrize("dtype", list(TOLERANCE))
    @pytest.mark.parametrize("shape", [(28672, 4096), (4096, 14336), (1000, 5120), (8, 100)])
    def test_chosen_plans(
        self, shape: tuple[int, int], dtype: torch.dtype, name: str, poisoned_memory: None
    ) -> None:
        check_product(name, shape, dtype)

    @pytest.mark.parametrize("dtype", list(TOLERANCE))
    @pytest.mark.parametrize("features", [4096, 2048, 5120, 100])
    def test_add_norm(self, features: int, dtype: torch.dtype, poisoned_memory: None) -> None:
        check_add_norm(features, dtype, add_norm)

    @pytest.mark.parametrize("way", list(WAYS))
    def test_a_chain_of_kernels_gives_the_same_bits(
        self, way: str, monkeypatch: pytest.MonkeyPatch, poisoned_memory: None
    ) -> None:
        """Each is launched before its predecessor has ended; what is read too early differs."""
        monkeypatch.setattr(gemv_module, "WAY", way)
        torch.manual_seed(0)
        matrices = [torch.randn(8192, 4096, device=DEVICE) / 64 for _ in range(4)]
        matrices = [matrix.bfloat16() for matrix in matrices]
        norm_weight = torch.ones(4096, device=DEVICE, dtype=torch.bfloat16)
        start = torch.randn(1, 4096, device=DEVICE).bfloat16()

        def chain(waits: bool) -> torch.Tensor:
            update, residual = start, start
            for matrix in matrices:
                normalised, residual = add_norm(update, residual, norm_weight, EPS)
                if waits:
                    torch.cuda.synchronize()
                update = gemv_swiglu(normalised, matrix)
                if waits:
                    torch.cuda.synchronize()
            return residual + update

        expected = chain(True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = chain(False)
        for _ in range(300):
            graph.replay()
            assert same_bits(out, expected)
