"""Compares the cells of saved result files: reads, pairs and judges them; prints nothing.

A pairing sets one side against its baseline; a side is the cells of one mode in one or more
sessions. Cells of the same session were interleaved, so that they are compared round by round.
Between sessions clocks, temperature and placement differ; there the session is the unit, and the
band of "same" is wider. Every ratio is a speed-up, above 1 where the row is better than its
baseline. Imports no torch: twenty files are compared in well under a second.
"""

import itertools
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from statistics import median
from typing import Any, TypeVar

from measurement.statistics import (
    BAND_ACROSS_SESSIONS,
    BAND_WITHIN_SESSION,
    Ratio,
    adjust_for_many,
    compare,
    compare_sessions,
    geometric_mean,
    single_ratio,
)
from reporting.labels import num_layers, variant

SCHEMA_VERSION = 1


class ComparisonError(ValueError):
    """The request or a file is at fault; the message is one line."""


@dataclass(frozen=True)
class Metric:
    key: str
    is_timed: bool = True  # has a value per run, hence an interval and a verdict
    is_rate: bool = False  # kept as seconds per token, shown as tokens per second


METRICS = (
    Metric("ttft_s"),
    Metric("tbot_s"),
    Metric("total_s"),
    Metric("output_tokens_per_s", is_rate=True),
    Metric("peak_memory_bytes", is_timed=False),
    Metric("cost_per_million_output_tokens", is_timed=False),
)

ACROSS = {  # what --across leaves out of the fingerprint; the first field names the sides
    "gpu": ("gpu",),
    "model": ("model_name", "num_layers"),
    "precision": ("precision",),
    "batch": ("batch_size",),
}

_IN_WORDS = {
    "gpu": "{}",
    "model_name": "{}",
    "num_layers": "{} layers",
    "input_length": "{} tokens in",
    "output_length": "{} out",
    "batch_size": "batch {}",
    "precision": "{}",
    "timer": "{}",
}
_SOFTWARE = (
    "driver",
    "cuda",
    "torch",
    "thunder",
    "nvfuser",
    "transformer_engine",
    "triton",
    "git_commit",
    "git_dirty",
)


@dataclass(frozen=True)
class Fingerprint:
    """What has to be equal for two times to be comparable."""

    gpu: str
    model_name: str
    num_layers: int
    input_length: int
    output_length: int
    batch_size: int
    precision: str
    timer: str


@dataclass(frozen=True)
class Cell:
    """A cell of a result file; samples[metric] holds a number per run, lower is better."""

    file: str
    label: str
    variant: str  # the label without its batch size
    is_estimate: bool
    mode: str
    fingerprint: Fingerprint
    full_num_layers: int | None
    rounds: tuple[int, ...]
    samples: dict[str, list[float]]  # a metric that wasn't measured is absent
    baseline_label: str | None  # the baseline of its own session
    software: dict[str, str]
    remarks: tuple[str, ...]

    def side_name(self) -> str:
        """Estimates of a mode are another side than its measurements."""
        return f"{self.variant} ESTIMATE" if self.is_estimate else self.variant


@dataclass(frozen=True)
class Skipped:
    file: str
    label: str
    reason: str
    is_failure: bool = False  # it was meant to be measured, and has no speed that counts


@dataclass(frozen=True)
class Pairing:
    name: str  # what tells the side from its baseline: a mode, a file, a value of --across
    candidate: tuple[Cell, ...]
    baseline: tuple[Cell, ...] = ()  # empty: there is nothing to compare it with


@dataclass(frozen=True)
class Measured:
    baseline: float | None
    value: float | None
    ratio: Ratio | None


@dataclass(frozen=True)
class Row:
    name: str
    title: str  # the fingerprint in words
    label: str
    files: tuple[str, ...]
    baseline_label: str | None
    baseline_files: tuple[str, ...]
    left_out: tuple[str, ...]  # files with one of the sides only, where others have both
    unit: str  # of the samples: "rounds", "runs", "sessions"
    metrics: dict[str, Measured]


@dataclass(frozen=True)
class Report:
    rows: list[Row]
    geometric_means: dict[str, dict[str, float]]  # by name of the side, then by metric
    skipped: list[Skipped]
    notes: list[str]
    regressions: list[str]


@dataclass(frozen=True)
class Request:
    files: Sequence[str]
    baseline: str | None = None  # a file or a mode; with across, a file or a value
    across: str | None = None
    threshold: float | None = None  # replaces the bands
    force: bool = False


@dataclass
class _Plan:
    pairings: list[Pairing] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def skip(self, cells: Iterable[Cell], reason: str) -> None:
        self.skipped += [Skipped(cell.file, cell.label, reason) for cell in cells]


