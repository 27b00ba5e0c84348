"""Cells of saved result files, as comparisons see them; a broken file is refused in one line."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

from inference_benchmark.options.identity import IDENTITY_FIELDS
from inference_benchmark.reporting.conditions import conditions_of
from inference_benchmark.reporting.kernel_names import KERNELS
from inference_benchmark.reporting.labels import context_depth
from inference_benchmark.reporting.reading import ResultFileError, read_result

_COMPLETE = "complete"


class ComparisonError(ValueError):
    """The request or a file is at fault; the message is one line."""


@dataclass(frozen=True)
class Fingerprint:
    """What has to be equal for two times to be comparable."""

    workload: str
    gpu: str
    model_name: str
    num_layers: int
    input_length: int
    output_length: int | None
    batch_size: int
    precision: str
    timer: str
    context_depth: int | None = None
    further: tuple[tuple[str, str], ...] = ()  # other flags that decide what the work is


_FURTHER_FIELDS = tuple(
    name for name in IDENTITY_FIELDS if name not in {field.name for field in fields(Fingerprint)}
)


@dataclass(frozen=True)
class Shown:
    """A metric or a rate of a workload, or another number of a cell, that comparisons show."""

    name: str
    title: str
    unit: str  # "s", "1/s", "bytes", "$" or a workload's own
    better: str = "lower"
    over: str | None = None  # of a rate: the metric whose time it divides by
    is_timed: bool = True  # has a value per run, hence an interval and a verdict


NUMBERS = (
    Shown("peak_memory_bytes", "peak", "bytes", is_timed=False),
    Shown("cost_per_million_output_tokens", "$/M output", "$", is_timed=False),
    Shown("cost_per_million_tokens", "$/M tokens", "$", is_timed=False),
)


@dataclass(frozen=True, eq=False)  # two equal cells are still two
class SavedCell:
    """A cell of a result file; samples[name] holds a number per run, of a rate seconds per unit."""

    file: str
    session_set: str  # what stands for all sessions of one set; of a lone one its file
    created: str
    command: tuple[str, ...]
    label: str
    variant: str  # the mode as it is shown
    estimated_from: tuple[int, ...]  # the depths that an estimate comes from; none: measured
    mode: str  # its name alone, with +kernels where these are this project's
    fingerprint: Fingerprint
    full_num_layers: int | None
    rounds: tuple[int, ...]
    interleaved: bool  # with the other cells of its batch size in this file
    shown: tuple[Shown, ...]
    samples: dict[str, list[float]]  # what wasn't measured is absent
    baseline_label: str | None  # the baseline of its own session
    conditions: dict[str, str]
    remarks: tuple[str, ...]

    @property
    def is_estimate(self) -> bool:
        return bool(self.estimated_from)

    @property
    def side_name(self) -> str:
        """Estimates of a mode are another side than its measurements, and those from other depths
        yet another."""
        depths = "-".join(map(str, self.estimated_from))
        return f"{self.variant} EST {depths}" if self.is_estimate else self.variant


@dataclass(frozen=True)
class Skipped:
    file: str
    label: str
    reason: str
    is_failure: bool = False  # it was meant to be measured, and has no speed that counts


def read_cells(file: str) -> tuple[list[SavedCell], list[Skipped]]:
    """The cells of a result file that can be compared, and those that can't.

    Raises:
        ComparisonError: it can't be read, or isn't a result that this version understands.
    """
    try:
        result = read_result(file)
    except ResultFileError as error:
        raise ComparisonError(str(error)) from error
    try:
        return cells_of(file, result)
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        message = f"{file}: is not a whole result file of this benchmark ({_first_line(error)})"
        raise ComparisonError(message) from error


def cells_of(file: str, result: dict) -> tuple[list[SavedCell], list[Skipped]]:
    """Those of a result of version 2."""
    cells: dict[str, SavedCell] = {}
    skipped: list[Skipped] = []
    for record in result["cells"]:
        label, unusable = record["label"], _unusable(record)
        if unusable:
            skipped.append(Skipped(file, label, *unusable))
        elif label in cells:
            skipped.append(Skipped(file, label, "its label stands twice in the file"))
        else:
            cells[label] = _cell(file, result, record)
    return list(cells.values()), skipped


def _first_line(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"no {error.args[0]}"
    return str(error).partition("\n")[0]


def _unusable(record: dict) -> tuple[str, bool] | None:
    """(why the cell has no speed that counts, whether that is a failure)."""
    check = record["output_check"]
    if check is not None and not check["passed"]:
        return "wrong output", True
    if record["status"] not in ("ok", "partial"):
        words = record["status"].replace("_", " ")
        reason = f"{words}: {record['error']}" if record["error"] else words
        return reason, record["status"] != "unsupported"
    samples = record["samples"]
    return None if samples and samples["round"] else ("no finished run", False)


def _cell(file: str, result: dict, record: dict) -> SavedCell:
    config, name, session_set = result["config"], record["name"], result["session_set"]
    samples = _samples(result["workload"], record)
    return SavedCell(
        file=file,
        session_set=session_set["id"] if session_set else file,
        created=result["created"],
        command=tuple(map(str, result["command"])),
        label=record["label"],
        variant=name["variant"],
        estimated_from=tuple((record["extrapolation"] or {}).get("from_layers", ())),
        mode=record["mode"] + (KERNELS if name["kernels"] else ""),
        fingerprint=_fingerprint(result, record),
        full_num_layers=config.get("full_num_layers"),
        rounds=tuple(map(int, record["samples"]["round"])),
        interleaved=bool(record["group"]["interleaved"]),
        shown=tuple(metric for metric in _shown(result["workload"]) if metric.name in samples),
        samples=samples,
        baseline_label=str(record["speedup"]["baseline"]) if record["speedup"] else None,
        conditions=conditions_of(result, record),
        remarks=tuple(_remarks(result, record)),
    )


def _fingerprint(result: dict, record: dict) -> Fingerprint:
    config, gpu = result["config"], result["environment"]["gpu"]
    ranks, weights = config["tensor_parallel"] or 1, record["weights"]
    device = str(gpu["name"] or "unknown GPU") if gpu else "CPU"
    weight_format = (weights or {}).get("format") or config["precision"]
    compute = (weights or {}).get("compute") or weight_format
    return Fingerprint(
        workload=result["workload"]["name"],
        gpu=device if ranks == 1 else f"{ranks} x {device}",
        model_name=str(config["model_name"]),
        num_layers=int(record["num_layers"] or config["num_layers"]),
        input_length=record.get("input_length") or config["input_length"],
        output_length=config["output_length"],
        batch_size=record["batch_size"],
        precision=weight_format if weight_format == compute else f"{weight_format} as {compute}",
        timer=str(record["timer"]),
        context_depth=context_depth(record),
        further=tuple((name, str(config.get(name))) for name in _FURTHER_FIELDS),
    )


def _shown(workload: dict) -> Iterable[Shown]:
    """Headline metrics and rates, and the metrics that these rates divide by."""
    rates = [rate for rate in workload["rates"] if rate["headline"]]
    divided = {rate["over"] for rate in rates}
    for metric in workload["metrics"]:
        if metric["headline"] or metric["name"] in divided:
            yield Shown(metric["name"], metric["title"], metric["unit"], metric["better"])
    for rate in rates:
        yield Shown(rate["name"], rate["title"], "1/s", over=rate["over"])
    yield from NUMBERS


def _samples(workload: dict, record: dict) -> dict[str, list[float]]:
    """Of every number that is known."""
    metrics = record["samples"]["metrics"]
    samples = {name: list(values) for name, values in metrics.items() if values}
    if not all(0 < value < math.inf for values in samples.values() for value in values):
        raise ValueError("a time is not a positive number")
    for rate in workload["rates"]:
        amount, times = _amount(rate, record["summary"] or {}), samples.get(rate["over"])
        if _counts(amount) and times:
            samples[rate["name"]] = [time / amount for time in times]
    peak = (record["memory"] or {}).get("peak_allocated_bytes")
    cost = (record["summary"] or {}).get("cost_per_million_tokens") or {}
    output, everything = ((cost.get(tokens) or {}).get("median") for tokens in ("output", "total"))
    singles = {
        "peak_memory_bytes": peak,
        "cost_per_million_output_tokens": output,
        "cost_per_million_tokens": None if output else everything,
    }
    return samples | {name: [float(value)] for name, value in singles.items() if _counts(value)}


def _counts(value: float | None) -> bool:
    return value is not None and 0 < value < math.inf


def _amount(rate: dict, summary: dict) -> float | None:
    """How much a run yields of what the rate counts: tokens, as a rule."""
    value = (summary.get("rates") or {}).get(rate["name"])
    over = (summary.get("metrics") or {}).get(rate["over"]) or {}
    return value * over["median"] if value and over.get("median") else None


def _remarks(result: dict, record: dict) -> Iterable[str]:
    validity = record["validity"]
    if validity and validity["verdict"] != "valid":
        codes = dict.fromkeys(reason["code"] for reason in validity["reasons"])
        yield f"{validity['verdict']} ({', '.join(codes)})"
    if result["state"] != _COMPLETE:
        yield f"partial: the session's state is {result['state']}, it did not end"
    elif record["status"] == "partial":
        yield "partial: the session didn't end"
    if record["estimated"]:
        small, large = record["extrapolation"]["from_layers"]
        yield f"an estimate from {small} and {large} layers, not a measurement"
