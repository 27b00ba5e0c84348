"""The lines of PTX in kernels over packed weights, carried out as PTX's manual defines them.

Triton's interpreter knows no PTX: there kernels take a way of their own. Here both ways meet.
"""

from __future__ import annotations

import ast
import random
import re
from pathlib import Path

import pytest
import torch

from inference_benchmark.kernels import fixed_point, integer_dots, nf4_sums, packed_words, row_sums
from inference_benchmark.kernels.nf4_levels import (
    LEVELS,
    MEAN_ERROR,
    NUMBERS,
    UNIT,
    byte_tables,
    whole_level,
)

MASK = 0xFFFFFFFF


def asm_texts(module) -> list[str]:
    """What a file gives to inline_asm_elementwise, in its order."""
    tree = ast.parse(Path(module.__file__).read_text())
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    found = [c for c in calls if getattr(c.func, "attr", "") == "inline_asm_elementwise"]
    return [ast.literal_eval(call.args[0]) for call in sorted(found, key=lambda c: c.lineno)]


def signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def dp4a(kinds: list[str], a: int, b: int, c: int) -> int:
    total = c
    for byte in range(4):
        pair = (a >> 8 * byte & 255, b >> 8 * byte & 255)
        one, other = (signed(v, 8) if k == "s32" else v for v, k in zip(pair, kinds, strict=True))
        total += one * other
    return total


def prmt(a: int, b: int, selector: int) -> int:
    """Each of the last four hexadecimal digits of the selector names a byte of b:a by three bits; with
    the fourth one set it is the byte's sign, eight times."""
    total = 0
    for place in range(4):
        digit = selector >> 4 * place & 15
        byte = (b << 32 | a) >> 8 * (digit & 7) & 255
        total |= (byte if digit < 8 else 255 * (byte >> 7)) << 8 * place
    return total


OPERATIONS = {
    "mov": lambda a: a,
    "and": lambda a, b: a & b,
    "xor": lambda a, b: a ^ b,
    "add": lambda a, b: a + b,
    "mad": lambda a, b, c: a * b + c,
    "shr": lambda a, b: a >> b,
    "shl": lambda a, b: a << b,
    "prmt": prmt,
    "setp": lambda a, b: a != b,
    "selp": lambda a, b, predicate: a if predicate else b,
}


def carry_out(text: str, operands: list[int], lane: int = 31) -> int:
    """$0, where $1 and on are operands."""
    values = {f"${index + 1}": value for index, value in enumerate(operands)}
    values["%laneid"] = lane

    def read(name: str) -> int:
        return values[name] if name in values else int(name, 0)

    for line in filter(None, (line.strip() for line in text.strip("{} ").split(";"))):
        name, *arguments = re.split(r"[\s,]+", line)
        if name == ".reg":
            continue
        target, *sources = arguments
        operation, *kinds = name.split(".")
        given = [read(source) for source in sources]
        value = dp4a(kinds, *given) if operation == "dp4a" else OPERATIONS[operation](*given)
        values[target] = MASK & value
    return values["$0"]


