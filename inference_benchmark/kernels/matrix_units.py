"""Products of matrix rows with one vector on the matrix units, straight from the registers.

Outside the matrix units each weight costs two instructions, one that widens it and one that
multiplies: at batch 1 a GPU that runs into its power limit pays for them with its clock. One
mma.m16n8k16 takes 16 x 16 weights, eight of each thread's registers as they were loaded, and 16 x 8
values of the vector. An order of the columns is as good as any other, if both sides have the same.

Each thread gives its weights of two rows and the values of the vector at the same columns. Four
threads, a quad, hold the same rows; quad q's are the rows q and q + 8 of the instruction's first
operand and column q of its second one. So of the 16 x 8 sums that come out, those of row q and column
q are the quad's own, and the others are not used. Where all quads have the same columns of the
vector, one of them may give these and the others zeros: then column 0 has all sums.
"""

from __future__ import annotations

import torch

from inference_benchmark.kernels._registration import jit, tl

# In, of each thread: $16 - $19 eight values of the vector, $20 - $23 and $24 - $27 eight weights of
# each row, $28 and on eight sums per row, of which two are used. Out: $0 - $7 and $8 - $15 the sums.
_MULTIPLY = (
    "{{ .reg .f32 s<4>; "
    "mma.sync.aligned.m16n8k16.row.col.f32.{0}.{0}.f32 "
    "{{s0, s1, s2, s3}}, {{$20, $24, $21, $25}}, {{$16, $17}}, {{$28, $29, $36, $37}}; "
    "mma.sync.aligned.m16n8k16.row.col.f32.{0}.{0}.f32 "
    "{{$0, $1, $8, $9}}, {{$22, $26, $23, $27}}, {{$18, $19}}, {{s0, s1, s2, s3}}; "
    + " ".join(f"mov.f32 ${unused}, 0f00000000;" for unused in (*range(2, 8), *range(10, 16)))
    + " }}"
)
_OPERANDS = ",".join(["=f"] * 16 + ["r"] * 12 + ["f"] * 16)
# In: $8 - $15 a row's sums. Out: $0 the quad's own one, in the thread that holds it, otherwise zero.
_CHOOSE = (
    "{ .reg .u32 quad, column; .reg .pred even, odd; .reg .f32 second; "
    "mov.u32 column, %laneid; shr.u32 quad, column, 2; and.b32 column, column, 3; "
    "shl.b32 column, column, 1; setp.eq.u32 even, quad, column; "
    "add.u32 column, column, 1; setp.eq.u32 odd, quad, column; "
    "selp.f32 second, $9, 0f00000000, odd; selp.f32 $0, $8, second, even; "
    + " ".join(f"mov.f32 ${unused}, 0f00000000;" for unused in range(1, 8))
    + " }"
)


def has_matrix_units(x: torch.Tensor) -> bool:
    """For the type of x, on a GPU that is not older than they are; the interpreter has none."""
    if x.device.type != "cuda" or x.dtype not in (torch.bfloat16, torch.float16):
        return False
    return torch.cuda.get_device_capability(x.device)[0] >= 8


def _constant(text: str):
    return text if tl is None else tl.constexpr(text)


MULTIPLY_BF16 = _constant(_MULTIPLY.format("bf16"))
MULTIPLY_FP16 = _constant(_MULTIPLY.format("f16"))
CHOOSE = _constant(_CHOOSE)
OPERANDS = _constant(_OPERANDS)
CHOICE_OPERANDS = _constant(",".join(["=f"] * 8 + ["f"] * 8))


@jit
def multiply_rows(x, first, second, first_sums, second_sums):
    """Add the products of x and the weights of two rows to their sums; tensors of one shape, whose
    last dimension has at least 32 columns: a quad's. x, first and second in bf16 or fp16."""
    tl.static_assert(x.dtype == tl.bfloat16 or x.dtype == tl.float16)
    return tl.inline_asm_elementwise(
        MULTIPLY_BF16 if x.dtype == tl.bfloat16 else MULTIPLY_FP16,
        OPERANDS,
        [x, first, second, first_sums, second_sums],
        dtype=(tl.float32, tl.float32),
        is_pure=False,
        pack=8,
    )


@jit
def own_sums(sums, ROWS: tl.constexpr, CHUNKS: tl.constexpr, COLUMNS: tl.constexpr):
    """Of sums [ROWS, CHUNKS, COLUMNS] the quads' own: [ROWS, CHUNKS, COLUMNS // 8]."""
    sums = tl.inline_asm_elementwise(
        CHOOSE, CHOICE_OPERANDS, [sums], dtype=tl.float32, is_pure=True, pack=8
    )
    return first_of_eight(sums, ROWS, CHUNKS, COLUMNS)


@jit
def first_of_eight(sums, ROWS: tl.constexpr, CHUNKS: tl.constexpr, COLUMNS: tl.constexpr):
    """[ROWS, CHUNKS, COLUMNS] -> [ROWS, CHUNKS, COLUMNS // 8]; all eight lie in one thread."""
    sums, _ = tl.split(tl.reshape(sums, (ROWS, CHUNKS, COLUMNS // 2, 2)))
    sums, _ = tl.split(tl.reshape(sums, (ROWS, CHUNKS, COLUMNS // 4, 2)))
    sums, _ = tl.split(tl.reshape(sums, (ROWS, CHUNKS, COLUMNS // 8, 2)))
    return sums
