"""What the programs of few_rows_ring.py do with a step, and with a block of outputs at its end.

In Gluon, Triton's language of layouts and memory by hand, which not every Triton has.
"""

from __future__ import annotations

try:
    from triton.experimental import gluon
    from triton.experimental.gluon import language as gl
    from triton.experimental.gluon.language.nvidia.ampere import async_copy
    from triton.experimental.gluon.language.nvidia.hopper import (
        fence_async_shared,
        warpgroup_mma,
        warpgroup_mma_wait,
    )
except ImportError:
    gluon = gl = async_copy = fence_async_shared = warpgroup_mma = warpgroup_mma_wait = None

__all__ = [
    "async_copy",
    "copy_weights",
    "copy_x",
    "fill_ring",
    "finish_block",
    "gl",
    "gluon_jit",
    "launch_dependents",
    "multiply_stage",
    "wait_for_predecessor",
]


def gluon_jit(function):
    """`gluon.jit`, or the untouched function where there is no Gluon, so that files import."""
    return function if gluon is None else gluon.jit(function)


@gluon_jit
def wait_for_predecessor():
    gl.inline_asm_elementwise(
        "griddepcontrol.wait; mov.u32 $0, 0;", "=r", [], dtype=gl.int32, is_pure=False, pack=1
    )


@gluon_jit
def launch_dependents():
    gl.inline_asm_elementwise(
        "griddepcontrol.launch_dependents; mov.u32 $0, 0;",
        "=r",
        [],
        dtype=gl.int32,
        is_pure=False,
        pack=1,
    )


