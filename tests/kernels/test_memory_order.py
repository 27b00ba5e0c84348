"""What orders the memory of kernels, in the instructions that Triton makes for a Hopper GPU.

A kernel that is launched before its predecessor has ended may read what no kernel writes, and
nothing else, before it waits. The program that adds up what others left reads it from L2, behind a
barrier and a counter. Both fail rarely and silently where they are wrong; the interpreter knows
neither.
"""

from __future__ import annotations

import re

import pytest
from kernel_checks import starts_interpreter

from inference_benchmark.kernels.add_norm import _add_norm_kernel
from inference_benchmark.kernels.add_norm_scores import _add_norm_scores_kernel
from inference_benchmark.kernels.few_rows_linear import _few_rows_linear_kernel
from inference_benchmark.kernels.few_rows_ring import _few_rows_ring_kernel
from inference_benchmark.kernels.flash_decode import _flash_decode_kernel
from inference_benchmark.kernels.fp8_linear import _fp8_gemv_kernel
from inference_benchmark.kernels.gemv import _gemv_kernel
from inference_benchmark.kernels.greedy_token import _greedy_token_kernel
from inference_benchmark.kernels.integer_gemv import _integer_gemv_kernel
from inference_benchmark.kernels.nf4_gemv import _TABLES, _nf4_gemv_kernel
from inference_benchmark.kernels.nf4_levels import MEAN_ERROR, UNIT
from inference_benchmark.kernels.one_expert_mixture import (
    _pair_down_gemv_kernel,
    _pair_gate_up_gemv_kernel,
)
from inference_benchmark.kernels.peer_words import ptx_that_waits
from inference_benchmark.kernels.push_all_reduce import _push_all_reduce_kernel
from inference_benchmark.kernels.rope_decode import _rope_decode_kernel

pytestmark = starts_interpreter

