"""Whether a document has the shape that a JSON Schema describes, and where it first departs.

The part of JSON Schema that result.schema.json uses, without the jsonschema package: whoever reads
results has to start fast and needs nothing installed. Keys that the schema does not know are
passed: a file may say more than its reader understands.
"""

import json
import math
import re
from functools import cache
from pathlib import Path
from typing import Any

_SCHEMA = Path(__file__).with_name("result.schema.json")
_TOO_LARGE = 2.0**1000  # sums and ratios of lesser numbers do not overflow
_KINDS = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}


@cache
def result_schema() -> dict:
    return json.loads(_SCHEMA.read_text(encoding="utf-8"))


def departure(document: Any, schema: dict | None = None) -> str | None:
    """Where the document first departs from the result's schema, in a line; None where it fits."""
    root = schema or result_schema()
    try:
        _check(document, root, root, "")
    except _DepartureError as error:
        return str(error)
    return None


class _DepartureError(ValueError):
    pass


def _check(value: Any, schema: dict, root: dict, where: str) -> None:
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    _check_kind(value, schema, where)
    _check_value(value, schema, where)
    if isinstance(value, dict):
        _check_object(value, schema, root, where)
    if isinstance(value, list):
        _check_array(value, schema, root, where)
    if "if" in schema:
        try:
            _check(value, schema["if"], root, where)
            then = schema.get("then")
        except _DepartureError:
            then = schema.get("else")
        if then:
            _check(value, then, root, where)


def _check_kind(value: Any, schema: dict, where: str) -> None:
    wanted = schema.get("type")
    if wanted is None:
        return
    names = [wanted] if isinstance(wanted, str) else wanted
    if not any(_is_a(value, name) for name in names):
        raise _DepartureError(f"{_place(where)} is {_shown(value)}, not {' or '.join(names)}")


def _is_a(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if isinstance(value, (int, float)) and not abs(value) < _TOO_LARGE:
        return False  # infinity and NaN as well
    return isinstance(value, _KINDS[name])


def _check_value(value: Any, schema: dict, where: str) -> None:
    if "const" in schema and (value, type(value)) != (schema["const"], type(schema["const"])):
        raise _DepartureError(f"{_place(where)} is {_shown(value)}, not {schema['const']}")
    if "enum" in schema and value not in schema["enum"]:
        raise _DepartureError(f"{_place(where)} is {_shown(value)}, which is not known here")
    if isinstance(value, str):
        if len(value) < schema.get("minLength", 0):
            raise _DepartureError(f"{_place(where)} is empty")
        if "pattern" in schema and not re.search(schema["pattern"], value):
            raise _DepartureError(f"{_place(where)} is {_shown(value)}, of another form")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
            raise _DepartureError(f"{_place(where)} is {_shown(value)}, not positive")
        if "minimum" in schema and value < schema["minimum"]:
            raise _DepartureError(f"{_place(where)} is {_shown(value)}, too small")


def _check_object(value: dict, schema: dict, root: dict, where: str) -> None:
    for name in schema.get("required", ()):
        if name not in value:
            raise _DepartureError(f"{where or 'the file'} has no {name}")
    named, others = schema.get("properties", {}), schema.get("additionalProperties")
    for name, part in value.items():
        if name in named:
            _check(part, named[name], root, f"{where}.{name}")
        elif isinstance(others, dict):
            _check(part, others, root, f"{where}.{name}")


def _check_array(value: list, schema: dict, root: dict, where: str) -> None:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf):
        raise _DepartureError(f"{_place(where)} has {len(value)} entries")
    items = schema.get("items")
    if items == {"type": "number"} and all(
        type(x) is float and -_TOO_LARGE < x < _TOO_LARGE for x in value
    ):
        return  # steps are many
    if items is not None:
        for number, part in enumerate(value):
            _check(part, items, root, f"{where}[{number}]")


def _place(where: str) -> str:
    return where.lstrip(".") or "it"


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
