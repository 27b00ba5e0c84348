"""The lines of PTX in kernels over packed weights, carried out as PTX's manual defines them.

Triton's interpreter knows no PTX: there kernels take a way of their own. Here both ways meet.
"""

from __future__ import annotations

import ast
import random
import re
from pathlib import Path

import pytest

from inference_benchmark.kernels import integer_gemv, packed_words

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
    """Each of the last four hexadecimal digits of the selector, 0 to 7, names a byte of b:a."""
    stored = b << 32 | a
    return sum((stored >> 8 * (selector >> 4 * i & 7) & 255) << 8 * i for i in range(4))


def carry_out(text: str, operands: list[int]) -> int:
    """$0, where $1 and on are operands."""
    values = {f"${index + 1}": value for index, value in enumerate(operands)}

    def read(name: str) -> int:
        return values[name] if name in values else int(name, 0)

    for line in filter(None, (line.strip() for line in text.strip("{} ").split(";"))):
        name, *arguments = re.split(r"[\s,]+", line)
        if name == ".reg":
            continue
        target, *sources = arguments
        operation, *kinds = name.split(".")
        given = [read(source) for source in sources]
        values[target] = MASK & {
            "and": lambda a, b: a & b,
            "shr": lambda a, b: a >> b,
            "shl": lambda a, b: a << b,
            "dp4a": lambda a, b, c, kinds=kinds: dp4a(kinds, a, b, c),
            "prmt": prmt,
        }[operation](*given)
    return values["$0"]


@pytest.mark.parametrize("bits", [8, 4])
def test_sums_of_bytes(bits: int) -> None:
    text = asm_texts(integer_gemv)[0 if bits == 8 else 1]
    assert "dp4a" in text
    generator = random.Random(bits)
    for _ in range(500):
        word = generator.getrandbits(32)
        x = [generator.choice((-(1 << 14), 1 << 14, generator.randint(-(1 << 14), 1 << 14)))
             for _ in range(32 // bits)]  # fmt: skip
        parts = [x[i : i + 4] for i in range(0, len(x), 4)]
        halves = [
            sum((value >> shift & 255) << 8 * byte for byte, value in enumerate(part))
            for part in parts
            for shift in (8, 0)
        ]
        stored = [word >> 8 * byte & (1 << bits) - 1 for byte in range(4)]
        if bits == 4:
            stored += [word >> 8 * byte + 4 & 15 for byte in range(4)]
        expected = sum(weight * value for weight, value in zip(stored, x, strict=True))
        assert signed(carry_out(text, [word, *halves]), 32) == expected


def test_bytes_at_a_place_of_both_halves() -> None:
    text = next(text for text in asm_texts(packed_words) if "prmt" in text)
    for place in (0, 1):
        for word in (0x12345678, 0xFEDCBA98, MASK, 0x00FF00FF):
            assert carry_out(text, [word, 0x4240 + 0x101 * place]) == word >> 8 * place & 0x00FF00FF