POINTERS = {
    "out_ptr": "*bf16",
    "arrivals_ptr": "*i32",
    "partial_ptr": "*fp32",
    "lse_ptr": "*fp32",
    "position_ptr": "*i64",
    "ranks_ptr": "*i32",
    "places_ptr": "*i32",
    "scale_log2": "fp32",
    "eps": "fp32",
    "norm_eps": "fp32",
    "choice_ptr": "*i64",
    "addresses_ptr": "*i64",
    "calls_ptr": "*i32",
    "values_ptr": "*fp8e4nv",
    "words_ptr": "*i32",
    "scale_scales_ptr": "*fp32",
    "scale_mean_ptr": "*fp32",
    "levels_ptr": "*fp32",
}
ATTENTION = {
    "KV_HEADS": 8,
    "SPLITS": 16,
    "GROUP": 4,
    "GROUP_PADDED": 16,
    "HEAD_DIM": 64,
    "TILE_TOKENS": 32,
    "COMBINE_ROWS": 4,
    "COMBINE_UNROLL": 2,
}
FEW_ROWS = {
    "IN_FEATURES": 1024,
    "X_ROWS": 16,
    "OUTPUTS": 64,
    "COLUMNS": 128,
    "SPLITS": 4,
    "PART": 256,
    "AHEAD": 2,
    "STAGES": 3,
    "SWIGLU": False,
}
RING = {
    "IN_FEATURES": 1024,
    "X_ROWS": 16,
    "OUTPUTS": 64,
    "COLUMNS": 128,
    "PARTS": 3,
    "STAGES": 3,
    "SWIGLU": False,
    "num_warps": 4,
}
GEMV = {"IN_FEATURES": 2048, "PAIRS": 2, "COLUMNS": 512, "SWIGLU": False}
PUSH = {
    "FEATURES": 1000,
    "BLOCK": 512,
    "ROW_WORDS": 512,
    "MAX_ROWS": 2,
    "SIZE": 2,
    "NORM": True,
    "WAIT": ptx_that_waits(512, 2),
}
PACKED = {
    "IN_FEATURES": 4096,
    "ROW_BLOCKS": 32,
    "BLOCKS": 32,
    "ROWS": 4,
    "TILES": 2,
    "WHOLE": False,
    "EXCHANGED": True,
    "SWIGLU": True,
    "BY_HAND": False,
}
INT8 = PACKED | {"FORMAT": "int8", "ROW_BLOCKS": 64, "BLOCKS": 64}
NF4 = PACKED | {
    "SCALE_BLOCK": 256,
    "UNIT": UNIT,
    "MEAN_ERROR": MEAN_ERROR,
    "TABLES": _TABLES,
    "SCALE_ROWS": 0,
}
FP8 = {"IN_FEATURES": 4096, "ROWS": 4, "COLUMNS": 2048, "VECTOR": 8, "SWIGLU": True}
MIXTURE = {"WIDTH": 2048, "ROWS": 2, "COLUMNS": 512, "TILES": 4}
PAIR_GATE_UP = MIXTURE | {"EXPERTS": 16, "EXPERTS_PADDED": 16, "IN_FEATURES": 2048}
ROTATION = ATTENTION | {"ROTATES": True, "STEP_TOKENS": 32, "AHEAD": False}
AHEAD = {"STEP_TOKENS": 16, "AHEAD": True}
CHOICE = {"PROGRAMS": 4, "PROGRAMS_PADDED": 4, "BLOCK": 1024}
# Kernel, constants, and what it may do before it waits: load weights or addresses, which nothing
# writes, or from L2 what an earlier step wrote.
EARLY = {
    "gemv": (_gemv_kernel, GEMV, {"ld.evict_first"}),
    "gemv_swiglu": (_gemv_kernel, GEMV | {"SWIGLU": True}, {"ld.evict_first"}),
    "add_norm": (_add_norm_kernel, {"FEATURES": 2000, "BLOCK": 2048}, {"ld"}),
    "add_norm_scores": (_add_norm_scores_kernel, {"FEATURES": 2000, "BLOCK": 2048}, {"ld"}),
    "pair_gate_up": (_pair_gate_up_gemv_kernel, PAIR_GATE_UP, {"ld.evict_first"}),
    "pair_down": (_pair_down_gemv_kernel, MIXTURE | {"OUT_FEATURES": 1024}, {"ld.evict_first"}),
    "few_rows_linear": (_few_rows_linear_kernel, FEW_ROWS, {"prefetch"}),
    "few_rows_swiglu": (_few_rows_linear_kernel, FEW_ROWS | {"SWIGLU": True}, {"prefetch"}),
    "few_rows_ring": (_few_rows_ring_kernel, RING, {"cp.cg", "bar"}),
    "few_rows_ring_swiglu": (
        _few_rows_ring_kernel,
        RING | {"SWIGLU": True},
        {"cp.cg", "bar"},
    ),
    "rope_decode": (_rope_decode_kernel, ROTATION, {"ld.cg", "prefetch"}),
    "rope_decode_whole": (_rope_decode_kernel, ROTATION | {"SPLITS": 1}, {"ld.cg", "prefetch"}),
    "rope_decode_ahead": (_rope_decode_kernel, ROTATION | AHEAD, {"ld.cg"}),
    "flash_decode": (_flash_decode_kernel, ATTENTION, set()),
    "greedy_token": (_greedy_token_kernel, CHOICE, set()),
    "push_all_reduce": (_push_all_reduce_kernel, PUSH, {"ld"}),
    "int8_swiglu": (_integer_gemv_kernel, INT8, {"ld.evict_first"}),
    "int4_swiglu": (_integer_gemv_kernel, PACKED | {"FORMAT": "int4"}, {"ld.evict_first", "ld"}),
    "nf4_swiglu": (_nf4_gemv_kernel, NF4, {"ld.evict_first", "ld"}),
    "fp8_swiglu": (_fp8_gemv_kernel, FP8, {"ld.evict_first", "ld"}),
}
# What stands before the wait, and how often: loads of scales, and of nf4 their mean; copies of three
# stages of weights, eight by each thread; the position and a tile of keys and values, one at a time, since
# nothing says here how they are aligned. One more would be of x.
COUNTED = {
    "int4_swiglu": ("ld", 4),
    "nf4_swiglu": ("ld", 6),
    "fp8_swiglu": ("ld", 4),
    "rope_decode_ahead": ("ld.cg", 33),
    "few_rows_ring": ("cp.cg", 24),
    "few_rows_ring_swiglu": ("cp.cg", 24),
}
SCALE_TYPES = {"int8_swiglu": "*fp32", "fp8_swiglu": "*fp32", "nf4_swiglu": "*fp8e4nv"}
COUNTS_ARRIVALS = (
    "few_rows_linear",
    "few_rows_swiglu",
    "few_rows_ring",
    "few_rows_ring_swiglu",
    "rope_decode",
    "rope_decode_ahead",
    "flash_decode",
    "greedy_token",
)
_MEMORY = re.compile(
    r"(griddepcontrol\.wait|bar\.sync|prefetch|atom\S*acq_rel|(?:cp\.async|ld|st|red|atom)\S*\.global\S*)"
)


