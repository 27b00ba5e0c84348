"""The result files of a page: their text as it is, and what it says."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inference_benchmark.reporting.reading import STANDARD_INPUT, read_result


@dataclass(frozen=True)
class Source:
    """A result file. name: as a page shows it; text: as it was read."""

    name: str
    text: str
    result: dict


@dataclass(frozen=True)
class SourceSet:
    """What stands on one side of a comparison, or all there is."""

    name: str
    sources: tuple[Source, ...]

    @property
    def results(self) -> list[tuple[str, dict]]:
        return [(source.name, source.result) for source in self.sources]


def read_source(path: str) -> Source:
    """
    Raises:
        ResultFileError: it can't be read, or is no result.
    """
    result = read_result(path)
    if path == STANDARD_INPUT:
        return of_result("standard-input.json", result)
    return Source(Path(path).name, Path(path).read_text(encoding="utf-8"), result)


def of_result(name: str, result: dict) -> Source:
    """Of a result that no file holds."""
    return Source(name, json.dumps(result), result)


def read_set(name: str, paths: Sequence[str]) -> SourceSet:
    """The oldest first."""
    sources = sorted(map(read_source, paths), key=lambda source: source.result["created"])
    return SourceSet(name, tuple(sources))
