"""A picture: a drawing, the one sentence that says what to see in it, and the numbers as tables."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from inference_benchmark.reporting.units import UNKNOWN


@dataclass(frozen=True)
class Number:
    """As people read it, and as the file has it."""

    text: str
    value: float | None


Entry = str | Number


@dataclass(frozen=True)
class Table:
    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Entry]]

    def without_unknown(self) -> "Table":
        """Without the columns of which nothing is known."""
        columns = list(zip(self.headers, *self.rows, strict=True))
        known = [c for c in columns if any(_text(entry) != UNKNOWN for entry in c[1:])]
        headers, *rows = zip(*(known or columns), strict=True)
        return Table(self.caption, headers, rows)


@dataclass(frozen=True)
class Picture:
    """
    name: of its files.
    sentence: what to see, made from the numbers.
    """

    name: str
    title: str
    sentence: str
    figure: Figure
    tables: Sequence[Table]


def number(value: float | None, text: str | None = None) -> Number:
    """A value and its text; a dash where it is unknown."""
    if value is None:
        return Number(UNKNOWN, None)
    return Number(text if text is not None else f"{value:,.4g}", value)


def _text(entry: Entry) -> str:
    return entry if isinstance(entry, str) else entry.text


def slug(name: str) -> str:
    """As a part of a file's name, or of an id: whatever a result file calls it."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.") or "unnamed"


def listed(words: Iterable[str]) -> str:
    """a, b and c."""
    words = list(words)
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))