def operations(name: str) -> list[str]:
    """Of the kernel, in order: wait, bar, prefetch, count, st, and ld with how it caches."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.experimental.gluon._runtime import GluonASTSource

    kernel, constants, _ = EARLY[name]
    constants = constants | {"PROGRAMMATIC": True}
    signature = {
        argument: "constexpr" if argument in constants else _type_of(argument, name)
        for argument in kernel.arg_names
    }
    if kernel.is_gluon():  # whose copies must be of 16 bytes
        pointers = [n for n, name in enumerate(kernel.arg_names) if name.endswith("_ptr")]
        aligned = {(number,): [["tt.divisibility", 16]] for number in pointers}
        source = GluonASTSource(kernel, signature, constants, aligned)
    else:
        source = ASTSource(kernel, signature, constants)
    options = {"num_warps": 4, "num_stages": 2}
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    return [_short(found) for found in _MEMORY.findall(compiled.asm["ptx"])]


def _type_of(argument: str, name: str) -> str:
    if argument == "scales_ptr" and name in SCALE_TYPES:
        return SCALE_TYPES[name]
    return POINTERS.get(argument, "*bf16" if argument.endswith("_ptr") else "i32")


def _short(operation: str) -> str:
    if operation.startswith("griddepcontrol"):
        return "wait"
    if operation.startswith("atom"):
        return "count" if "acq_rel" in operation and ".gpu." in operation else "atom"
    caching = re.search(r"\.cg|evict_first|relaxed\.sys\.global\.b64", operation)
    how = f".{caching.group().strip('.')}" if caching else ""
    return "bar" if operation == "bar.sync" else re.split(r"\.", operation)[0] + how


@pytest.mark.parametrize("name", list(EARLY))
def test_nothing_that_another_kernel_writes_is_touched_before_the_wait(name):
    done = operations(name)
    assert done.count("wait") == 1
    before = set(done[: done.index("wait")])
    assert before == EARLY[name][2]
    if name in COUNTED:
        operation, count = COUNTED[name]
        assert done[: done.index("wait")].count(operation) == count


@pytest.mark.parametrize("name", COUNTS_ARRIVALS)
def test_what_others_left_is_read_behind_the_counter(name):
    done = operations(name)
    assert done.count("count") == 1
    assert "atom" not in done
    counted = done.index("count")
    assert done[counted - 1] == "bar", "stores of other threads may come after the count"
    assert done[counted + 1 : counted + 3] == ["bar", "st"], "the counter is not cleared at once"
    loads = [operation for operation in done[counted:] if operation.startswith("ld")]
    assert loads
    assert set(loads) == {"ld.cg"}


def test_ranks_send_before_they_wait_and_count_a_call_when_all_is_there():
    done = operations("push_all_reduce")
    words = 512 // (4 * 32)  # of a thread
    remote = {name: f"{name}.relaxed.sys.global.b64" for name in ("st", "ld")}
    assert [done.count(operation) for operation in remote.values()] == [2 * words, 2 * words]
    last_sent = len(done) - 1 - done[::-1].index(remote["st"])
    waits = done.index(remote["ld"])
    assert done.index("wait") < done.index("ld.cg") < done.index(remote["st"])
    assert last_sent < waits
    # The next call may begin as soon as this one is counted, by a single thread, behind all others.
    assert done[-2:] == ["bar", "st"]
    assert "st" not in done[:waits]