@pytest.mark.parametrize("bits", [8, 4])
def test_sums_of_bytes(bits: int) -> None:
    text = asm_texts(integer_dots)[0 if bits == 8 else 1]
    generator = random.Random(bits)
    for _ in range(200):
        words = [generator.getrandbits(32) for _ in range(4)]
        less = generator.randint(-(1 << 24), 1 << 24)
        halves, expected = [], -less
        for word in words:
            x = [generator.choice((-(1 << 14), 1 << 14, generator.randint(-(1 << 14), 1 << 14)))
                 for _ in range(32 // bits)]  # fmt: skip
            parts = [x[at : at + 4] for at in range(0, len(x), 4)]
            halves.append(
                [as_bytes([v >> shift for v in part]) for part in parts for shift in (8, 0)]
            )
            stored = [word >> 8 * byte & (1 << bits) - 1 for byte in range(4)]
            if bits == 4:
                stored += [word >> 8 * byte + 4 & 15 for byte in range(4)]
            expected += sum(weight * value for weight, value in zip(stored, x, strict=True))
        operands = [half for same in zip(*halves, strict=True) for half in same]
        assert signed(carry_out(text, [*words, *operands, -less]), 32) == expected


def test_bytes_at_a_place_of_both_halves() -> None:
    text = next(text for text in asm_texts(packed_words) if "prmt" in text)
    for place in (0, 1):
        for word in (0x12345678, 0xFEDCBA98, MASK, 0x00FF00FF):
            selector = 0x4240 + 0x101 * place
            assert carry_out(text, [word, selector]) == word >> 8 * place & 0x00FF00FF


def as_bytes(values: list[int]) -> int:
    return sum((value & 255) << 8 * byte for byte, value in enumerate(values))


def test_sums_of_levels() -> None:
    """Exact; and a lane's number brings no table out of place."""
    opaque, text = asm_texts(nf4_sums)
    assert carry_out(opaque, [0x403A342D]) == 0x403A342D
    generator = random.Random(4)
    for codes in [[code] * 16 for code in range(16)] + [
        [generator.randrange(16) for _ in range(16)] for _ in range(300)
    ]:
        upper = [generator.randint(-128, 127) for _ in range(16)]
        lower = [generator.randint(-128, 127) for _ in range(16)]
        excess = generator.randint(-(1 << 24), 1 << 24)
        words = [generator.getrandbits(16) << 16 for _ in range(4)]  # the other group's
        for place, code in enumerate(codes):
            words[place // 4] |= code << 4 * (place % 4)
        x = [as_bytes(half[at : at + 4]) for half in (upper, lower) for at in range(0, 16, 4)]
        total = carry_out(text, [*words, *x, -excess, *byte_tables()])
        products = zip(map(whole_level, codes), upper, lower, strict=True)
        assert signed(total, 32) == sum(v * (256 * u + w) for v, u, w in products) - excess


def test_whole_levels() -> None:
    """How far they are off, of weights of a normal distribution in groups of 64: as nf4_levels says, and
    less than what rounding to bf16 takes. Their mean is what excess_of makes up for."""
    drawn = torch.randn(4000, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shares = drawn / drawn.abs().amax(1, keepdim=True)
    levels = torch.tensor(LEVELS, dtype=torch.float64)
    places = torch.bucketize(shares.flatten(), (levels[1:] + levels[:-1]) / 2)
    weights = levels[places]
    whole = torch.tensor([whole_level(number) for number in NUMBERS], dtype=torch.float64)
    errors = whole[places] - weights * UNIT
    assert errors.mean() == pytest.approx(MEAN_ERROR, abs=0.01)
    scale = weights.square().mean().sqrt() * UNIT
    assert (errors - MEAN_ERROR).square().mean().sqrt() / scale < 0.00105
    scales = drawn.abs().amax(1).repeat_interleave(64)
    rounded = (weights * scales).bfloat16().double() / scales - weights
    assert rounded.square().mean().sqrt() * UNIT / scale > 0.0016


def test_bytes_of_x() -> None:
    """Of numbers of 16 bits with a sign, both bytes of four at once; and sums of such bytes."""
    permute, add_up = asm_texts(fixed_point)
    generator = random.Random(5)
    for _ in range(100):
        a, b, c, d = (generator.getrandbits(32) for _ in range(4))
        ab, cd = carry_out(permute, [a, b, 0x5410]), carry_out(permute, [c, d, 0x5410])
        for selector, shift in ((0x7531, 8), (0x6420, 0)):
            packed = carry_out(permute, [ab, cd, selector])
            assert packed == as_bytes([value >> shift for value in (a, b, c, d)])
            total = generator.randint(-1000, 1000)
            expected = total + sum(signed(value >> shift & 255, 8) for value in (a, b, c, d))
            assert signed(carry_out(add_up, [packed, total]), 32) == expected


def test_four_lanes_have_a_row_each() -> None:
    """After two exchanges, of the four parts of four rows that each had; numbers stand for parts."""
    text = asm_texts(row_sums)[0]
    before, after = text.split("shfl")
    assert after == ".sync.bfly.b32 s, s, $3, 0x1f, 0xffffffff; add.f32 $0, k, s; }"

    def exchange(even: list[int], odd: list[int], bit: int) -> list[int]:
        def register(name: str, lane: int) -> int:
            return carry_out(f"{before} mov.b32 $0, {name}; }}", [even[lane], odd[lane], bit], lane)

        return [register("k", lane) + register("s", lane ^ bit) for lane in range(4)]

    parts = [[10**row * (lane + 1) for lane in range(4)] for row in range(4)]
    pairs = exchange(parts[0], parts[1], 1), exchange(parts[2], parts[3], 1)
    assert exchange(*pairs, 2) == [10 * 10**row for row in range(4)]
