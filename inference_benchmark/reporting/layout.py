"""How text is laid out: tables and wrapped notes that fit a terminal of 80 columns."""

import textwrap
from collections.abc import Sequence

import tabulate as _tabulate

TERMINAL = 80
WIDTH = TERMINAL - 1
_GAP = 2  # columns between columns of a table
_NARROW_GAP = 1
_LABEL_WIDTH = 20  # of broken labels, at least
_tabulate.MIN_PADDING = 0  # by default headers are padded by two columns each


def table(
    rows: Sequence[Sequence[str]],
    headers: Sequence[str],
    max_widths: list[int | None] | None = None,
    numbers: bool = True,
    gap: int = _GAP,
) -> str:
    """The first column to the left; the others to the right where they hold numbers."""
    others = "right" if numbers else "left"
    return _tabulate.tabulate(
        rows,
        headers,
        tablefmt=_format(gap),
        disable_numparse=True,
        colalign=["left"] + [others] * (len(headers) - 1),
        maxcolwidths=max_widths,
    )


def _format(gap: int) -> str | _tabulate.TableFormat:
    """Columns apart by so many spaces, a rule under the headers. Formats that tabulate does not know
    by name can't have cells of several lines."""
    if gap == _GAP:
        return "simple"
    space = " " * gap
    row = _tabulate.DataRow("", space, "")
    rule = _tabulate.Line("", "-", space, "")
    return _tabulate.TableFormat(None, rule, None, None, row, row, 0, None)


def room_for_labels(
    rows: Sequence[Sequence[str]],
    headers: Sequence[str],
    max_widths: list[int | None],
    gap: int = _GAP,
) -> int:
    """What the other columns, of these greatest widths, leave to the first one."""
    columns = list(zip(headers, *rows, strict=True))[1:]
    natural = [max(map(len, column)) for column in columns]
    taken = [min(width, most or width) for width, most in zip(natural, max_widths, strict=True)]
    return TERMINAL - sum(taken) - gap * len(taken)


def fits(rows: Sequence[Sequence[str]], headers: Sequence[str], gap: int = _GAP) -> bool:
    """Whether nothing has to be broken over two lines."""
    labels = max(len(row[0]) for row in (headers, *rows))
    return labels <= room_for_labels(rows, headers, [None] * (len(headers) - 1), gap)


def fitted(rows: Sequence[Sequence[str]], headers: Sequence[str], widths: dict[str, int]) -> str:
    """In 80 columns: with gaps of two where that fits, then of one; else cells of the columns named
    in widths are broken over lines, and labels where the others leave them too little."""
    for gap in (_GAP, _NARROW_GAP):
        if fits(rows, headers, gap):
            return table(rows, headers, gap=gap)
    limits = [widths.get(header) for header in headers[1:]]
    room = max(_LABEL_WIDTH, room_for_labels(rows, headers, limits))
    return table(rows, headers, [room, *limits])


def encodable(text: str, encoding: str | None) -> str:
    """The text as a stream of this encoding can print it: ± is +- in ASCII, the rest a ?."""
    try:
        text.encode(encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return text.replace("±", "+-").encode("ascii", "replace").decode("ascii")
    return text


def pairs(rows: list[tuple[str, str]]) -> str:
    """Names and what is to be said of each, without rules between."""
    width = max(len(name) for name, _ in rows) + 2
    return "\n".join(
        textwrap.fill(text, WIDTH, initial_indent=name.ljust(width), subsequent_indent=" " * width)
        for name, text in rows
    )


def wrap(line: str) -> str:
    return textwrap.fill(line, WIDTH, subsequent_indent="  ")
