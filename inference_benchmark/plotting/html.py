"""HTML as functions; whatever comes from a file is escaped here."""

import json
from collections.abc import Iterable
from html import escape

from inference_benchmark.plotting.picture import Entry, Number, Table
from inference_benchmark.reporting.units import UNKNOWN


def tag(name: str, content: str, **attributes: str) -> str:
    """content is HTML; attributes are text. class_ is class, aria_label is aria-label."""
    attributes_text = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
    )
    return f"<{name}{attributes_text}>{content}</{name}>"


def text(content: object) -> str:
    return escape(str(content), quote=False)


def bullets(lines: Iterable[str], **attributes: str) -> str:
    items = "".join(tag("li", text(line)) for line in lines)
    return tag("ul", items, **attributes) if items else ""


def table(made: Table) -> str:
    """In a frame that scrolls by itself, with the keyboard too; each number with its exact value."""
    head = "".join(tag("th", text(header), scope="col") for header in made.headers)
    body = "".join(_row(row) for row in made.rows)
    whole = (
        f"<table>{tag('caption', text(made.caption))}<thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )
    return tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=made.caption)


def _row(row: Iterable[Entry]) -> str:
    first, *rest = row
    cells = tag("th", _entry(first), scope="row") + "".join(tag("td", _entry(e)) for e in rest)
    return f"<tr>{cells}</tr>"


def _entry(entry: Entry) -> str:
    if not isinstance(entry, Number):
        return text(entry)
    if entry.value is None:
        return UNKNOWN
    return tag("data", text(entry.text), value=json.dumps(entry.value))
