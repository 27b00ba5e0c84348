"""The kernels over packed weights against the matrices that these stand for, in float64.

Triton's interpreter takes branches that a compiler refuses, so every kernel is also translated for a
Hopper GPU, as far as that goes without one.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

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
from torch.nn import functional as F

from inference_benchmark.kernels import (
    few_rows,
    fp8_few_rows,
    fp8_linear,
    integer_gemv,
    nf4_gemv,
    nf4_levels,
    nf4_scales,
    packed_words,
)
from inference_benchmark.kernels._registration import NAMESPACE
from inference_benchmark.kernels.packed_matrix import BITS, PackedMatrix, RowPlan, pack, unpack
from inference_benchmark.model.weight_formats import (
    fp8,
    fp8_dynamic,
    int4,
    int4_asymmetric,
    int8,
    nf4,
)

PACKED = {"int8": int8, "int4": int4, "int4_zeros": int4_asymmetric, "nf4": nf4}
SHAPES = [(7, 200), (4, 640)]  # rows and groups that are cut off; whole ones


@dataclass(frozen=True)
class Case:
    """Weights of a format, and what they stand for."""

    module: ModuleType
    weights: tuple[torch.Tensor, ...]
    matrix: torch.Tensor  # float64

    @classmethod
    def of(cls, module: ModuleType, rows: int, columns: int, dtype: torch.dtype) -> Case:
        drawn = torch.randn(rows, columns, device=DEVICE).to(dtype)
        weights = module.quantize(drawn)
        return cls(module, weights, module.dequantize(weights, columns, torch.float64))

    @property
    def packed(self) -> PackedMatrix:
        name = next(name for name, module in PACKED.items() if module is self.module)
        words, scales, *further = self.weights
        return PackedMatrix(name, words, scales, *([None] if name == "nf4" else []), *further)

    def matrix_for(self, x: torch.Tensor) -> torch.Tensor:
        """As the kernels have it: of one row nf4's levels are what bytes make of them."""
        columns = self.matrix.shape[1]
        if self.module is not nf4 or x.numel() > columns:
            return self.matrix
        whole = [nf4_levels.whole_level(number) - nf4_levels.MEAN_ERROR for number in range(16)]
        levels = torch.tensor(whole, device=x.device) / nf4_levels.UNIT
        return nf4.dequantize((*self.weights[:-1], levels), columns, torch.float64)


