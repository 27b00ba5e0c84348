"""How text is laid out: tables and wrapped notes that fit a terminal of 80 columns."""

import textwrap

import tabulate as _tabulate

WIDTH = 79
_tabulate.MIN_PADDING = 0  # by default headers are padded by two columns each


def table(
    rows: list,
    headers: list[str],
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


def pairs(rows: list[tuple[str, str]]) -> str:
    """Names and what is to be said of each, without rules between."""
    width = max(len(name) for name, _ in rows) + 2
    return "\n".join(
        textwrap.fill(text, WIDTH, initial_indent=name.ljust(width), subsequent_indent=" " * width)
        for name, text in rows
    )


def wrap(line: str) -> str:
    return textwrap.fill(line, WIDTH, subsequent_indent="  ")
