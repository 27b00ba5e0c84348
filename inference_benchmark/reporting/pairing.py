"""What is compared with what: which cells of saved sessions form a side, and which its baseline.

A pairing sets one side against its baseline; a side is the cells of one mode in one or more
sessions. What remains without a counterpart is named, with the reason.
"""

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any, TypeVar

from inference_benchmark.reporting.saved_cells import Cell, ComparisonError, Fingerprint, Skipped

ACROSS = {  # what --across leaves out of the fingerprint, and sides are named by
    "gpu": ("gpu",),
    "model": ("model_name", "num_layers"),
    "precision": ("precision",),
    "batch": ("batch_size",),
}

T = TypeVar("T")
Side = tuple[Cell, ...]
Key = Callable[[Cell], Any]


@dataclass(frozen=True)
class Request:
    files: Sequence[str]
    baseline: str | None = None  # a file or a mode; with across, a file or a value
    across: str | None = None
    threshold: float | None = None  # replaces the bands
    force: bool = False


@dataclass(frozen=True)
class Pairing:
    name: str  # what tells the side from its baseline: a mode, a file, a value of --across
    candidate: tuple[Cell, ...]
    baseline: tuple[Cell, ...] = ()  # empty: there is nothing to compare it with


@dataclass
class Plan:
    pairings: list[Pairing] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def skip(self, cells: Iterable[Cell], reason: str) -> None:
        self.skipped += [Skipped(cell.file, cell.label, reason) for cell in cells]

    def unpaired(self, cells: Iterable[Cell]) -> list[Cell]:
        paired = {cell for pair in self.pairings for cell in (*pair.candidate, *pair.baseline)}
        return [cell for cell in cells if cell not in paired]


def resolve_files(request: Request) -> tuple[Request, str | None]:
    """The request with its baseline file among the files, and which one that is."""
    files = list(request.files)
    paths = [os.path.realpath(file) for file in files]
    for file, path in zip(files, paths, strict=True):
        if paths.count(path) > 1:
            raise ComparisonError(f"{file}: is named twice; a file is one session")
    if request.baseline is None:
        is_pair = len(files) == 2 and request.across is None
        return request, files[0] if is_pair else None
    named = [file for file in files if os.path.basename(file) == request.baseline]
    if os.path.exists(request.baseline):
        path = os.path.realpath(request.baseline)
        named = [file for file in files if os.path.realpath(file) == path] or [request.baseline]
    if len(named) != 1:
        return request, None
    missing = [] if named[0] in files else named
    return replace(request, files=(*missing, *files)), named[0]


def make_plan(request: Request, baseline_file: str | None, cells: list[Cell]) -> Plan:
    plan = Plan()
    if request.across:
        _pair_across(plan, request, baseline_file, cells)
    elif baseline_file:
        _pair_by_file(plan, request, baseline_file, cells)
    else:
        _pair_by_mode(plan, request.baseline, cells)
    return plan


def _pair_by_file(plan: Plan, request: Request, baseline_file: str, cells: list[Cell]) -> None:
    """Every cell of another file against its counterpart in the baseline file."""
    key = _comparable_key(request, cells)
    bases = [(cell,) for cell in cells if cell.file == baseline_file]
    others = [cell for cell in cells if cell.file != baseline_file]
    for group in grouped(others, lambda cell: (cell.file, key(cell))):
        peers = [base for base in bases if key(base[0]) == key(group[0])]
        pairs = _match([(cell,) for cell in group], peers)
        plan.pairings += [Pairing(group[0].file, *pair) for pair in pairs.items()]
    for cell in plan.unpaired(cells):
        rest = [base[0] for base in bases] if cell.file != baseline_file else others
        differing = _difference([cell], rest, key)
        where = f"; the nearest cell differs in {differing}" if differing else ""
        plan.skip([cell], f"no counterpart{where}")


def _pair_by_mode(plan: Plan, wanted: str | None, cells: list[Cell]) -> None:
    """Within each fingerprint every mode against one of them, sessions of a mode together."""
    is_known = wanted is None
    for group in grouped(cells, lambda cell: cell.fingerprint):
        measured_first = sorted(group, key=lambda cell: cell.is_estimate)
        sides = grouped(measured_first, lambda cell: cell.side_name)
        is_one_mode = wanted is None and len(sides) == 1  # then its files are the sides
        if is_one_mode:
            sides = [(cell,) for cell in group]
        base = _side_called(wanted, sides) if wanted else _default_baseline(sides)
        if base is None:
            plan.skip(group, f"no {wanted} with its fingerprint")
            continue
        is_known = True
        for side in sides:
            name = side[0].file if is_one_mode else side[0].side_name
            if side is not base:
                plan.pairings.append(Pairing(name, side, base))
            elif len(sides) == 1:
                plan.pairings.append(Pairing(name, side))
    if not is_known:
        raise _unknown("baseline: no file or mode", wanted, [cell.variant for cell in cells])


