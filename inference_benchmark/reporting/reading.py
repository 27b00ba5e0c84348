"""Reading saved results: a file of any version in, a result of version 2 out, or one line of why not.

What is returned fits result.schema.json in all fields that it describes, so readers (tables,
comparisons, pictures) look nothing over twice. Text in it is printable: control characters in
labels, names and messages, which could move a terminal's cursor or break a table, are replaced.
"""

import json
import sys
from pathlib import Path
from typing import Any

from inference_benchmark.errors import printable as printable_text
from inference_benchmark.reporting.kernel_names import with_kernels_named
from inference_benchmark.reporting.shape import departure
from inference_benchmark.reporting.version_1 import from_version_1

SCHEMA_VERSION = 2
STANDARD_INPUT = "-"


class ResultFileError(ValueError):
    """A file that is no result, or that can't be read; the message is one line."""


def read_result(path: str | Path) -> dict:
    """The result in a file, or on standard input ("-"), as version 2 has it.

    Raises:
        ResultFileError: it can't be read, is not a whole result, or is of a newer version.
    """
    name = "standard input" if str(path) == STANDARD_INPUT else printable_text(str(path))
    try:
        return _whole(to_version_2(_parse(_text(path))))
    except ResultFileError as error:
        raise ResultFileError(f"{name}: {printable_text(str(error))}") from None
    except RecursionError:
        raise ResultFileError(f"{name}: is nested too deeply for a result file") from None


def _whole(result: dict) -> dict:
    if problem := departure(result) or _unequal_lengths(result):
        raise ResultFileError(f"is not a whole result file of this benchmark ({problem})")
    return printable(result)


def to_version_2(document: dict) -> dict:
    """A result of any version as version 2 has it, its modes named as they are today.

    Raises:
        ResultFileError: it is none, is newer, or lacks what a result of its version has.
    """
    version = document.get("schema_version") if isinstance(document, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ResultFileError("is not a result file of this benchmark")
    if version > SCHEMA_VERSION:
        raise ResultFileError(
            f"has schema version {version}, newer than the {SCHEMA_VERSION} known here: "
            "update this program"
        )
    if version == SCHEMA_VERSION:
        try:
            return with_kernels_named(document)
        except (LookupError, TypeError, AttributeError):
            return document  # what it lacks is found when it is held against the schema
    try:
        return with_kernels_named(from_version_1(document))
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        message = f"is not a whole result file of this benchmark ({_first_line(error)})"
        raise ResultFileError(message) from error


def printable(part: Any) -> Any:
    """A result, or a part of one, without control characters in its text."""
    if isinstance(part, str):
        return printable_text(part)
    if isinstance(part, list):
        return [printable(element) for element in part] if _may_hold_text(part) else part
    if isinstance(part, dict):
        return {printable_text(str(name)): printable(value) for name, value in part.items()}
    return part


def _may_hold_text(values: list) -> bool:
    """Long lists of numbers are most of a result."""
    return not (values and type(values[0]) is float)


def _text(path: str | Path) -> str:
    try:
        if str(path) == STANDARD_INPUT:
            return sys.stdin.read()
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except OSError as error:
        raise ResultFileError(f"can't be read: {error.strerror or error}") from None
    except ValueError:
        raise ResultFileError("is not JSON, or is truncated") from None


def _parse(text: str) -> Any:
    if not text.strip():
        raise ResultFileError("is empty")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ResultFileError("is not JSON, or is truncated") from None


def _unequal_lengths(result: dict) -> str | None:
    """Every run has its round and one value of each metric, or of a metric there is none at all."""
    for cell in result["cells"]:
        samples = cell["samples"] or cell["wrong_output_samples"]
        if samples is None:
            continue
        runs = len(samples["round"])
        columns = [*samples["metrics"].values(), *samples["steps"].values(), samples["started"]]
        columns += (samples.get("gpu") or {}).values()
        if any(column and len(column) != runs for column in columns):
            return f"{cell['label']}: samples of unequal length"
    return None


def _first_line(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"no {error.args[0]}"
    return str(error).partition("\n")[0]
