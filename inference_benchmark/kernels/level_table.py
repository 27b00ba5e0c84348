"""nf4's levels two at a time, from a table in shared memory.

The two weights of a pair are one byte of a word, so that a table of 256 pairs of bf16 answers for
both with one load: half the work of looking up each. Threads of a warp ask for different pairs at
once, and shared memory answers at full speed only where all its banks are asked alike; so each lane
has a table of its own in the bank of its number, 32 KB in all.

Triton has no name for such a table: its memory is declared and addressed by a few lines of PTX. Once
in a kernel: it would be declared twice. A kernel's other shared memory must be under 16 KB or over
48 KB, for only then is it launched with enough for both.
"""

from __future__ import annotations

from inference_benchmark.kernels._registration import jit, tl


@jit
def fill_level_table(levels_ptr, scalar):
    """Fill the table from 16 levels in fp32. scalar: any, it is not read."""
    pair = tl.arange(0, 256)
    low = tl.load(levels_ptr + pair % 16).to(tl.bfloat16).to(tl.uint16, bitcast=True)
    high = tl.load(levels_ptr + pair // 16).to(tl.bfloat16).to(tl.uint16, bitcast=True)
    both = low.to(tl.uint32) | (high.to(tl.uint32) << 16)
    base = tl.inline_asm_elementwise(
        ".shared .align 128 .b8 level_pairs[32768]; mov.u32 $0, level_pairs;",
        "=r,r",
        [scalar],
        dtype=tl.uint32,
        is_pure=False,
        pack=1,
    )
    for part in tl.static_range(8):  # of 16 bytes: four lanes' copies; no two threads in one bank
        at = base + (pair * 128 + (part + pair) % 8 * 16).to(tl.uint32)
        tl.inline_asm_elementwise(
            "st.shared.v4.b32 [$1], {$2, $2, $2, $2}; mov.u32 $0, 0;",
            "=r,r,r",
            [at, both],
            dtype=tl.uint32,
            is_pure=False,
            pack=1,
        )
    tl.debug_barrier()


@jit
def table_pairs(words, PLACE: tl.constexpr):
    """The pairs of levels of the bytes at PLACE of the words, which were loaded after the table was
    filled: bf16 in both halves."""
    # Everything in one instruction of Triton's, which can then be done wherever words are.
    return tl.inline_asm_elementwise(
        "{ .reg .u32 a, l; mov.u32 l, %laneid; shl.b32 l, l, 2; mov.u32 a, level_pairs; "
        "add.u32 l, l, a; prmt.b32 a, $1, 0, $2; mad.lo.u32 a, a, 128, l; ld.shared.b32 $0, [a]; }",
        "=r,r,r",
        [words, tl.full((1, 1, 1), 0x4440 + PLACE, dtype=tl.uint32)],
        dtype=tl.uint32,
        is_pure=True,
        pack=1,
    )
