"""How text is laid out: tables and wrapped notes that fit a terminal of 80 columns."""

import re
import textwrap
from collections.abc import Sequence
from itertools import zip_longest

import tabulate as _tabulate

TERMINAL = 80
WIDTH = TERMINAL - 1
_GAP = 2  # columns between columns of a table
_NARROW_GAP = 1
_LABEL_WIDTH = 20  # of broken labels, at least
_LEAST_LABEL_WIDTH = 14  # where the other columns are as narrow as their words
_NARROWEST_LABEL = 10  # where headers are broken too
# Where a label may be broken: before " ", "+", "@" and "[", and behind ":" and ",".
_LABEL_BREAK = re.compile(r"(?<=[:,])|(?=[ +@[])")
_tabulate.MIN_PADDING = 0  # by default headers are padded by two columns each

Rows = Sequence[Sequence[str]]


def table(
    rows: Rows,
    headers: Sequence[str],
    max_widths: list[int | None] | None = None,
    numbers: bool = True,
    gap: int = _GAP,
) -> str:
    """The first column to the left; the others to the right where they hold numbers. Headers may be
    of several lines."""
    others = "right" if numbers else "left"
    first, *further = zip_longest(*(header.split("\n") for header in headers), fillvalue="")
    lines = _tabulate.tabulate(
        [*further, *(rows if max_widths is None else _broken(rows, max_widths))],
        first,
        tablefmt=_format(gap),
        disable_numparse=True,
        colalign=["left"] + [others] * (len(headers) - 1),
    ).split("\n")
    rule = lines.pop(1)
    return "\n".join([*lines[: 1 + len(further)], rule, *lines[1 + len(further) :]])


def _format(gap: int) -> _tabulate.TableFormat:
    """Columns apart by so many spaces, a rule under the headers, nothing else."""
    space = " " * gap
    row = _tabulate.DataRow("", space, "")
    rule = _tabulate.Line("", "-", space, "")
    return _tabulate.TableFormat(None, rule, None, None, row, row, 0, None)


def _broken(rows: Rows, max_widths: Sequence[int | None]) -> list[list[str]]:
    """Each row as lines in which no cell is wider than its column may be; its label stands first."""
    lines = []
    label_width, *others = max_widths
    for label, *row in rows:
        cells = [[label] if label_width is None else label_lines(label, label_width)]
        cells += [
            [text] if width is None else textwrap.wrap(text, width) or [""]
            for text, width in zip(row, others, strict=True)
        ]
        height = max(map(len, cells))
        lines += [
            [cell[number] if number < len(cell) else "" for cell in cells]
            for number in range(height)
        ]
    return lines


def label_lines(label: str, width: int) -> list[str]:
    """A cell's label in lines of at most this width, broken where its parts meet; within a part only
    where that alone is longer."""
    lines = [""]
    for part in _LABEL_BREAK.split(label):
        if len(lines[-1] + part) <= width:
            lines[-1] += part
        else:
            lines += textwrap.wrap(part.strip(), width)
    return [line for line in lines if line] or [""]


def fitted(rows: Rows, headers: Sequence[str], widths: dict[str, int]) -> str:
    """In 80 columns: a line per row where that fits, with gaps of two or of one; else labels are
    broken over lines, and if that leaves them too little, the columns named in widths as well, down
    to their words, then the headers, and at last values and what they are uncertain by."""
    natural = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    for gap in (_GAP, _NARROW_GAP):
        if sum(natural) + gap * (len(natural) - 1) <= TERMINAL:
            return table(rows, headers, gap=gap)
    gaps = _NARROW_GAP * (len(natural) - 1)
    room = TERMINAL - gaps - sum(natural[1:])
    if room >= min(_LABEL_WIDTH, natural[0]):
        limits: list[int | None] = [room, *[None] * (len(natural) - 1)]
        return table(rows, headers, limits, gap=_NARROW_GAP)
    words = {name: _longest_word(rows, headers, name) for name in widths}
    narrow = {name: max(width, words[name] or 0) for name, width in widths.items()}
    for narrowed, least in ((narrow, _LABEL_WIDTH), (words, _LEAST_LABEL_WIDTH)):
        limits = [narrowed.get(header) for header in headers[1:]]
        room = TERMINAL - gaps - _taken(natural[1:], limits)
        if room >= least:
            return table(rows, headers, [room, *limits], gap=_NARROW_GAP)
    broken = [header.replace(" ", "\n") for header in headers]
    natural = [
        max(map(len, [*header.split("\n"), *column]))
        for header, *column in zip(broken, *rows, strict=True)
    ]
    room = TERMINAL - gaps - _taken(natural[1:], limits)
    if room < _NARROWEST_LABEL:
        rows, limits = _with_broken_intervals(rows, headers, limits)
    return table(rows, broken, [max(_NARROWEST_LABEL, room), *limits], gap=_NARROW_GAP)


def _taken(sizes: Sequence[int], limits: Sequence[int | None]) -> int:
    """By columns of these sizes, none wider than its limit."""
    return sum(min(size, most or size) for size, most in zip(sizes, limits, strict=True))


def _with_broken_intervals(
    rows: Rows, headers: Sequence[str], limits: list[int | None]
) -> tuple[Rows, list[int | None]]:
    """Values stand above what they are uncertain by: the rows, and the widths of their columns."""
    apart = [[label, *(text.replace("±", " ±") for text in row)] for label, *row in rows]
    columns = list(zip(*rows, strict=True))[1:]
    widths = [
        _longest_word(apart, headers, header) if "±" in "".join(column) else limit
        for header, column, limit in zip(headers[1:], columns, limits, strict=True)
    ]
    return apart, widths


def _longest_word(rows: Rows, headers: Sequence[str], name: str) -> int | None:
    """The width below which a column's words would break; None where there is no such column."""
    if name not in headers:
        return None
    place = list(headers).index(name)
    return max(len(word) for row in [headers, *rows] for word in row[place].split() or [""])


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
        textwrap.fill(
            text,
            WIDTH,
            initial_indent=name.ljust(width),
            subsequent_indent=" " * width,
            break_on_hyphens=False,
        )
        for name, text in rows
    )


def wrap(line: str) -> str:
    """In lines that leave flags, which may be copied, in one piece."""
    return textwrap.fill(line, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