def _pair_across(
    plan: Plan, request: Request, baseline_file: str | None, cells: list[Cell]
) -> None:
    """Along one field of the fingerprint, everything else and the mode being equal."""
    key = _comparable_key(request, cells)
    value = _side_namer(ACROSS[str(request.across)], cells)
    possible = [value(cell) for cell in cells if baseline_file in (None, cell.file)]
    named = None if baseline_file else request.baseline
    wanted = named or next(iter(possible), "")
    if cells and wanted not in possible:
        raise _unknown(f"baseline: no file or {request.across}", wanted, possible)
    for group in grouped(cells, key):
        sides = grouped(group, lambda cell: (value(cell), cell.label))
        bases = [side for side in sides if value(side[0]) == wanted]
        for along in grouped(sides, lambda side: value(side[0])):
            pairs = _match(along, bases) if along[0] not in bases else {}
            plan.pairings += [Pairing(value(along[0][0]), *pair) for pair in pairs.items()]
        lonely = plan.unpaired(itertools.chain(*sides))
        plan.skip(lonely, f"no counterpart along {request.across}")


def _side_namer(names: Sequence[str], cells: Iterable[Cell]) -> Callable[[Cell], str]:
    """By the first of these fields, and by the others too where that leaves two sides one name."""
    first, *others = names
    sides = {tuple(getattr(cell.fingerprint, name) for name in names) for cell in cells}
    times = Counter(side[0] for side in sides)

    def value(cell: Cell) -> str:
        name = getattr(cell.fingerprint, first)
        if times[name] < 2:
            return str(name)
        rest = (f"{other} {getattr(cell.fingerprint, other)}" for other in others)
        return ", ".join([str(name), *rest])

    return value


def _comparable_key(request: Request, cells: list[Cell]) -> Key:
    """What has to be equal in a pairing. Two named files must have some of it in common."""
    left_out = ACROSS[request.across] if request.across else ()
    names = [each.name for each in fields(Fingerprint) if each.name not in left_out]

    def key(cell: Cell) -> tuple[tuple[str, Any], ...]:
        return tuple((name, getattr(cell.fingerprint, name)) for name in names)

    if len(request.files) != 2:
        return key
    left, right = ([cell for cell in cells if cell.file == file] for file in request.files)
    if not left or not right or set(map(key, left)) & set(map(key, right)):
        return key
    if request.force:
        return lambda cell: ()
    raise ComparisonError(
        f"{' and '.join(request.files)} can't be compared: {_difference(left, right, key)}; "
        f"--force does it anyway, --across {{{','.join(ACROSS)}}} on purpose"
    )


def _difference(left: Iterable[Cell], right: Sequence[Cell], key: Key) -> str:
    """In which fields of the fingerprint the two most similar cells differ."""
    differences = [
        [f"{name} {a} | {b}" for (name, a), (_, b) in zip(key(x), key(y), strict=True) if a != b]
        for x, y in itertools.product(left, right)
    ]
    fewest: list[str] = min(differences, key=len, default=[])
    return ", ".join(fewest)


def _match(sides: Sequence[Side], bases: Sequence[Side]) -> dict[Side, Side]:
    """The baseline of each side that has one, by the closest name there is.

    A baseline that has its exact counterpart serves no other side; a lone one serves all.
    """
    criteria: list[Key] = [lambda c: c.label, lambda c: c.variant, lambda c: c.mode]
    if len(bases) == 1:
        criteria.append(lambda cell: None)
    left, free = list(sides), list(bases)
    pairs: dict[Side, Side] = {}
    for same in criteria:
        found = [(side, base) for side in left for base in free if same(side[0]) == same(base[0])]
        times = Counter(side for side, _ in found)
        unique = {side: base for side, base in found if times[side] == 1}
        pairs |= unique
        left = [side for side in left if side not in unique]
        free = [base for base in free if base not in unique.values()]
    return pairs


def _default_baseline(sides: list[Side]) -> Side:
    """The baseline that a session chose itself, else eager with or without graphs, else the first."""
    chosen = {cell.baseline_label for side in sides for cell in side}
    recorded = [side for side in sides if side[0].label in chosen]
    eager = [
        side for name in ("eager+graphs", "eager") for side in sides if side[0].variant == name
    ]
    return [*recorded, *eager, *sides][0]


def _side_called(name: str, sides: list[Side]) -> Side | None:
    plain = name.removesuffix("+nographs")
    exact = [side for side in sides if plain in (side[0].variant, side[0].label)]
    by_mode = [side for side in sides if side[0].mode == plain]
    return exact[0] if exact else by_mode[0] if len(by_mode) == 1 else None


def grouped(items: Iterable[T], key: Callable[[T], Any]) -> list[tuple[T, ...]]:
    groups: dict[Any, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return [tuple(group) for group in groups.values()]


def _unknown(what: str, name: str | None, valid: Iterable[str]) -> ComparisonError:
    names = list(dict.fromkeys(valid))
    near = get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    return ComparisonError(f"{what} '{name}'{hint} (there are: {', '.join(names)})")
