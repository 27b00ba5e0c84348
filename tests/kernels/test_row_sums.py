"""Lanes that exchange parts of rows must stand where row_sums takes them to: Triton decides that."""

from __future__ import annotations

import re

import pytest
from kernel_checks import starts_interpreter

from inference_benchmark.kernels.integer_gemv import _integer_gemv_kernel
from inference_benchmark.kernels.nf4_gemv import _nf4_gemv_kernel
from inference_benchmark.kernels.nf4_levels import MEAN_ERROR, UNIT, byte_tables
from inference_benchmark.kernels.packed_matrix import RowPlan

pytestmark = starts_interpreter

NF4 = {
    "SCALE_BLOCK": 256,
    "UNIT": UNIT,
    "MEAN_ERROR": MEAN_ERROR,
    "TABLES": byte_tables(),
    "SCALE_ROWS": 0,
}
# Format, blocks of a row, plan: of those that choose_plan has, each number of rows.
PLANS = [
    ("nf4", 32, RowPlan(8, 2, 4)),
    ("nf4", 32, RowPlan(4, 2, 4)),
    ("nf4", 112, RowPlan(2, 8, 8)),
    ("int4", 32, RowPlan(16, 1, 4)),
    ("int4", 32, RowPlan(4, 2, 4)),
    ("int4", 112, RowPlan(2, 8, 8)),
    ("int8", 64, RowPlan(8, 2, 8)),
    ("int8", 64, RowPlan(4, 2, 8)),
    ("int8", 224, RowPlan(2, 4, 16)),
]


def layouts_of_exchanges(weight_format: str, blocks: int, plan: RowPlan) -> set[str]:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = _nf4_gemv_kernel if weight_format == "nf4" else _integer_gemv_kernel
    padded = 1 << (blocks - 1).bit_length()
    assert plan.fills_warps(padded)
    columns = blocks * (64 if weight_format == "int8" else 128)
    constants = {"IN_FEATURES": columns, "ROW_BLOCKS": blocks, "BLOCKS": padded}
    constants |= {"ROWS": plan.rows, "TILES": plan.tiles, "WHOLE": True, "SWIGLU": False}
    constants |= {"EXCHANGED": True, "BY_HAND": False, "PROGRAMMATIC": True}
    constants |= NF4 if weight_format == "nf4" else {"FORMAT": weight_format}
    scales = {"nf4": "*fp8e4nv", "int4": "*bf16", "int8": "*fp32"}[weight_format]
    pointers = {"scale_scales_ptr": "*fp32", "scale_mean_ptr": "*fp32"}
    pointers |= {"words_ptr": "*i32", "zeros_ptr": "*u8"}
    pointers |= {"scales_ptr": scales, "x_ptr": "*bf16", "out_ptr": "*bf16"}
    signature, values, attributes = {}, {}, {}
    for place, name in enumerate(kernel.arg_names):
        signature[name] = pointers.get(name, "constexpr" if name in constants else "i32")
        if name in constants:
            values[(place,)] = constants[name]
        else:
            attributes[(place,)] = [["tt.divisibility", 16]]
    source = ASTSource(fn=kernel, signature=signature, constexprs=values, attrs=attributes)
    target, options = GPUTarget("cuda", 90, 32), {"num_warps": plan.num_warps}
    text = triton.compile(source, target=target, options=options).asm["ttgir"]
    exchanges = [line for line in text.splitlines() if "shfl.sync.bfly" in line]
    assert exchanges
    names = {re.search(r"-> tensor<[^#]*(#\w+)>", line).group(1) for line in exchanges}
    return {re.search(rf"^{name} = (.*)$", text, re.MULTILINE).group(1) for name in names}


@pytest.mark.parametrize(("weight_format", "blocks", "plan"), PLANS)
def test_the_last_bits_of_a_lane_are_words_of_a_block(weight_format, blocks, plan) -> None:
    for layout in layouts_of_exchanges(weight_format, blocks, plan):
        if "linear" in layout:
            # Bit by bit of a lane's number, where in [blocks, (rows,) 4] it leads.
            lanes = re.search(r"lane = \[(.*?)\], warp", layout).group(1)
            bits = [tuple(map(int, bit.split(","))) for bit in re.findall(r"\[([\d, ]+)\]", lanes)]
            assert [bit[-1] for bit in bits[:2]] == [1, 2]
            assert not any(bits[0][:-1] + bits[1][:-1])
            assert not any(row for bit in bits for row in bit[1:-1])
        else:
            assert "threadsPerWarp = [8, 1, 4]" in layout
            assert "order = [2, " in layout
            assert "sizePerThread = [1, 1, 1]" in layout
