"""What a GGUF file says of itself: settings, and where which tensor lies. No torch, no package.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. A file from elsewhere may be
cut off or garbled, so each length is held against what is left of the file before it is used; an
array of a hundred thousand tokens is passed over, not turned into objects.
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_ALIGNMENT = 32  # of the tensors' values, where general.alignment does not say otherwise
_MOST_DIMENSIONS = 4
_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9


class GgufError(ValueError):
    """What is wrong with a file; the message goes on after its name: "is truncated"."""


@dataclass(frozen=True)
class TensorType:
    """name: GGML's. Values are stored in blocks of `block` values in `block_bytes` bytes."""

    name: str
    block: int
    block_bytes: int


# By GGML's number of the type; sizes of those that dequantize.py knows, of the others the name only.
READABLE = {
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2),
    2: TensorType("Q4_0", 32, 18),
    8: TensorType("Q8_0", 32, 34),
    12: TensorType("Q4_K", 256, 144),
    13: TensorType("Q5_K", 256, 176),  # of files named Q4_K_S some layers'
    14: TensorType("Q6_K", 256, 210),  # of files named Q4_0 or Q4_K the head's
    30: TensorType("BF16", 1, 2),
}
# fmt: off
_OTHERS = {
    3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K",
    15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL",
    21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64",
    29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}
# fmt: on


@dataclass(frozen=True)
class StoredTensor:
    """shape: as torch has it, [rows, columns]; offset: of its values in the file, in bytes."""

    name: str
    type_number: int
    shape: tuple[int, ...]
    offset: int

    @property
    def type_name(self) -> str:
        known = READABLE.get(self.type_number)
        return known.name if known else _OTHERS.get(self.type_number, f"type {self.type_number}")

    @property
    def type(self) -> TensorType:
        """
        Raises:
            GgufError: it is none that can be read here.
        """
        if self.type_number not in READABLE:
            valid = ", ".join(sorted(known.name for known in READABLE.values()))
            raise GgufError(
                f"holds {self.name} as {self.type_name}, which is not supported, only {valid}"
            )
        return READABLE[self.type_number]

    @property
    def num_bytes(self) -> int:
        """
        Raises:
            GgufError: it is stored in blocks, and a row is no whole number of them.
        """
        if self.shape[-1] % self.type.block:
            raise GgufError(
                f"is damaged: {self.name} has rows of {self.shape[-1]} values, in blocks of "
                f"{self.type.block}"
            )
        num_values = 1
        for size in self.shape:
            num_values *= size
        return num_values // self.type.block * self.type.block_bytes


@dataclass(frozen=True)
class GgufFile:
    """settings: numbers, texts and truth values by name; of an array its length, as an `Array`."""

    path: Path
    settings: dict[str, object]
    tensors: dict[str, StoredTensor]

    def check(self) -> None:
        """
        Raises:
            GgufError: a tensor's type can't be read here, or the file ends before its values do.
        """
        num_bytes = self.path.stat().st_size
        for tensor in self.tensors.values():
            if tensor.offset + tensor.num_bytes > num_bytes:
                raise GgufError(
                    f"ends before the values of {tensor.name}, after {num_bytes} bytes: truncated"
                )

    def fp32_values(self, name: str) -> list[float]:
        """A short tensor's values.

        Raises:
            GgufError: it is of another type, or not there to its end.
        """
        tensor = self.tensors[name]
        if tensor.type_name != "F32":
            raise GgufError(f"holds {name} as {tensor.type_name}, which is not supported, only F32")
        with self.path.open("rb") as file:
            file.seek(tensor.offset)
            content = file.read(tensor.num_bytes)
        if len(content) < tensor.num_bytes:
            raise GgufError(f"ends before the values of {name}: truncated")
        return [value for (value,) in struct.iter_unpack("<f", content)]


@dataclass(frozen=True)
class Array:
    """An array of the file's settings; what it holds is not kept."""

    length: int


