"""Sides of a comparison: cells of one thing, and which of them belong beside which."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from inference_benchmark.reporting.conditions import timing_key
from inference_benchmark.reporting.saved_cells import SavedCell

T = TypeVar("T")
Side = tuple[SavedCell, ...]
Key = Callable[[SavedCell], Any]
_EAGER = ("eager+graphs", "eager", "eager+graphs+kernels", "eager+kernels")


def grouped(items: Iterable[T], key: Callable[[T], Any]) -> list[tuple[T, ...]]:
    """Items of equal keys together, in the order of the first of each."""
    groups: dict[Any, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return [tuple(group) for group in groups.values()]


def sides_of(cells: Iterable[SavedCell]) -> list[Side]:
    """The cells of one mode and fingerprint, of however many sessions."""
    return grouped(cells, lambda cell: (cell.label, cell.side_name, cell.fingerprint))


def uniform_parts(cells: Iterable[SavedCell], ignored: Sequence[str]) -> list[Side]:
    """Sessions of one thing each: those that agree in all that can change a time."""
    return grouped(cells, lambda cell: timing_key(cell, ignored))


def match(sides: Sequence[Side], bases: Sequence[Side]) -> dict[Side, Side]:
    """The baseline of each side that has one, by the closest name there is.

    A baseline that has its exact counterpart serves no other side; a lone one serves all.
    """
    criteria: list[Key] = [lambda c: c.label, lambda c: c.variant, lambda c: c.mode]
    if len(bases) == 1:
        criteria.append(lambda cell: None)
    left, free = list(sides), list(bases)
    pairs: dict[Side, Side] = {}
    for same in criteria:
        matches = [(side, base) for side in left for base in free if same(side[0]) == same(base[0])]
        times = Counter(side for side, _ in matches)
        unique = {side: base for side, base in matches if times[side] == 1}
        pairs |= unique
        left = [side for side in left if side not in unique]
        free = [base for base in free if base not in unique.values()]
    return pairs


def least_difference(left: Iterable[SavedCell], right: Sequence[SavedCell], key: Key) -> str:
    """In which fields of the fingerprint the two most similar cells differ."""
    differences = [
        [f"{name} {a} | {b}" for (name, a), (_, b) in zip(key(x), key(y), strict=True) if a != b]
        for x, y in itertools.product(left, right)
    ]
    fewest: list[str] = min(differences, key=len, default=[])
    return ", ".join(fewest)


def side_namer(names: Sequence[str], cells: Iterable[SavedCell]) -> Callable[[SavedCell], str]:
    """By the first of these fields, and by the others too where that leaves two sides one name."""
    first, *others = names
    sides = {tuple(getattr(cell.fingerprint, name) for name in names) for cell in cells}
    times = Counter(side[0] for side in sides)

    def value(cell: SavedCell) -> str:
        name = getattr(cell.fingerprint, first)
        if times[name] < 2:
            return str(name)
        rest = (f"{other} {getattr(cell.fingerprint, other)}" for other in others)
        return ", ".join([str(name), *rest])

    return value


def default_baseline(sides: list[Side]) -> Side:
    """The baseline that a session chose itself, else eager as shipped or with our kernels, else the
    first."""
    chosen = {cell.baseline_label for side in sides for cell in side}
    recorded = [side for side in sides if side[0].label in chosen]
    eager = [side for name in _EAGER for side in sides if side[0].variant == name]
    return [*recorded, *eager, *sides][0]


def side_called(name: str, sides: list[Side]) -> Side | None:
    """By its whole name, or by its mode's where only one has that mode; None: there is no such."""
    plain = name.removesuffix("+nographs")
    exact = [side for side in sides if plain in (side[0].variant, side[0].label)]
    by_mode = [side for side in sides if side[0].mode == plain]
    return exact[0] if exact else by_mode[0] if len(by_mode) == 1 else None