def make_report(request: Request) -> Report:
    """Read, pair, judge.

    Raises:
        ComparisonError: a file can't be read or compared, or the request makes no sense.
    """
    request, baseline_file = _resolve_files(request)
    read = [read_cells(file) for file in request.files]
    cells = [cell for found, _ in read for cell in found]
    unusable = [skipped for _, group in read for skipped in group]
    plan = _make_plan(request, baseline_file, cells)
    rows = _adjusted([_judge(pairing, request.threshold) for pairing in plan.pairings])
    failures = [skip for skip in unusable if skip.is_failure and skip.file != baseline_file]
    return Report(
        rows=rows,
        geometric_means=_geometric_means(rows),
        skipped=unusable + plan.skipped,
        notes=_notes(plan.pairings, rows),
        regressions=_regressions(rows, failures),
    )


def _resolve_files(request: Request) -> tuple[Request, str | None]:
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


# Reading -------------------------------------------------------------------------------------


def read_cells(file: str) -> tuple[list[Cell], list[Skipped]]:
    """The cells of a result file that can be compared, and those that can't.

    Raises:
        ComparisonError: it can't be read, or isn't a result that this version understands.
    """
    document = _load(file)
    cells: dict[str, Cell] = {}
    skipped: list[Skipped] = []
    try:
        for record in document["cells"]:
            label, unusable = record["label"], _unusable(record)
            if unusable:
                skipped.append(Skipped(file, label, *unusable))
            elif label in cells:
                skipped.append(Skipped(file, label, "its label stands twice in the file"))
            else:
                cells[label] = _cell(file, document, record)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        message = f"{file}: is not a whole result file of this benchmark ({_first_line(error)})"
        raise ComparisonError(message) from error
    return list(cells.values()), skipped


