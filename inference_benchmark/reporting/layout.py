"""How text is laid out: tables and wrapped notes that fit a terminal of 80 columns."""

import textwrap
from collections.abc import Sequence

import tabulate as _tabulate

TERMINAL = 80
WIDTH = TERMINAL - 1
_GAP = 2  # columns between columns of a table
_tabulate.MIN_PADDING = 0  # by default headers are padded by two columns each


def table(
    rows: Sequence[Sequence[str]],
    headers: Sequence[str],
    max_widths: list[int | None] | None = None,
    numbers: bool = True,
) -> str:
    """The first column to the left; the others to the right where they hold numbers."""
    others = "right" if numbers else "left"
    return _tabulate.tabulate(
        rows,
        headers,
        tablefmt="simple",
        disable_numparse=True,
        colalign=["left"] + [others] * (len(headers) - 1),
        maxcolwidths=max_widths,
    )


def room_for_labels(
    rows: Sequence[Sequence[str]], headers: Sequence[str], max_widths: list[int | None]
) -> int:
    """What the other columns, of these greatest widths, leave to the first one."""
    columns = list(zip(headers, *rows, strict=True))[1:]
    natural = [max(map(len, column)) for column in columns]
    taken = [min(width, most or width) for width, most in zip(natural, max_widths, strict=True)]
    return TERMINAL - sum(taken) - _GAP * len(taken)


def fits(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> bool:
    """Whether nothing has to be broken over two lines."""
    labels = max(len(row[0]) for row in (headers, *rows))
    return labels <= room_for_labels(rows, headers, [None] * (len(headers) - 1))


def pairs(rows: list[tuple[str, str]]) -> str:
    """Names and what is to be said of each, without rules between."""
    width = max(len(name) for name, _ in rows) + 2
    return "\n".join(
        textwrap.fill(text, WIDTH, initial_indent=name.ljust(width), subsequent_indent=" " * width)
        for name, text in rows
    )


def wrap(line: str) -> str:
    return textwrap.fill(line, WIDTH, subsequent_indent="  ")