def is_gguf(path: Path) -> bool:
    """By its first four bytes, whatever it is called."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_gguf(path: Path) -> GgufFile:
    """
    Raises:
        GgufError: the file is damaged, or of a version that is not known.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            raise GgufError("is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                return _read(path, _Cursor(content))
            except UnicodeDecodeError:
                raise GgufError("is damaged: a name in it is no text") from None


def _read(path: Path, cursor: "_Cursor") -> GgufFile:
    if cursor.take(len(MAGIC)) != MAGIC:
        raise GgufError("is no GGUF file: it does not begin with GGUF")
    version = cursor.number("I")
    if version not in _VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        variant = f"version {version}" if swapped not in _VERSIONS else "for big-endian machines"
        raise GgufError(f"is a GGUF file {variant}: only versions 2 and 3 are supported")
    num_tensors, num_settings = cursor.number("Q"), cursor.number("Q")
    settings: dict[str, object] = {}
    for _ in range(num_settings):
        name = cursor.text()
        settings[name] = cursor.value(cursor.number("I"))
    described = [_describe(cursor) for _ in range(num_tensors)]
    alignment = settings.get("general.alignment", _ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise GgufError(f"has general.alignment {alignment}, which is no power of two")
    start = -(-cursor.position // alignment) * alignment
    tensors = {
        name: StoredTensor(name, number, shape, start + offset)
        for name, number, shape, offset in described
    }
    if len(tensors) < num_tensors:
        raise GgufError("is damaged: two of its tensors have one name")
    return GgufFile(path, settings, tensors)


def _describe(cursor: "_Cursor") -> tuple[str, int, tuple[int, ...], int]:
    name, num_dimensions = cursor.text(), cursor.number("I")
    if not 1 <= num_dimensions <= _MOST_DIMENSIONS:
        raise GgufError(f"is damaged: {name} has {num_dimensions} dimensions")
    shape = tuple(cursor.number("Q") for _ in range(num_dimensions))[::-1]  # columns come first
    if any(size == 0 for size in shape):
        raise GgufError(f"is damaged: {name} has the shape {shape}")
    return name, cursor.number("I"), shape, cursor.number("Q")


class _Cursor:
    """Reads little-endian values one after the other, never beyond the file's end."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self.position = 0

    def take(self, num_bytes: int) -> bytes:
        self._check(num_bytes)
        taken = self._content[self.position : self.position + num_bytes]
        self.position += num_bytes
        return taken

    def _check(self, num_bytes: int) -> None:
        if num_bytes > len(self._content) - self.position:
            raise GgufError(
                f"ends within its header, after {len(self._content)} bytes: truncated or damaged"
            )

    def number(self, code: str):
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]

    def text(self) -> str:
        return self.take(self.number("Q")).decode()

    def value(self, type_number: int) -> object:
        if type_number == _STRING:
            return self.text()
        if type_number == _ARRAY:
            return self._pass_array()
        if type_number not in _SCALARS:
            raise GgufError(f"holds a setting of type {type_number}, which is none: damaged")
        value = self.number(_SCALARS[type_number])
        return _shortest(value) if _SCALARS[type_number] == "f" else value

    def _pass_array(self) -> Array:
        type_number, length = self.number("I"), self.number("Q")
        if type_number == _STRING:
            for _ in range(length):
                num_bytes = self.number("Q")
                self._check(num_bytes)
                self.position += num_bytes
        elif type_number in _SCALARS:
            num_bytes = length * struct.calcsize(f"<{_SCALARS[type_number]}")
            self._check(num_bytes)
            self.position += num_bytes
        else:
            raise GgufError(
                f"holds an array of values of type {type_number}, which is not supported"
            )
        return Array(length)


def _shortest(value: float) -> float:
    """The shortest number that fp32 stores as this one: 1e-05, not 9.999999747378752e-06."""
    candidates = (float(f"{value:.{digits}g}") for digits in (6, 7, 8))
    return next((short for short in candidates if _fp32(short) == _fp32(value)), value)


def _fp32(value: float) -> bytes:
    try:
        return struct.pack("<f", value)
    except OverflowError:  # rounded to more than fp32 holds
        return b""
