"""Words that GPUs of one host write into each other's memory, each with the number of its call.

A fence between two GPUs, and a flag behind it, take longer than the few kilobytes of a decode step.
So each 4 bytes travel with 4 bytes of flag, in one aligned access of 8 bytes, which PTX's memory
model makes as a whole: whoever reads the number that it waits for has the data of that call,
whatever order the link delivers in, and nothing else is handed over. (The idea is that of NCCL's
protocol LL.) The accesses are relaxed, at the scope of the system: no cache keeps an old value.
"""

from __future__ import annotations

from inference_benchmark.kernels._registration import jit, tl

WORD_BYTES = 8
# Words that a thread waits for at once: their loads are in flight together.
WORDS_AT_ONCE = 4


@jit
def send(pointers, data, number, INTERPRETED: tl.constexpr):
    """Store data [n], int32, with the number of this call, where pointers [n], to int64, point."""
    if INTERPRETED:
        low = data.to(tl.uint32, bitcast=True).to(tl.int64)
        tl.store(pointers, (number.to(tl.int64) << 32) | low)
    else:
        tl.inline_asm_elementwise(
            "{ .reg .b64 word; mov.b64 word, {$2, $3}; "
            "st.relaxed.sys.global.b64 [$1], word; mov.b32 $0, 0; }",
            "=r,l,r,r",
            [pointers.to(tl.int64), data, number],
            dtype=tl.int32,
            is_pure=False,
            pack=1,
        )


@jit
def receive(pointers, number, STRIDE: tl.constexpr, SIZE: tl.constexpr, WAIT: tl.constexpr):
    """What each rank sent with this number, SIZE tensors [n] of int32; returns when all is there.

    pointers [n]: to the words of rank 0, a multiple of WORDS_AT_ONCE for each thread; those of the
    next rank are STRIDE words further on. WAIT: ptx_that_waits(STRIDE, SIZE); None: interpreted.
    """
    if WAIT is None:
        parts = ()
        for rank in tl.static_range(SIZE):
            words = tl.load(pointers + rank * STRIDE)
            while tl.sum(((words >> 32).to(tl.int32) != number).to(tl.int32), axis=0) > 0:
                words = tl.load(pointers + rank * STRIDE)
            parts = parts + (words.to(tl.int32),)
    else:
        parts = tl.inline_asm_elementwise(
            WAIT[0],
            WAIT[1],
            [pointers.to(tl.int64), number + tl.zeros(pointers.shape, dtype=tl.int32)],
            dtype=(tl.int32,) * SIZE,
            is_pure=False,
            pack=WAIT[2],
        )
    return parts


def ptx_that_waits(stride: int, size: int) -> tuple[str, str, int]:
    """For inline_asm_elementwise: the lines, their operands, and how many words they take at once.

    Operands are each rank's data, the pointers and the numbers. All words are loaded again until
    each has its number.
    """
    words = [(rank, place) for rank in range(size) for place in range(WORDS_AT_ONCE)]
    pointers, numbers = len(words), len(words) + WORDS_AT_ONCE
    loads = [
        f"ld.relaxed.sys.global.b64 word, [${pointers + place}+{rank * stride * WORD_BYTES}]; "
        f"mov.b64 {{${index}, flag{index}}}, word;"
        for index, (rank, place) in enumerate(words)
    ]
    checks = [
        f"xor.b32 flag{index}, flag{index}, ${numbers + place}; or.b32 wrong, wrong, flag{index};"
        for index, (_, place) in enumerate(words)
    ]
    lines = [
        "{",
        f".reg .b64 word; .reg .b32 wrong; .reg .b32 flag<{len(words)}>; .reg .pred again;",
        "wait:",
        *loads,
        "mov.b32 wrong, 0;",
        *checks,
        "setp.ne.b32 again, wrong, 0;",
        "@again bra wait;",
        "}",
    ]
    # &: written before the last operand is read.
    operands = ["=&r"] * len(words) + ["l"] * WORDS_AT_ONCE + ["r"] * WORDS_AT_ONCE
    return "\n".join(lines), ",".join(operands), WORDS_AT_ONCE