def x_rows(case: Case, count: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(1, count, case.matrix.shape[1], device=DEVICE).to(dtype)


def check(out: torch.Tensor, x: torch.Tensor, case: Case, roundings: float = 0.0) -> None:
    assert_close(out, x.double() @ case.matrix_for(x).T, x.dtype, roundings)


def check_swiglu(out: torch.Tensor, x: torch.Tensor, case: Case) -> None:
    gate, up = (x.double() @ case.matrix_for(x).T).chunk(2, dim=-1)
    assert_close(out, F.silu(gate) * up, x.dtype)


# Through Triton's interpreter.


@interpreted_only
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
@pytest.mark.parametrize("name", PACKED)
def test_interpreted_packed(name: str, rows: int, columns: int, poisoned_memory: None) -> None:
    torch.manual_seed(rows)
    case = Case.of(PACKED[name], rows, columns, torch.float32)
    # Of bf16's values, whose last bits in fixed point are not as often one as the other.
    x = x_rows(case, 1, torch.bfloat16).to(torch.float16)
    launch = nf4_gemv.launch_nf4_gemv if name == "nf4" else integer_gemv.launch_integer_gemv
    row_plan = RowPlan(rows=2, tiles=2, num_warps=2, by_hand=True)
    check(launch(x, case.packed, row_plan), x, case)
    # Whole numbers have neither. nf4's overflow then, which a GPU wraps around and this refuses.
    for odd in () if name == "nf4" else (float("nan"), float("inf")):
        x[..., 3] = odd
        assert launch(x, case.packed, row_plan).isnan().all()
    x = x_rows(case, 5, torch.float32)
    plan = few_rows.Plan(rows=16, blocks=2, num_warps=2, num_stages=1, lookup="gather")
    check(few_rows.launch_few_rows(x, case.packed, plan), x, case)
    matrix = packed_words.launch_unpack(case.packed, columns, torch.float32, lookup="gather")
    assert torch.equal(matrix, case.module.dequantize(case.weights, columns, torch.float32))


@interpreted_only
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_interpreted_fp8(rows: int, columns: int, poisoned_memory: None) -> None:
    torch.manual_seed(rows)
    case = Case.of(fp8, rows, columns, torch.float32)
    x = x_rows(case, 1, torch.float32)
    plan = fp8_linear.Plan(rows=4, columns=256, num_warps=2)
    check(fp8_linear.launch_fp8_gemv(x, *case.weights, plan), x, case)
    x = x_rows(case, 5, torch.float32)
    plan = fp8_few_rows.Plan(rows=16, columns=64, num_warps=2)
    check(fp8_few_rows.launch_few_rows_bytes(x, *case.weights, plan), x, case)
    matrix = fp8_few_rows.launch_scale_rows(*case.weights, torch.float32)
    assert torch.equal(matrix, fp8.dequantize(case.weights, columns, torch.float32))


@interpreted_only
@pytest.mark.parametrize("name", [*PACKED, "fp8"])
def test_interpreted_swiglu(name: str, poisoned_memory: None) -> None:
    """Pairs of rows that end within a tile."""
    torch.manual_seed(3)
    case = Case.of(PACKED.get(name, fp8), 14, 200, torch.float32)
    x = x_rows(case, 1, torch.bfloat16).to(torch.float16)
    if name == "fp8":
        plan = fp8_linear.Plan(rows=4, columns=256, num_warps=2)
        out = fp8_linear.launch_fp8_gemv(x, *case.weights, plan, swiglu=True)
    else:
        launch = nf4_gemv.launch_nf4_gemv if name == "nf4" else integer_gemv.launch_integer_gemv
        out = launch(x, case.packed, RowPlan(4, 2, num_warps=2, by_hand=True), swiglu=True)
    check_swiglu(out, x, case)


@interpreted_only
@pytest.mark.parametrize("swiglu", [False, True])
def test_interpreted_rows_that_share_a_scale_of_scales(swiglu: bool, poisoned_memory: None) -> None:
    """Two rows; a program's four (or four pairs) have two, and tiles begin with one of their own."""
    torch.manual_seed(4)
    case = Case.of(nf4, 16, 8192, torch.float32)
    plan = RowPlan(8 if swiglu else 4, 2, num_warps=2, by_hand=True)
    assert nf4_scales.rows_of_a_scale(case.packed, plan, whole=True, swiglu=swiglu) == 2
    x = x_rows(case, 1, torch.bfloat16).to(torch.float16)
    out = nf4_gemv.launch_nf4_gemv(x, case.packed, plan, swiglu=swiglu)
    (check_swiglu if swiglu else check)(out, x, case)


class TestInterpreter:
    pytestmark = starts_interpreter

    def test_in_the_interpreter(self) -> None:
        run_in_interpreter(__file__)


# Translated for a GPU.

_PACKED_POINTERS = {
    "x_ptr": "*bf16",
    "words_ptr": "*i32",
    "scales_ptr": "*bf16",
    "zeros_ptr": "*u8",
    "scale_scales_ptr": "*fp32",
    "scale_mean_ptr": "*fp32",
    "levels_ptr": "*fp32",
    "out_ptr": "*bf16",
}
_BYTES_POINTERS = {
    "x_ptr": "*bf16",
    "values_ptr": "*fp8e4nv",
    "scales_ptr": "*fp32",
    "out_ptr": "*bf16",
}
_SCALES = {"int8": "*fp32", "nf4": "*fp8e4nv"}
_COMMON = {"IN_FEATURES": 4096, "SCALE_BLOCK": 256, "ROWS": 4}


def translate(kernel, pointers: dict[str, str], **constants) -> None:
    """To Triton's first representation; raises where types do not fit."""
    import triton
    from triton._C.libtriton import ir
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature, values = {}, {}
    for place, name in enumerate(kernel.arg_names):
        signature[name] = pointers.get(name) or ("constexpr" if name in constants else "i32")
        if name in constants:
            values[(place,)] = constants[name]
    source = ASTSource(fn=kernel, signature=signature, constexprs=values)
    target = GPUTarget("cuda", 90, 32)
    backend = triton.compiler.make_backend(target)
    options, context = backend.parse_options({"num_warps": 4}), ir.context()
    ir.load_dialects(context)
    backend.load_dialects(context)
    generators, modules = backend.get_codegen_implementation(options), backend.get_module_map()
    assert source.make_ir(target, options, generators, modules, context).verify()


class TestTranslation:
    pytestmark = starts_interpreter

    @pytest.mark.parametrize("swiglu", [False, True])
    @pytest.mark.parametrize("name", PACKED)
    def test_packed_kernels(self, name: str, swiglu: bool) -> None:
        places = 16 // BITS[name]
        blocks = 4096 // (32 * places)
        pointers = _PACKED_POINTERS | {"scales_ptr": _SCALES.get(name, "*bf16")}
        common = _COMMON | {"ROW_BLOCKS": blocks, "FORMAT": name, "LOOKUP": "shuffle"}
        further = {
            "BLOCKS": blocks,
            "TILES": 2,
            "WHOLE": False,
            "EXCHANGED": False,
            "SCALE_ROWS": 0,
            "SWIGLU": swiglu,
            "PROGRAMMATIC": True,
            "BY_HAND": False,
            "UNIT": nf4_levels.UNIT,
            "MEAN_ERROR": nf4_levels.MEAN_ERROR,
            "TABLES": nf4_levels.byte_tables(),
        }
        kernel = nf4_gemv._nf4_gemv_kernel
        if name != "nf4":
            kernel = integer_gemv._integer_gemv_kernel
        translate(kernel, pointers, **common | further)
        whole = {"WHOLE": True, "EXCHANGED": True, "SCALE_ROWS": 2}
        translate(kernel, pointers, **common | further | whole)
        common |= {"PLACES": places, "BLOCKS": 2}
        further = {"ROWS": 16, "X_ROWS": 8, "LOOKUP": "table", "PROGRAMMATIC": True}
        translate(few_rows._few_rows_kernel, pointers, **common | further)
        translate(packed_words._unpack_kernel, pointers, **common)

    def test_kernels_of_bytes(self) -> None:
        common = {"IN_FEATURES": 4096, "ROWS": 16, "COLUMNS": 256}
        translate(fp8_few_rows._few_rows_bytes_kernel, _BYTES_POINTERS, X_ROWS=16, **common)
        common |= {"VECTOR": 8, "PROGRAMMATIC": True}
        for swiglu in (False, True):
            translate(fp8_linear._fp8_gemv_kernel, _BYTES_POINTERS, SWIGLU=swiglu, **common)
        constants = {"IN_FEATURES": 4096, "COLUMNS": 256}
        translate(fp8_few_rows._scale_rows_kernel, _BYTES_POINTERS, **constants)


# Packing, by hand.


@pytest.mark.parametrize(
    ("name", "place_bits", "odd_bits"), [("int8", 8, 16), ("int4", 4, 16), ("nf4", 8, 4)]
)
def test_pairs_of_columns_lie_at_the_places_of_a_word(name, place_bits: int, odd_bits: int) -> None:
    bits = BITS[name]
    values = torch.randint(1 << bits, (3, 2 * 512 // bits))
    words = pack(values, name)
    assert torch.equal(unpack(words, name), values.to(torch.uint8))
    block = values[1, 512 // bits :]  # the second block of a row
    word = words[1, 16 + 5].item() & 0xFFFFFFFF
    for place in range(16 // bits):
        even = word >> place_bits * place
        pair = [even % (1 << bits), (even >> odd_bits) % (1 << bits)]
        assert pair == block[32 * place + 10 : 32 * place + 12].tolist()


# As operators, on a CPU.


def test_operators_are_registered_correctly() -> None:
    operators = getattr(torch.ops, NAMESPACE)
    for name, module in (("int8", int8), ("int4", int4_asymmetric), ("nf4", nf4), ("fp8", fp8)):
        weights = module.quantize(torch.randn(4, 40))
        # PyTorch can't compare floats of 8 bits, as its test of schemas would.
        checks = ("test_autograd_registration", "test_faketensor", "test_aot_dispatch_static")
        for operator in (f"{name}_linear", f"{name}_swiglu"):
            call = getattr(operators, operator).default
            torch.library.opcheck(call, (torch.randn(1, 40), *weights), test_utils=checks)


def test_a_row_that_does_not_fit_is_refused() -> None:
    packed = PackedMatrix("int8", *int8.quantize(torch.randn(4, 100)))
    for x in (torch.zeros(2, 100, dtype=torch.bfloat16), torch.zeros(1, 100)):
        with pytest.raises(ValueError, match="is not one row of bf16 or fp16"):
            integer_gemv.launch_integer_gemv(x, packed)
    late = torch.zeros(4 * 32 + 1, dtype=torch.int32)[1:].view(4, 32)
    with pytest.raises(ValueError, match="words must begin at a multiple of 16 bytes"):
        integer_gemv.launch_integer_gemv(torch.zeros(1, 100), packed._replace(words=late))
    with pytest.raises(ValueError, match="does not fit rows of 2 blocks of 64 columns"):
        few_rows.launch_few_rows(torch.zeros(1, 129), packed)
    words, scales, *further = nf4.quantize(torch.randn(4, 100))
    packed = PackedMatrix("nf4", words, scales, None, *further)
    with pytest.raises(ValueError, match="does not fit rows of 1 blocks of 128 columns"):
        nf4_gemv.launch_nf4_gemv(torch.zeros(1, 129), packed)
    for x in (torch.zeros(2, 100, dtype=torch.bfloat16), torch.zeros(1, 100)):
        with pytest.raises(ValueError, match="is not one row of bf16 or fp16"):
            nf4_gemv.launch_nf4_gemv(x, packed)
    with pytest.raises(ValueError, match="not one row of 100 values"):
        fp8_linear.launch_fp8_gemv(torch.zeros(2, 100), *fp8.quantize(torch.randn(4, 100)))


@pytest.mark.parametrize(
    ("name", "plans"),
    [
        ("int8", {256: (4, 2, 1), 4096: (4, 2, 8), 14336: (2, 4, 16), 53248: (2, 4, 16)}),
        ("int4", {256: (16, 1, 1), 4096: (16, 1, 4), 14336: (2, 8, 8), 53248: (2, 8, 16)}),
        ("int4_zeros", {4096: (16, 1, 4)}),
        ("nf4", {256: (8, 1, 1), 4096: (8, 1, 4), 14336: (2, 8, 8), 53248: (2, 8, 16)}),
    ],
)
def test_plans_keep_x_in_registers(name, plans: dict[int, tuple[int, int, int]]) -> None:
    for columns, expected in plans.items():
        assert plan_of(name, 4096, columns) == expected


@pytest.mark.parametrize(
    ("name", "plans"),
    [
        ("int8", {6144: (8, 2, 8), 28672: (8, 2, 8)}),
        ("int4", {6144: (4, 2, 4), 28672: (4, 2, 4)}),
        ("nf4", {6144: (8, 2, 4), 28672: (8, 2, 4)}),
    ],
)
def test_plans_of_tall_matrices(name, plans: dict[int, tuple[int, int, int]]) -> None:
    for rows, expected in plans.items():
        assert plan_of(name, rows, 4096) == expected


def plan_of(name: str, rows: int, columns: int) -> tuple[int, int, int]:
    words = torch.empty(rows, -(-columns * BITS[name] // 512) * 16, device="meta")
    kernels = nf4_gemv if name == "nf4" else integer_gemv
    plan = kernels.choose_plan(PackedMatrix(name, words, words))
    return plan.rows, plan.tiles, plan.num_warps


# On a GPU.


class TestOnGpu:
    pytestmark = on_gpu

    @pytest.mark.parametrize("count", [1, 3, 32, 33])
    @pytest.mark.parametrize("module", [*PACKED.values(), fp8], ids=lambda module: module.__name__)
    def test_operator(self, module: ModuleType, count: int, poisoned_memory: None) -> None:
        """All ways through an operator: one row, a few, a prompt."""
        for rows, columns in ((512, 4096), (6144, 4096), (96, 1000), (200, 14336)):
            case = Case.of(module, rows, columns, torch.bfloat16)
            x = x_rows(case, count, torch.bfloat16)
            check(module.fast(x, *case.weights), x, case)

    @pytest.mark.parametrize("module", [*PACKED.values(), fp8], ids=lambda module: module.__name__)
    def test_swiglu(self, module: ModuleType, poisoned_memory: None) -> None:
        for rows, columns in ((1024, 4096), (96, 1000), (200, 14336), (28672, 4096)):
            case = Case.of(module, rows, columns, torch.bfloat16)
            x = x_rows(case, 1, torch.bfloat16)
            check_swiglu(module.fast_swiglu(x, *case.weights), x, case)

    @pytest.mark.parametrize("name", PACKED)
    def test_unpacking_is_exact(self, name: str) -> None:
        case = Case.of(PACKED[name], 300, 4096, torch.bfloat16)
        out = packed_words.launch_unpack(case.packed, 4096, torch.bfloat16)
        expected = case.module.dequantize(case.weights, 4096, torch.bfloat16)
        assert same_bits(out, expected)

    @pytest.mark.parametrize("name", PACKED)
    def test_what_is_no_number_stays_none(self, name: str) -> None:
        case = Case.of(PACKED[name], 64, 512, torch.bfloat16)
        for odd in (float("nan"), float("inf")):
            x = x_rows(case, 1, torch.bfloat16)
            x[..., 3] = odd
            launch = nf4_gemv.launch_nf4_gemv if name == "nf4" else integer_gemv.launch_integer_gemv
            assert launch(x, case.packed).isnan().all()

    def test_dynamic_products_are_as_near_as_eight_bits_allow(self) -> None:
        case = Case.of(fp8_dynamic, 512, 4096, torch.bfloat16)
        x = x_rows(case, 100, torch.bfloat16)
        check(fp8_dynamic.plain(x, *case.weights), x, case, roundings=0.04)
