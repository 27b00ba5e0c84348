"""Writing a session's result file: created under a name that is free, rewritten after each round.

Every version on disk is whole, because it replaces the one before in one step: kill -9 loses at most
the round it fell into. Step times are most of the file, and those of a run never change, so their
text is kept from one save to the next.
"""

import json
import math
import os
import re
import secrets
from itertools import count
from pathlib import Path
from typing import Any

from inference_benchmark.reporting.labels import variant
from inference_benchmark.reporting.version_1 import GENERATION

_LONGEST_NAME = 200  # file systems take 255 bytes, of which a temporary file needs some
_LONG_LIST = 16


class ResultFile:
    """One session's file, at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._texts = _ListTexts()

    def save(self, result: dict, last: bool = False) -> None:
        """Replace the file in one step; the last time what was written reaches the disk as well.

        Raises:
            OSError: the disk is full, the directory is gone.
        """
        temporary = _write_temporary(self.path, self._texts.encode(result), last)
        try:
            os.replace(temporary, self.path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def open_result(path: Path, result: dict, overwrite: bool = False) -> ResultFile:
    """Create the file with its first content; what is there is replaced with `overwrite` only.

    Raises:
        FileExistsError: it is there already.
        OSError: it can't be written.
    """
    file = ResultFile(Path(os.path.realpath(path)))
    if overwrite:
        file.save(result)
        return file
    temporary = _write_temporary(file.path, _ListTexts().encode(result), last=False)
    try:
        _publish(temporary, file.path)
    finally:
        temporary.unlink(missing_ok=True)
    return file


def open_numbered(directory: Path, name: str, result: dict) -> ResultFile:
    """Create name.json, or name-2.json where that is taken, and so on.

    Raises:
        OSError: it can't be written.
    """
    for number in count(1):
        suffix = "" if number == 1 else f"-{number}"
        try:
            return open_result(directory / f"{name}{suffix}.json", result)
        except FileExistsError:
            continue
    raise AssertionError


def _publish(temporary: Path, path: Path) -> None:
    """Give the file its name, unless that is taken: of two sessions only one can have it."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        os.replace(temporary, path)


def _write_temporary(path: Path, text: bytes, last: bool) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb", buffering=0) as file:
            _write_all(file, text)
            if last:
                os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _write_all(file, text: bytes) -> None:
    """An unbuffered file may take a part only; the rest then says why."""
    rest = memoryview(text)
    while rest:
        rest = rest[file.write(rest) :]


class _ListTexts:
    """JSON text of a result; that of long lists of numbers is kept for the next time.

    A list is known by its identity and its length: lists that grow are written anew, but a number
    within one must not change.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[list, int, bytes]] = {}
        self._used: dict[int, tuple[list, int, bytes]] = {}
        self._lists: list[bytes] = []
        self._mark = f"numbers {secrets.token_hex(8)}"  # stands nowhere else in a result

    def encode(self, result: dict) -> bytes:
        """One line."""
        self._used, self._lists = {}, []
        frame = json.dumps(self._without_lists(result), allow_nan=False)
        self._known = self._used
        first, *rest = frame.encode().split(f'"{self._mark}"'.encode())
        pieces = [first]
        for numbers, after in zip(self._lists, rest, strict=True):
            pieces += (numbers, after)
        pieces.append(b"\n")
        return b"".join(pieces)

    def _without_lists(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._without_lists(item) for key, item in value.items()}
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if not isinstance(value, (list, tuple)):
            return value
        text = self._text(value) if len(value) >= _LONG_LIST else None
        if text is None:
            return [self._without_lists(item) for item in value]
        self._lists.append(text)
        return self._mark

    def _text(self, numbers: list) -> bytes | None:
        """Of a list of numbers only."""
        known = self._known.get(id(numbers))
        if known is None or known[1] != len(numbers):
            if not all(type(number) is float for number in numbers):
                return None
            finite = [number if math.isfinite(number) else None for number in numbers]
            known = numbers, len(numbers), json.dumps(finite).encode()
        self._used[id(numbers)] = known
        return known[2]


def finite(value: Any) -> Any:
    """Without the numbers that JSON does not have: null stands for them."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def file_name(result: dict) -> str:
    """<model>_<scenario or INxOUT>_<modes>_<gpu>_<UTC time>, without .json; of an estimate the
    model reads <model>-est<SMALL>-<LARGE>, of another workload than generation the lengths
    <workload>-<lengths>."""
    config, gpu = result["config"], result["environment"]["gpu"]
    lengths = "x".join(str(n) for n in (config["input_length"], config["output_length"]) if n)
    lengths = config["scenario"] or lengths
    if config["workload"] != GENERATION["name"]:
        lengths = f"{config['workload']}-{lengths}"
    modes = dict.fromkeys(map(variant, result["cells"]))
    time = re.sub(r"[-:]", "", result["created"])
    parts = (
        f"{config['model_name']}{_depth(config)}",
        lengths,
        "-".join(modes),
        _device_name(gpu),
    )
    name = "_".join(re.sub(r"[^A-Za-z0-9.-]+", "-", part).strip("-") for part in parts)
    return f"{name.lstrip('.')[: _LONGEST_NAME - len(time)]}_{time}"


def _depth(config: dict) -> str:
    """-8layers, -est4-8, or nothing for the full model."""
    if config["extrapolated_from"]:
        return f"-est{'-'.join(map(str, config['extrapolated_from']))}"
    reduced = config["num_layers"] != config["full_num_layers"]
    return f"-{config['num_layers']}layers" if reduced else ""


def _device_name(gpu: dict | None) -> str:
    if gpu is None:
        return "cpu"
    return gpu["name"] if gpu["count"] == 1 else f"{gpu['count']}x {gpu['name']}"
