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

from inference_benchmark.kernels import few_rows, fp8_linear, int8_gemv, packed_gemv, packed_words
from inference_benchmark.kernels._registration import NAMESPACE
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
    def options(self) -> dict:
        """What the launchers take beside words and scales."""
        if self.module is nf4:
            return {"nf4": self.weights[2:]}
        return {"zeros": self.weights[2] if len(self.weights) > 2 else None}

    def arguments(self, name: str) -> tuple:
        return name.removesuffix("_zeros"), *self.weights[:2]


def x_rows(case: Case, count: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(1, count, case.matrix.shape[1], device=DEVICE).to(dtype)


def check(out: torch.Tensor, x: torch.Tensor, case: Case, roundings: float = 0.0) -> None:
    assert_close(out, x.double() @ case.matrix.T, x.dtype, roundings)


# Through Triton's interpreter.


@interpreted_only
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
@pytest.mark.parametrize("name", PACKED)
def test_interpreted_packed(name: str, rows: int, columns: int, poisoned_memory: None) -> None:
    torch.manual_seed(rows)
    case = Case.of(PACKED[name], rows, columns, torch.float32)
    weight_format, *weights = case.arguments(name)
    x = x_rows(case, 1, torch.float32)
    if name == "int8":
        out = int8_gemv.launch_int8_gemv(x, *weights, int8_gemv.Plan(4, 2, 2))
    else:
        plan = packed_gemv.Plan(rows=2, tiles=2, num_warps=2, lookup="gather")
        out = packed_gemv.launch_packed_gemv(weight_format, x, *weights, plan=plan, **case.options)
    check(out, x, case)
    x = x_rows(case, 5, torch.float32)
    plan = few_rows.Plan(rows=16, blocks=2, num_warps=2)
    out = few_rows.launch_few_rows(weight_format, x, *weights, plan=plan, **case.options)
    check(out, x, case)
    matrix = packed_words.launch_unpack(
        weight_format, *weights, columns, torch.float32, **case.options
    )
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
    plan = few_rows.Plan(rows=16, blocks=1, num_warps=2)
    check(few_rows.launch_few_rows_bytes(x, *case.weights, plan), x, case)
    matrix = packed_words.launch_scale_rows(*case.weights, torch.float32)
    assert torch.equal(matrix, fp8.dequantize(case.weights, columns, torch.float32))


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

    @pytest.mark.parametrize("name", PACKED)
    def test_packed_kernels(self, name: str) -> None:
        planes = 32 // packed_words.BITS[name]
        blocks = 4096 // (16 * planes)
        pointers = _PACKED_POINTERS | {"scales_ptr": _SCALES.get(name, "*bf16")}
        common = _COMMON | {"ROW_BLOCKS": blocks, "FORMAT": name}
        if name != "int8":
            further = {"BLOCKS": blocks, "TILES": 2, "LOOKUP": "shuffle", "PROGRAMMATIC": True}
            translate(packed_gemv._packed_gemv_kernel, pointers, **common | further)
        common |= {"PLANES": planes, "BLOCKS": 4}
        translate(few_rows._few_rows_kernel, pointers, **common | {"ROWS": 32, "X_ROWS": 16})
        translate(packed_words._unpack_kernel, pointers, **common)

    def test_int8_gemv(self) -> None:
        constants = {"IN_FEATURES": 4096, "ROW_BLOCKS": 64, "ROWS": 4, "BLOCKS": 16}
        pointers = _PACKED_POINTERS | {"scales_ptr": "*fp32"}
        translate(int8_gemv._int8_gemv_kernel, pointers, **constants, PROGRAMMATIC=True)

    def test_kernels_of_bytes(self) -> None:
        common = {"IN_FEATURES": 4096, "ROWS": 16, "COLUMNS": 256}
        translate(few_rows._few_rows_bytes_kernel, _BYTES_POINTERS, X_ROWS=16, **common)
        common |= {"VECTOR": 8, "PROGRAMMATIC": True}
        translate(fp8_linear._fp8_gemv_kernel, _BYTES_POINTERS, **common)
        constants = {"IN_FEATURES": 4096, "COLUMNS": 256}
        translate(packed_words._scale_rows_kernel, _BYTES_POINTERS, **constants)


# As operators, on a CPU.


def test_operators_are_registered_correctly() -> None:
    operators = getattr(torch.ops, NAMESPACE)
    for name, module in (("int8", int8), ("int4", int4_asymmetric), ("nf4", nf4), ("fp8", fp8)):
        weights = module.quantize(torch.randn(3, 40))
        operator = getattr(operators, f"{name}_linear").default
        # PyTorch can't compare floats of 8 bits, as its test of schemas would.
        checks = ("test_autograd_registration", "test_faketensor", "test_aot_dispatch_static")
        torch.library.opcheck(operator, (torch.randn(2, 40), *weights), test_utils=checks)


def test_a_row_that_does_not_fit_is_refused() -> None:
    words, scales = int8.quantize(torch.randn(4, 100))
    for x in (torch.zeros(2, 100), torch.zeros(1, 129)):
        with pytest.raises(ValueError, match="is not one row for 2 blocks of 64"):
            int8_gemv.launch_int8_gemv(x, words, scales)
    words, scales = int4.quantize(torch.randn(4, 100))
    with pytest.raises(ValueError, match="is not one row for 1 blocks of 128 columns"):
        packed_gemv.launch_packed_gemv("int4", torch.zeros(1, 129), words, scales)
    with pytest.raises(ValueError, match="not one row of 100 values"):
        fp8_linear.launch_fp8_gemv(torch.zeros(2, 100), *fp8.quantize(torch.randn(4, 100)))


def test_plans_keep_x_in_registers() -> None:
    for columns, warps in ((256, 1), (4096, 4), (14336, 16), (53248, 16)):
        assert packed_gemv.choose_plan("int4", 4096, columns).num_warps == warps


# On a GPU.


class TestOnGpu:
    pytestmark = on_gpu

    @pytest.mark.parametrize("count", [1, 3, 32, 33])
    @pytest.mark.parametrize("module", [*PACKED.values(), fp8], ids=lambda module: module.__name__)
    def test_operator(self, module: ModuleType, count: int, poisoned_memory: None) -> None:
        """All ways through an operator: one row, a few, a prompt."""
        for rows, columns in ((512, 4096), (96, 1000), (200, 14336)):
            case = Case.of(module, rows, columns, torch.bfloat16)
            x = x_rows(case, count, torch.bfloat16)
            check(module.fast(x, *case.weights), x, case)

    @pytest.mark.parametrize("name", PACKED)
    def test_unpacking_is_exact(self, name: str) -> None:
        case = Case.of(PACKED[name], 300, 4096, torch.bfloat16)
        weight_format, *weights = case.arguments(name)
        out = packed_words.launch_unpack(
            weight_format, *weights, 4096, torch.bfloat16, **case.options
        )
        expected = case.module.dequantize(case.weights, 4096, torch.bfloat16)
        assert same_bits(out, expected)

    def test_dynamic_products_are_as_near_as_eight_bits_allow(self) -> None:
        case = Case.of(fp8_dynamic, 512, 4096, torch.bfloat16)
        x = x_rows(case, 100, torch.bfloat16)
        check(fp8_dynamic.plain(x, *case.weights), x, case, roundings=0.04)
