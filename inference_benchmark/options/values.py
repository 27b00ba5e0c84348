"""What a flag's text may be: numbers within bounds, rates with units. Imports no torch.

Each function raises argparse.ArgumentTypeError, or ValueError where the text is no number at all;
argparse then names the type by the function's name.
"""

import argparse
import re
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import urlsplit

from inference_benchmark.model.weight_format import QUANTIZED

_LARGEST = 2**31 - 1  # larger counts fit neither a GPU nor the 32-bit indices of its kernels
_SEEDS = 2**32  # each run's own seed, a multiple, has to fit a generator of torch
_LONGEST = 100  # characters of a number; Python itself refuses to convert some thousands
_TERA = 1e12
_PREFIXES = {"k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "p": 1e15}
_RATE = re.compile(r"([0-9.]+(?:e[+-]?[0-9]+)?)\s*(?:([kmgtp])?([a-z/]+))?", re.IGNORECASE)


def whole_number(least: int, most: int = _LARGEST) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if len(text) > _LONGEST:
            raise argparse.ArgumentTypeError(f"'{_short(text)}' is no number")
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be {least} or more, not {_short(text)}")
        if value > most:
            raise argparse.ArgumentTypeError(f"must be {most} or less, not {_short(text)}")
        return value

    parse.__name__ = "whole number"
    return parse


def number(most: float, instead_of_0: str = "") -> Callable[[str], float]:
    """Over 0 and at most `most`; instead_of_0: what serves whoever wants 0."""

    def parse(text: str) -> float:
        value = float(text)
        if not value > 0:
            hint = f"; {instead_of_0}" if value == 0 and instead_of_0 else ""
            raise argparse.ArgumentTypeError(f"must be over 0, not {text}{hint}")
        if value > most:
            raise argparse.ArgumentTypeError(f"must be {most:g} or less, not {_short(text)}")
        return value

    parse.__name__ = "number"
    return parse


def rate(unit: str, names: tuple[str, ...], least: float, most: float) -> Callable[[str], float]:
    """A number with or without its unit, into units per second; without one it is in tera.

    unit: as it is printed, "B/s"; names: what users write for it, in lower case.
    least, most: in tera units; no GPU lies outside.
    """

    def parse(text: str) -> float:
        match = _RATE.fullmatch(text.strip())
        value = _value(match, names) if match else None
        if value is None:
            raise argparse.ArgumentTypeError(
                f"'{_short(text)}' is no rate such as {most / 10:g}, {most / 10:g}T{unit} "
                f"or {most * 100:g}G{unit}"
            )
        if not least * _TERA <= value <= most * _TERA:
            text = _short(text.strip())
            shown = text if match[3] else f"{text} T{unit}"
            is_giga = not match[3] and least * 1e3 <= value / _TERA <= most * 1e3
            hint = f"; with its unit it would be {text}G{unit}, for example" if is_giga else ""
            raise argparse.ArgumentTypeError(
                f"no GPU has {shown}: it must be {least:g} to {most:g} T{unit}{hint}"
            )
        return value

    return parse


def _value(match: re.Match, names: tuple[str, ...]) -> float | None:
    digits, prefix, name = match.groups()
    if name is not None and (prefix is None or name.lower() not in names):
        return None
    try:
        return float(digits) * (_PREFIXES[prefix.lower()] if prefix else _TERA)
    except ValueError:
        return None


def path(text: str) -> Path:
    """A shell variable that is not set must not mean the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("is empty")
    return Path(text)


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:30]}... ({len(text)} characters)"


# Names of types that are no format of --quantize here, with the reason.
_ELSEWHERE = {
    "float16": "is a base type: --precision fp16",
    "fp16": "is a base type: --precision fp16",
    "bfloat16": "is a base type: --precision bf16",
    "bf16": "is a base type: none keeps the weights in --precision",
    "mxfp8": "needs block-scaled matrix units, of GPUs from Blackwell on: fp8 has a scale per row",
    "nvfp4": "needs block-scaled matrix units, of GPUs from Blackwell on: nf4 and int4 have 4 bits",
}


def weight_format(text: str) -> str:
    """A name of --quantize."""
    if text == "none" or text in QUANTIZED:
        return text
    if text in _ELSEWHERE:
        raise argparse.ArgumentTypeError(f"{text} {_ELSEWHERE[text]}")
    valid = ["none", *QUANTIZED]
    near = get_close_matches(text, valid, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise argparse.ArgumentTypeError(
        f"unknown format '{_short(text)}'{hint} (valid: {', '.join(valid)})"
    )


nats = number(1e3)

SWEEP = "sweep"


def batch_size(text: str) -> int | str:
    """A number of sequences, or "sweep"."""
    return SWEEP if text == SWEEP else positive_int(text)


batch_size.__name__ = "whole number"


def engine_python(text: str) -> tuple[str, str]:
    """(engine, path) of ENGINE=PATH."""
    name, separator, path = text.partition("=")
    if not (name and separator and path):
        raise argparse.ArgumentTypeError(f"'{_short(text)}' is not ENGINE=PATH")
    return name, path


def url(text: str) -> str:
    """http://HOST[:PORT], or https."""
    try:
        parts = urlsplit(text)
        is_one = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        is_one = is_one and parts.username is None  # it stands in the result file
    except ValueError:  # the port is no number
        is_one = False
    if not is_one:
        raise argparse.ArgumentTypeError(f"'{_short(text)}' is not http://HOST:PORT")
    return text.rstrip("/")


positive_int = whole_number(1)
natural = whole_number(0)
seed = whole_number(0, _SEEDS - 1)
share = number(1.0)
seconds = number(3.2e7)  # a year
price = number(1e6)
temperature = number(1e3, "--sampling greedy takes the most likely token")
bandwidth = rate("B/s", ("b/s", "bps", "bytes/s"), 0.01, 100)
peak = rate("FLOP/s", ("flop/s", "flops", "flops/s"), 0.01, 100_000)
