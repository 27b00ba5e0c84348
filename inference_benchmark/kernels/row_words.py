"""How kernels for one row load packed words, 16 bytes for each thread, and what belongs to their blocks."""

from __future__ import annotations

from inference_benchmark.kernels._registration import jit, tl
from inference_benchmark.kernels.row_swiglu import matrix_rows


@jit
def first_tile(
    words_ptr, first_row, rows, blocks, out_features,
    ROW_BLOCKS: tl.constexpr, SWIGLU: tl.constexpr,
):  # fmt: skip
    """Of a program that begins at first_row, rows [0, 1, ...] of a tile: where the tile's words stand,
    [blocks, rows, 16]; the numbers of its blocks, for what they have beside words, [blocks, rows, 4];
    and the matrix's row that the tile begins at."""
    BLOCKS: tl.constexpr = blocks.numel
    ROWS: tl.constexpr = rows.numel
    start = first_row // 2 if SWIGLU else first_row
    first_blocks = (start + matrix_rows(rows, out_features, SWIGLU)) * ROW_BLOCKS
    lanes = tl.arange(0, 16)
    # In this order Triton gives neighbouring threads neighbouring words of a row.
    word_numbers = (first_blocks[None, :] + blocks[:, None])[:, :, None] * 16 + lanes[None, None, :]
    # For scales blocks beyond the row's end stand for its last one, times what is zero of x.
    numbers = first_blocks[None, :] + tl.minimum(blocks, ROW_BLOCKS - 1)[:, None]
    return words_ptr + word_numbers, tl.broadcast_to(numbers[:, :, None], (BLOCKS, ROWS, 4)), start


@jit
def inside_matrix(blocks, rows, out_features, ROW_BLOCKS: tl.constexpr, WHOLE: tl.constexpr):
    """Of blocks and rows those that the matrix has: [blocks, rows, 1], or [blocks, 1, 1] of a WHOLE one."""
    inside = (blocks < ROW_BLOCKS)[:, None, None]
    if not WHOLE:
        inside = inside & (rows < out_features)[None, :, None]
    return inside


@jit
def load_words(words_at, inside, MASKED: tl.constexpr):
    if MASKED:
        words = tl.load(words_at, mask=inside, other=0, eviction_policy="evict_first")
    else:
        words = tl.load(words_at, eviction_policy="evict_first")
    return words


@jit
def load_where_used(
    pointers, inside,
    TYPE: tl.constexpr, REGISTER: tl.constexpr, MASKED: tl.constexpr, BY_HAND: tl.constexpr,
):  # fmt: skip
    """What these point to, where MASKED zero outside; by the threads that need it: a load of Triton's would
    be spread over all of them, and then handed round in shared memory."""
    if BY_HAND:
        values = tl.load(pointers, mask=inside, other=0)
    elif MASKED:
        MOVED: tl.constexpr = "b32" if REGISTER == "r" else "b16"
        values = tl.inline_asm_elementwise(
            "{ .reg .pred p; setp.ne.b32 p, $2, 0; mov." + MOVED + " $0, 0; "
            "@p ld.global.nc." + TYPE + " $0, [$1]; }",
            "=" + REGISTER + ",l,r",
            [pointers.to(tl.int64), inside.to(tl.int32)],
            dtype=pointers.dtype.element_ty,
            is_pure=True,
            pack=1,
        )
    else:
        values = tl.inline_asm_elementwise(
            "ld.global.nc." + TYPE + " $0, [$1];",
            "=" + REGISTER + ",l",
            [pointers.to(tl.int64)],
            dtype=pointers.dtype.element_ty,
            is_pure=True,
            pack=1,
        )
    return values


@jit
def fourths(tensor, BLOCKS: tl.constexpr, ROWS: tl.constexpr):
    """[BLOCKS, ROWS, 16] -> four of [BLOCKS, ROWS, 4]: of the words that a thread loads at a time the
    first, second, third and fourth."""
    even, odd = tl.split(tl.reshape(tensor, (BLOCKS, ROWS, 4, 2, 2)))
    first, third = tl.split(even)
    second, fourth = tl.split(odd)
    return first, second, third, fourth
