"""What is compared with what: which cells of saved sessions form a side, and which its baseline.

A pairing sets one side against its baseline; a side is the cells of one mode in one or more
sessions that agree in all that can change a time. What remains without a counterpart is named, with
the reason.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from inference_benchmark.reporting.comparison_request import ACROSS, ComparisonRequest
from inference_benchmark.reporting.conditions import distance
from inference_benchmark.reporting.saved_cells import (
    ComparisonError,
    Fingerprint,
    SavedCell,
    Skipped,
)
from inference_benchmark.reporting.sides import (
    Key,
    Side,
    default_baseline,
    grouped,
    least_difference,
    match,
    side_called,
    side_namer,
    sides_of,
    uniform_parts,
)


@dataclass(frozen=True)
class Pairing:
    name: str  # what tells the side from its baseline: a mode, a file, a value of --across
    candidate: Side
    baseline: Side = ()  # empty: there is nothing to compare it with


@dataclass
class Plan:
    pairings: list[Pairing] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    missing: list[Skipped] = field(default_factory=list)  # cells of a baseline that another lacks
    notes: list[str] = field(default_factory=list)
    baseline_files: set[str] = field(default_factory=set)  # empty: modes are compared

    def skip(self, cells: Iterable[SavedCell], reason: str) -> None:
        self.skipped += [Skipped(cell.file, cell.label, reason) for cell in cells]

    def unpaired(self, cells: Iterable[SavedCell]) -> list[SavedCell]:
        paired = {cell for pair in self.pairings for cell in (*pair.candidate, *pair.baseline)}
        return [cell for cell in cells if cell not in paired]


def make_plan(
    request: ComparisonRequest, baseline_file: str | None, cells: list[SavedCell]
) -> Plan:
    plan = Plan()
    if request.across:
        _pair_across(plan, request, baseline_file, cells)
        return plan
    baseline_file = baseline_file or _first_of_two(request, cells)
    if request.before or baseline_file:
        bases = _baseline_cells(request, baseline_file, cells)
        plan.baseline_files = {*request.before, *filter(None, [baseline_file])}
        plan.baseline_files |= {cell.file for cell in bases}
        _pair_sessions(plan, request, bases, [cell for cell in cells if cell not in bases])
    elif request.baseline:
        _pair_by_mode(plan, request, cells)
    else:
        _pair_with_oldest(plan, request, cells)
    return plan


def _first_of_two(request: ComparisonRequest, cells: list[SavedCell]) -> str | None:
    """The first of two files, unless these are one set, or a mode to compare with was named."""
    is_one_set = len({cell.session_set for cell in cells}) < 2
    if len(request.files) != 2 or request.baseline is not None or (cells and is_one_set):
        return None
    return request.files[0]


def _baseline_cells(
    request: ComparisonRequest, baseline_file: str | None, cells: list[SavedCell]
) -> list[SavedCell]:
    """Those of the sessions that the others are compared with: of a file with its whole set."""
    if request.before:
        return [cell for cell in cells if cell.file in request.before]
    chosen = {cell.session_set for cell in cells if cell.file == baseline_file}
    return [cell for cell in cells if cell.session_set in chosen]


def _pair_with_oldest(plan: Plan, request: ComparisonRequest, cells: list[SavedCell]) -> None:
    """What was measured in several sets, against the oldest of them; the rest mode by mode."""
    groups = grouped(cells, lambda cell: cell.fingerprint)
    oldest = min(cells, key=lambda cell: cell.created, default=None)
    base_files = plan.baseline_files
    for group in groups:
        sides = grouped(group, lambda cell: (cell.label, cell.side_name))
        recurring = [side for side in sides if len({cell.session_set for cell in side}) > 1]
        if not recurring:
            _pair_by_mode(plan, request, list(group))
            continue
        for side in recurring:
            first = min(side, key=lambda cell: cell.created)
            bases = [cell for cell in side if cell.session_set == first.session_set]
            base_files |= {cell.file for cell in bases}
            for other in grouped(side, lambda cell: cell.session_set):
                if other[0] not in bases:
                    plan.pairings += _closest(request, other[0].file, other, tuple(bases))
        lonely = [cell for side in sides if side not in recurring for cell in side]
        plan.skip(lonely, "in no other session; --baseline MODE compares modes")
    if not base_files or oldest is None:
        return
    chosen = (
        f" ({next(iter(base_files))})" if len(base_files) == 1 else " of those that hold a cell"
    )
    plan.notes.append(
        f"baseline: the oldest file{chosen}; --baseline names another, or a mode: then the sessions "
        "of a mode are taken together"
    )
    base_cells = [cell for cell in cells if cell.session_set == oldest.session_set]
    for later in grouped(cells, lambda cell: cell.session_set):
        if later[0] not in base_cells:
            _note_missing(plan, later[0].file, base_cells, later)


def _note_missing(
    plan: Plan, where: str, bases: Iterable[SavedCell], met: Iterable[SavedCell]
) -> None:
    """Cells of the baseline that are not among those that were met with."""
    labels = {(cell.label, cell.fingerprint) for cell in met}
    plan.missing += [
        Skipped(where, side[0].label, f"was measured in {side[0].file}, and is missing here")
        for side in sides_of(bases)
        if (side[0].label, side[0].fingerprint) not in labels
    ]


def _pair_sessions(
    plan: Plan, request: ComparisonRequest, bases: list[SavedCell], others: list[SavedCell]
) -> None:
    """Every side of another session, or of all that came after, against its counterpart."""
    key = _comparable_key(request, bases, others)

    def group_of(cell: SavedCell) -> str:
        return "after" if request.before else cell.session_set

    for group in grouped(others, group_of):
        matches: dict[Side, Side] = {}
        for comparable in grouped((*bases, *group), key):
            base_sides = sides_of([cell for cell in comparable if cell in bases])
            matches |= match(
                sides_of([cell for cell in comparable if cell not in bases]), base_sides
            )
        for side, base in matches.items():
            plan.pairings += _closest(request, group[0].file, side, base)
        where = "after" if request.before else group[0].file
        _note_missing(plan, where, bases, itertools.chain(*matches.values()))
    for cell in plan.unpaired((*bases, *others)):
        rest = others if cell in bases else bases
        if any(key(cell) == key(other) and cell.label == other.label for other in rest):
            plan.skip([cell], "what it could be compared with agrees better with other sessions")
            continue
        differing = least_difference([cell], rest, key)
        where = f"; the nearest cell differs in {differing}" if differing else ""
        plan.skip([cell], f"no counterpart{where}")


def _closest(request: ComparisonRequest, name: str, side: Side, base: Side) -> Iterable[Pairing]:
    """Each part of a side that is of one thing, against the part of its baseline most like it."""
    parts = uniform_parts(base, request.ignore)
    for part in uniform_parts(side, request.ignore):
        yield Pairing(name, part, min(parts, key=lambda candidate: distance(part[0], candidate[0])))


def _pair_by_mode(plan: Plan, request: ComparisonRequest, cells: list[SavedCell]) -> None:
    """Within each fingerprint every mode against one of them, sessions of a mode together."""
    wanted = request.baseline
    is_known = wanted is None
    for group in grouped(cells, lambda cell: cell.fingerprint):
        measured_first = sorted(group, key=lambda cell: cell.is_estimate)
        sides = grouped(measured_first, lambda cell: cell.side_name)
        base = side_called(wanted, sides) if wanted else default_baseline(sides)
        if base is None:
            plan.skip(group, f"no {wanted} with its fingerprint")
            continue
        is_known = True
        for side in sides:
            if side is not base:
                plan.pairings += _closest(request, side[0].side_name, side, base)
            elif len(sides) == 1:
                plan.pairings += [
                    Pairing(part[0].side_name, part) for part in uniform_parts(side, request.ignore)
                ]
    if not is_known:
        raise _unknown("baseline: no file or mode", wanted, [cell.variant for cell in cells])


def _pair_across(
    plan: Plan, request: ComparisonRequest, baseline_file: str | None, cells: list[SavedCell]
) -> None:
    """Along one field of the fingerprint, everything else and the mode being equal."""
    left, right = _two_files(request, cells)
    key = _comparable_key(request, left, right)
    value = side_namer(ACROSS[str(request.across)], cells)
    possible = [value(cell) for cell in cells if baseline_file in (None, cell.file)]
    named = None if baseline_file else request.baseline
    wanted = named or next(iter(possible), "")
    if cells and wanted not in possible:
        raise _unknown(f"baseline: no file or {request.across}", wanted, possible)
    for group in grouped(cells, key):
        sides = grouped(group, lambda cell: (value(cell), cell.label))
        bases = [side for side in sides if value(side[0]) == wanted]
        for along in grouped(sides, lambda side: value(side[0])):
            pairs = match(along, bases) if along[0] not in bases else {}
            for side, base in pairs.items():
                plan.pairings += _closest(request, value(along[0][0]), side, base)
        lonely = plan.unpaired(itertools.chain(*sides))
        plan.skip(lonely, f"no counterpart along {request.across}")


def _two_files(
    request: ComparisonRequest, cells: list[SavedCell]
) -> tuple[list[SavedCell], list[SavedCell]]:
    """The cells of either of two files; of none or more, nobody named two to be compared."""
    if len(request.files) != 2:
        return [], []
    left, right = ([cell for cell in cells if cell.file == file] for file in request.files)
    return left, right


def _comparable_key(
    request: ComparisonRequest, left: list[SavedCell], right: list[SavedCell]
) -> Key:
    """What has to be equal in a pairing. Two named sides must have some of it in common."""
    left_out = ACROSS[request.across] if request.across else ()
    names = [field.name for field in fields(Fingerprint) if field.name not in left_out]

    def key(cell: SavedCell) -> tuple[tuple[str, Any], ...]:
        return tuple((name, getattr(cell.fingerprint, name)) for name in names)

    are_two_sides = bool(request.before) or len(request.files) == 2
    if not are_two_sides or not left or not right or set(map(key, left)) & set(map(key, right)):
        return key
    if request.force:
        return lambda cell: ()
    raise ComparisonError(
        f"{left[0].file} and {right[0].file} can't be compared: {least_difference(left, right, key)}; "
        f"--force does it anyway, --across {{{','.join(ACROSS)}}} on purpose"
    )


def _unknown(noun: str, name: str | None, valid: Iterable[str]) -> ComparisonError:
    names = list(dict.fromkeys(valid))
    near = get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    return ComparisonError(f"{noun} '{name}'{hint} (there are: {', '.join(names)})")