def _load(file: str) -> dict:
    try:
        with open(file, encoding="utf-8") as stream:
            text = stream.read()
        document = json.loads(text) if text.strip() else None
    except OSError as error:
        raise ComparisonError(f"{file}: can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ComparisonError(f"{file}: is not JSON, or is truncated") from error
    if document is None:
        raise ComparisonError(f"{file}: is empty")
    version = document.get("schema_version") if isinstance(document, dict) else None
    if not isinstance(version, int):
        raise ComparisonError(f"{file}: is not a result file of this benchmark")
    if version > SCHEMA_VERSION:
        raise ComparisonError(
            f"{file}: has schema version {version}, newer than the {SCHEMA_VERSION} known here: "
            "update this program"
        )
    return document


def _first_line(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"no {error.args[0]}"
    return str(error).partition("\n")[0]


def _unusable(record: dict) -> tuple[str, bool] | None:
    """(why the cell has no speed that counts, whether that is a failure)."""
    if record["agreement"] is not None and not record["agreement"]["passed"]:
        return "wrong output", True
    if record["status"] not in ("ok", "partial"):
        words = record["status"].replace("_", " ")
        reason = f"{words}: {record['error']}" if record["error"] else words
        return reason, record["status"] != "unsupported"
    return None if record["samples"] and record["samples"]["ttft_s"] else ("no finished run", False)


def _cell(file: str, document: dict, record: dict) -> Cell:
    config, environment = document["config"], document["environment"]
    gpu, ranks = environment["gpu"], config["tensor_parallel"] or 1
    device = str(gpu["name"] or "unknown GPU") if gpu else "CPU"
    fingerprint = Fingerprint(
        gpu=device if ranks == 1 else f"{ranks} x {device}",
        model_name=str(config["model_name"]),
        num_layers=int(num_layers(config, record)),
        input_length=int(config["input_length"]),
        output_length=int(config["output_length"]),
        batch_size=int(record["batch_size"]),
        precision=str(record["options"].get("precision") or config["precision"]),
        timer=str(record["timer"]),
    )
    return Cell(
        file=file,
        label=record["label"],
        variant=variant(record),
        is_estimate=bool(record["estimated"]),
        mode=str(record["mode"]),
        fingerprint=fingerprint,
        full_num_layers=config.get("full_num_layers"),
        rounds=tuple(map(int, record["samples"]["round"])),
        samples=_samples(record, fingerprint),
        baseline_label=str(record["speedup"]["baseline"]) if record["speedup"] else None,
        software={name: str(environment.get(name)) for name in _SOFTWARE},
        remarks=tuple(_remarks(record)),
    )


def _samples(record: dict, fingerprint: Fingerprint) -> dict[str, list[float]]:
    ttft_s, decode_s = record["samples"]["ttft_s"], record["samples"]["decode_s"]
    steps = fingerprint.output_length - 1
    if not steps:
        decode_s = [0.0] * len(ttft_s)
    total_s = [first + rest for first, rest in zip(ttft_s, decode_s, strict=True)]
    if len(record["samples"]["round"]) != len(total_s):
        raise ValueError("samples of unequal length")
    if not all(0 < first <= total < math.inf for first, total in zip(ttft_s, total_s, strict=True)):
        raise ValueError("a time is not a positive number")
    tokens = fingerprint.batch_size * fingerprint.output_length
    cost = (record["summary"] or {}).get("cost_per_million_tokens") or {}
    samples = {
        "ttft_s": ttft_s,
        "tbot_s": [time / steps for time in decode_s] if steps else [],
        "total_s": total_s,
        "output_tokens_per_s": [time / tokens for time in total_s],
        "peak_memory_bytes": [float((record["memory"] or {}).get("peak_allocated_bytes") or 0)],
        "cost_per_million_output_tokens": [float((cost.get("output") or {}).get("median") or 0)],
    }
    return {key: times for key, times in samples.items() if times and all(t > 0 for t in times)}


def _remarks(record: dict) -> Iterable[str]:
    validity = record["validity"]
    if validity and validity["verdict"] != "valid":
        codes = ", ".join(reason["code"] for reason in validity["reasons"])
        yield f"is {validity['verdict']} ({codes})"
    if record["status"] == "partial":
        yield "is partial: its session didn't end"
    if record["estimated"]:
        small, large = record["extrapolation"]["from_layers"]
        yield f"is an estimate from {small} and {large} layers, not a measurement"


# Pairing -------------------------------------------------------------------------------------

T = TypeVar("T")
Side = tuple[Cell, ...]
Key = Callable[[Cell], Any]


def _make_plan(request: Request, baseline_file: str | None, cells: list[Cell]) -> _Plan:
    plan = _Plan()
    if request.across:
        _pair_across(plan, request, baseline_file, cells)
    elif baseline_file:
        _pair_by_file(plan, request, baseline_file, cells)
    else:
        _pair_by_mode(plan, request.baseline, cells)
    return plan


def _pair_by_file(plan: _Plan, request: Request, baseline_file: str, cells: list[Cell]) -> None:
    """Every cell of another file against its counterpart in the baseline file."""
    key = _comparable_key(request, cells)
    bases = [(cell,) for cell in cells if cell.file == baseline_file]
    lonely = {id(cell): cell for cell in cells}
    others = [cell for cell in cells if cell.file != baseline_file]
    for group in _grouped(others, lambda cell: (cell.file, key(cell))):
        peers = [base for base in bases if key(base[0]) == key(group[0])]
        for side, base in _match([(cell,) for cell in group], peers):
            plan.pairings.append(Pairing(side[0].file, side, base))
            lonely.pop(id(side[0]), None)
            lonely.pop(id(base[0]), None)
    for cell in lonely.values():
        rest = [base[0] for base in bases] if cell.file != baseline_file else others
        differing = _difference([cell], rest, key)
        where = f"; the nearest cell differs in {differing}" if differing else ""
        plan.skip([cell], f"no counterpart{where}")


def _pair_by_mode(plan: _Plan, wanted: str | None, cells: list[Cell]) -> None:
    """Within each fingerprint every mode against one of them, sessions of a mode together."""
    is_known = wanted is None
    for group in _grouped(cells, lambda cell: cell.fingerprint):
        sides = _grouped(sorted(group, key=lambda cell: cell.is_estimate), Cell.side_name)
        is_one_mode = wanted is None and len(sides) == 1  # then its files are the sides
        if is_one_mode:
            sides = [(cell,) for cell in group]
        base = _side_called(wanted, sides) if wanted else _default_baseline(sides)
        if base is None:
            plan.skip(group, f"no {wanted} with its fingerprint")
            continue
        is_known = True
        for side in sides:
            name = side[0].file if is_one_mode else side[0].side_name()
            if side is not base:
                plan.pairings.append(Pairing(name, side, base))
            elif len(sides) == 1:
                plan.pairings.append(Pairing(name, side))
    if not is_known:
        raise _unknown("baseline: no file or mode", wanted, [cell.variant for cell in cells])


def _pair_across(
    plan: _Plan, request: Request, baseline_file: str | None, cells: list[Cell]
) -> None:
    """Along one field of the fingerprint, everything else and the mode being equal."""
    key = _comparable_key(request, cells)
    name = ACROSS[str(request.across)][0]

    def value(cell: Cell) -> str:
        return str(getattr(cell.fingerprint, name))

    possible = [value(cell) for cell in cells if baseline_file in (None, cell.file)]
    wanted = (
        request.baseline if request.baseline and not baseline_file else next(iter(possible), "")
    )
    if cells and wanted not in possible:
        raise _unknown(f"baseline: no file or {request.across}", wanted, possible)
    for group in _grouped(cells, key):
        sides = _grouped(group, lambda cell: (value(cell), cell.label))
        bases = [side for side in sides if value(side[0]) == wanted]
        lonely = {id(side): side for side in sides}
        for along in _grouped(sides, lambda side: value(side[0])):
            for side, base in _match(along, bases) if along[0] not in bases else ():
                plan.pairings.append(Pairing(value(side[0]), side, base))
                lonely.pop(id(side), None)
                lonely.pop(id(base), None)
        plan.skip(itertools.chain(*lonely.values()), f"no counterpart along {request.across}")


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


def _match(sides: Sequence[Side], bases: Sequence[Side]) -> list[tuple[Side, Side]]:
    """Pairs of a side with its baseline, by the closest name there is.

    A baseline that has its exact counterpart serves no other side; a lone one serves all.
    """
    criteria: list[Key] = [lambda c: c.label, lambda c: c.variant, lambda c: c.mode]
    if len(bases) == 1:
        criteria.append(lambda cell: None)
    left, free = list(sides), list(bases)
    pairs: list[tuple[Side, Side]] = []
    for same in criteria:
        found = [(side, base) for side in left for base in free if same(side[0]) == same(base[0])]
        unique = [pair for pair in found if sum(pair[0] is side for side, _ in found) == 1]
        pairs += unique
        left = [side for side in left if all(side is not done for done, _ in unique)]
        free = [base for base in free if all(base is not used for _, used in unique)]
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


def _grouped(items: Iterable[T], key: Callable[[T], Any]) -> list[tuple[T, ...]]:
    groups: dict[Any, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return [tuple(group) for group in groups.values()]


def _unknown(what: str, name: str | None, valid: Iterable[str]) -> ComparisonError:
    names = list(dict.fromkeys(valid))
    near = get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    return ComparisonError(f"{what} '{name}'{hint} (there are: {', '.join(names)})")


# Judging -------------------------------------------------------------------------------------


def _judge(pairing: Pairing, threshold: float | None) -> Row:
    candidate, baseline = pairing.candidate, pairing.baseline
    shared = {cell.file for cell in candidate} & {cell.file for cell in baseline}
    left_out: list[str] = []
    if shared:  # sessions that interleaved both sides say more than those that hold one
        left_out = [cell.file for cell in (*candidate, *baseline) if cell.file not in shared]
        candidate = tuple(cell for cell in candidate if cell.file in shared)
        baseline = tuple(cell for cell in baseline if cell.file in shared)
    band = BAND_WITHIN_SESSION if shared else BAND_ACROSS_SESSIONS
    band = band if threshold is None else threshold
    label, baseline_label = _labels(candidate[0], baseline[0] if baseline else None)
    return Row(
        name=pairing.name,
        title=", ".join(_words(candidate[0], _agreed((*candidate, *baseline)))),
        label=label,
        files=tuple(cell.file for cell in candidate),
        baseline_label=baseline_label,
        baseline_files=tuple(cell.file for cell in baseline),
        left_out=tuple(left_out),
        unit=_unit(candidate, baseline, bool(shared)),
        metrics={
            each.key: _measure(each, candidate, baseline, bool(shared), band) for each in METRICS
        },
    )


def _unit(candidate: Side, baseline: Side, is_paired: bool) -> str:
    if len(candidate) > 1 or len(baseline) > 1:
        return "sessions"
    return "rounds" if is_paired else "runs"


def _measure(
    metric: Metric, candidate: Side, baseline: Side, is_paired: bool, band: float
) -> Measured:
    before = [cell.samples.get(metric.key, []) for cell in baseline]
    after = [cell.samples.get(metric.key, []) for cell in candidate]
    shown = _shown(metric, before), _shown(metric, after)
    if None in shown:
        return Measured(*shown, None)
    medians = [median(runs) for runs in before], [median(runs) for runs in after]
    ratio: Ratio | None
    if not metric.is_timed:
        ratio = single_ratio(*map(median, medians))
    elif not is_paired:
        ratio = compare_sessions(before, after, band=band)
    elif len(candidate) > 1:
        ratio = compare(*medians, paired=True, band=band)
    else:
        rounds = _in_common_rounds(metric, baseline[0], candidate[0])
        ratio = compare(*rounds, paired=True, band=band) if rounds[0] else None
    return Measured(*shown, ratio)


def _shown(metric: Metric, runs: list[list[float]]) -> float | None:
    """One number for a side: the median of its sessions' medians, in the metric's own unit."""
    if not runs or not all(runs):
        return None
    middle = median(map(median, runs))
    return 1 / middle if metric.is_rate else middle


def _in_common_rounds(metric: Metric, *cells: Cell) -> list[list[float]]:
    common = set.intersection(*(set(cell.rounds) for cell in cells))
    of_round = [dict(zip(cell.rounds, cell.samples[metric.key], strict=True)) for cell in cells]
    return [[samples[number] for number in sorted(common)] for samples in of_round]


def _agreed(cells: Sequence[Cell]) -> list[str]:
    """Names of the fields of the fingerprint in which all cells agree."""
    first = cells[0].fingerprint
    return [
        name
        for name in _IN_WORDS
        if all(getattr(cell.fingerprint, name) == getattr(first, name) for cell in cells)
    ]


def _words(cell: Cell, names: Iterable[str]) -> list[str]:
    """Fields of a cell's fingerprint; fewer layers than the model has are always said to be so."""
    values = {name: getattr(cell.fingerprint, name) for name in names}
    if "num_layers" in values and cell.full_num_layers not in (None, values["num_layers"]):
        values["num_layers"] = f"{values['num_layers']} of {cell.full_num_layers}"
    return [_IN_WORDS[name].format(value) for name, value in values.items()]


def _labels(cell: Cell, baseline: Cell | None) -> tuple[str, str | None]:
    """Labels with what differs between the two, save for the batch size, which is in the label."""
    if baseline is None:
        return cell.label, None
    agreed = {*_agreed((cell, baseline)), "batch_size"}
    differing = [name for name in _IN_WORDS if name not in agreed]
    labels = [
        f"{each.label} [{', '.join(_words(each, differing))}]" if differing else each.label
        for each in (cell, baseline)
    ]
    return labels[0], labels[1]


def _adjusted(rows: list[Row]) -> list[Row]:
    """Verdicts that allow for how many cells are compared, metric by metric."""
    metrics: list[dict[str, Measured]] = [{} for _ in rows]
    for metric in METRICS:
        found = [row.metrics[metric.key] for row in rows]
        adjusted = iter(adjust_for_many([each.ratio for each in found if each.ratio]))
        for new, each in zip(metrics, found, strict=True):
            new[metric.key] = replace(each, ratio=next(adjusted)) if each.ratio else each
    return [replace(row, metrics=new) for row, new in zip(rows, metrics, strict=True)]


def _geometric_means(rows: list[Row]) -> dict[str, dict[str, float]]:
    means: dict[str, dict[str, float]] = {}
    for group in _grouped(rows, lambda row: row.name):
        for metric in METRICS:
            measured = [row.metrics[metric.key].ratio for row in group]
            mean = geometric_mean([each.ratio for each in measured if each])
            if len(group) > 1 and mean is not None:
                means.setdefault(group[0].name, {})[metric.key] = mean
    return means


def _notes(pairings: list[Pairing], rows: list[Row]) -> list[str]:
    notes = []
    if any(row.unit == "runs" and row.baseline_files for row in rows):
        notes.append("one session per side: differences between sessions are not measured")
    notes += [
        f"{row.label} against {row.baseline_label}: without {', '.join(row.left_out)}, where only "
        "one of them was measured"
        for row in rows
        if row.left_out
    ]
    for pairing in pairings:
        cells = (*pairing.baseline, *pairing.candidate)
        notes += [f"{cell.label} ({cell.file}) {text}" for cell in cells for text in cell.remarks]
        differing = ", ".join(_differing_software(cells))
        if differing:
            notes.append(f"{cells[0].label}: sessions differ in {differing}")
    return list(dict.fromkeys(notes))


def _differing_software(cells: Sequence[Cell]) -> Iterable[str]:
    for name in _SOFTWARE:
        values = list(dict.fromkeys(cell.software[name] for cell in cells))
        if len(values) > 1:
            yield f"{name} {' | '.join(values) if len(values) == 2 else f'({len(values)} values)'}"


def _regressions(rows: list[Row], failures: list[Skipped]) -> list[str]:
    slower = [
        f"{row.label} ({', '.join(row.files)}): {metric.key} is {measured.ratio.ratio:.3f} x the "
        f"speed of {row.baseline_label}"
        for row in rows
        for metric in METRICS
        if (measured := row.metrics[metric.key]).ratio and measured.ratio.verdict == "slower"
    ]
    return slower + [f"{skip.label} ({skip.file}): {skip.reason}" for skip in failures]
