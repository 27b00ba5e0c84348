"""What tests of pictures share: subjects of made-up cells, and what was drawn."""

import copy

from fake_results import fake_result

from inference_benchmark.plotting.style import house_style
from inference_benchmark.plotting.subject import Subject, subjects


def subject_of(*cells: dict, **config) -> Subject:
    """One session of these cells."""
    result = fake_result(list(cells), **config)
    (subject,) = subjects([("session.json", result)])
    return subject


def drawn(maker, subject: Subject):
    with house_style():
        return maker(subject)


def texts(table) -> list[list[str]]:
    return [[getattr(entry, "text", entry) for entry in row] for row in table.rows]


def column(table, header: str) -> list:
    """Values of numbers, texts of others."""
    place = list(table.headers).index(header)
    return [getattr(row[place], "value", row[place]) for row in table.rows]


def labels(axes) -> list[str]:
    """All text in a panel that says something."""
    return [text.get_text() for text in axes.texts if text.get_text()]


def with_context_depth(cell: dict, depth: int, label: str) -> dict:
    cell = copy.deepcopy(cell)
    cell["name"]["context_depth"] = depth
    return cell | {"label": label}
