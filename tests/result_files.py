"""A result of version 1, as it is and spoilt, and how reading a file ends, for the tests of reading."""

import copy
import functools
import json
from collections.abc import Iterator
from unittest import mock

from conftest import ROOT

from inference_benchmark.reporting.reading import ResultFileError, read_result, to_version_2

OLD = json.loads((ROOT / "tests" / "reporting" / "version_1.json").read_text())


def converted() -> dict:
    return to_version_2(copy.deepcopy(OLD))


def refusal(tmp_path, document) -> str | None:
    path = tmp_path / "result.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    try:
        read_result(path)
    except ResultFileError as error:
        message = str(error)
    else:
        return None
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    return message


def places(document: dict) -> list[tuple]:
    """(how to get at a section, a key in it) for every field near the top of a result."""

    def section(*path):
        return lambda result: functools.reduce(lambda part, key: part[key], path, result)

    paths = [(), ("environment",), ("config",), ("cells", 0), ("environment", "gpu")]
    paths += [
        ("cells", 0, name) for name, part in document["cells"][0].items() if isinstance(part, dict)
    ]
    return [(section(*path), key) for path in paths for key in section(*path)(document)]


def with_odd_fields(original: dict, values: tuple) -> Iterator[dict]:
    """The document with each of the values in each of its places: one at a time, in one object."""
    document = copy.deepcopy(original)
    for section, key in places(document):
        for value in values:
            with mock.patch.dict(section(document), {key: value}):
                yield document