@gluon_jit
def _matrix_rows(
    block, out_features, OUTPUTS: gl.constexpr, SWIGLU: gl.constexpr, THREADS: gl.constexpr
):
    """As few_rows_linear's: with SWIGLU eight of gate and eight of up in turn."""
    numbers = gl.arange(0, OUTPUTS, layout=THREADS)
    if SWIGLU:
        outputs = block * (OUTPUTS // 2) + numbers // 16 * 8 + numbers % 8
        return gl.minimum(outputs, out_features - 1) + numbers // 8 % 2 * out_features
    return gl.minimum(block * OUTPUTS + numbers, out_features - 1)


@gluon_jit
def copy_weights(
    weight_ptr, stage, step, end, out_features,
    IN_FEATURES: gl.constexpr, OUTPUTS: gl.constexpr, COLUMNS: gl.constexpr,
    SWIGLU: gl.constexpr, THREADS: gl.constexpr,
):  # fmt: skip
    """A step's rows of the matrix into a stage; zeros beyond the last column and the share's end."""
    STEPS: gl.constexpr = (IN_FEATURES + COLUMNS - 1) // COLUMNS
    rows = _matrix_rows(step // STEPS, out_features, OUTPUTS, SWIGLU, gl.SliceLayout(1, THREADS))
    columns = step % STEPS * COLUMNS + gl.arange(0, COLUMNS, layout=gl.SliceLayout(0, THREADS))
    inside = ((columns < IN_FEATURES) & (step < end))[None, :]
    at = weight_ptr + (rows.to(gl.int64)[:, None] * IN_FEATURES + columns[None, :])
    async_copy.async_copy_global_to_shared(stage, at, inside)


@gluon_jit
def copy_x(
    x_ptr, stage, step, end, num_rows,
    IN_FEATURES: gl.constexpr, X_ROWS: gl.constexpr, COLUMNS: gl.constexpr, THREADS: gl.constexpr,
):  # fmt: skip
    """What the same step needs of x; zeros beyond its rows and columns."""
    STEPS: gl.constexpr = (IN_FEATURES + COLUMNS - 1) // COLUMNS
    rows = gl.arange(0, X_ROWS, layout=gl.SliceLayout(1, THREADS))[:, None]
    columns = step % STEPS * COLUMNS + gl.arange(0, COLUMNS, layout=gl.SliceLayout(0, THREADS))
    inside = (rows < num_rows) & ((columns < IN_FEATURES) & (step < end))[None, :]
    at = x_ptr + (rows * IN_FEATURES + columns[None, :])
    async_copy.async_copy_global_to_shared(stage, at, inside)


@gluon_jit
def fill_ring(
    weight_ptr, ring, begin, end, out_features,
    IN_FEATURES: gl.constexpr, OUTPUTS: gl.constexpr, COLUMNS: gl.constexpr, STAGES: gl.constexpr,
    SWIGLU: gl.constexpr, THREADS: gl.constexpr,
):  # fmt: skip
    """The weights of a share's first steps, on their way."""
    for stage in gl.static_range(STAGES):
        copy_weights(
            weight_ptr, ring.index(stage), begin + stage, end, out_features,
            IN_FEATURES, OUTPUTS, COLUMNS, SWIGLU, THREADS,
        )  # fmt: skip
        async_copy.commit_group()


@gluon_jit
def multiply_stage(w, x, total, STAGES: gl.constexpr):
    """Add the product of the oldest stage, which may be written again then."""
    async_copy.wait_group(STAGES - 1)  # of this step have come, by this thread
    fence_async_shared()
    gl.thread_barrier()
    total = warpgroup_mma(w, x.permute((1, 0)), total, is_async=True)
    total = warpgroup_mma_wait(0, deps=(total,))
    gl.thread_barrier()  # no warp reads the stage any more
    return total


@gluon_jit
def _parts(block, all_steps, STEPS: gl.constexpr):
    """Of a block the first program and how many share it."""
    programs = gl.num_programs(0)
    first = ((block * STEPS + 1) * programs - 1) // all_steps
    return first, ((block + 1) * STEPS * programs - 1) // all_steps - first + 1


@gluon_jit
def _is_last(arrivals_ptr, count):
    """As arrivals.is_last."""
    gl.thread_barrier()
    arrived = gl.atomic_add(arrivals_ptr, 1, sem="acq_rel", scope="gpu")
    if arrived == count - 1:
        gl.store(arrivals_ptr, 0)
    return arrived == count - 1


@gluon_jit
def _sum_of_parts(first_ptr, count, PARTS: gl.constexpr, SIZE: gl.constexpr):
    # .cg: other multiprocessors wrote these; read them where they meet, in L2.
    total = gl.load(first_ptr, cache_modifier=".cg")
    for part in gl.static_range(1, PARTS):
        inside = gl.full(first_ptr.shape, part, gl.int32, first_ptr.type.layout) < count
        at = first_ptr + part * SIZE
        total += gl.load(at, mask=inside, other=0.0, cache_modifier=".cg")
    return total


@gluon_jit
def _store_results(
    out_ptr, total, block, out_features, num_rows,
    OUTPUTS: gl.constexpr, SWIGLU: gl.constexpr, NUM_WARPS: gl.constexpr,
):  # fmt: skip
    X_ROWS: gl.constexpr = total.shape[1]
    RESULTS: gl.constexpr = OUTPUTS // 2 if SWIGLU else OUTPUTS
    # Eight results of a row for a thread, 32 or 64 of them for a warp.
    LANES: gl.constexpr = 4 if RESULTS < 64 else 8
    WARPS: gl.constexpr = RESULTS // (8 * LANES)
    THREADS: gl.constexpr = gl.BlockedLayout(
        [8, 1], [LANES, 32 // LANES], [WARPS, NUM_WARPS // WARPS], [0, 1]
    )
    values = total
    if SWIGLU:
        halves = gl.reshape(total, (OUTPUTS // 16, 2, 8, X_ROWS))
        gate, up = gl.split(gl.permute(halves, (0, 2, 3, 1)))
        values = gl.reshape(gate / (1.0 + gl.exp(-gate)) * up, (RESULTS, X_ROWS))
    values = gl.convert_layout(values.to(out_ptr.dtype.element_ty), THREADS)
    outputs = block * RESULTS + gl.arange(0, RESULTS, layout=gl.SliceLayout(1, THREADS))[:, None]
    x_rows = gl.arange(0, X_ROWS, layout=gl.SliceLayout(0, THREADS))[None, :]
    inside = (outputs < out_features) & (x_rows < num_rows)
    gl.store(out_ptr + x_rows.to(gl.int64) * out_features + outputs, values, mask=inside)


@gluon_jit
def finish_block(
    out_ptr, partial_ptr, arrivals_ptr, total, block, all_steps, out_features, num_rows,
    STEPS: gl.constexpr, PARTS: gl.constexpr, SWIGLU: gl.constexpr,
    SUMS: gl.constexpr, NUM_WARPS: gl.constexpr,
):  # fmt: skip
    """A program's sums of a block: leave them to the last of those who share it, or store results."""
    OUTPUTS: gl.constexpr = total.shape[0]
    X_ROWS: gl.constexpr = total.shape[1]
    SIZE: gl.constexpr = OUTPUTS * X_ROWS
    first, count = _parts(block, all_steps, STEPS)
    finishes = count == 1
    if PARTS > 1 and count > 1:
        rows = gl.arange(0, OUTPUTS, layout=gl.SliceLayout(1, SUMS))[:, None]
        tile = rows * X_ROWS + gl.arange(0, X_ROWS, layout=gl.SliceLayout(0, SUMS))[None, :]
        parts = partial_ptr + block.to(gl.int64) * (PARTS * SIZE) + tile
        gl.store(parts + (gl.program_id(0) - first) * SIZE, total)
        finishes = _is_last(arrivals_ptr + block, count)
        if finishes:
            total = _sum_of_parts(parts, count, PARTS, SIZE)
    if finishes:
        _store_results(out_ptr, total, block, out_features, num_rows, OUTPUTS, SWIGLU, NUM_WARPS)
