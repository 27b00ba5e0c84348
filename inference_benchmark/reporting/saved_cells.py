"""Cells of saved result files, as comparisons see them; a broken file is refused in one line."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass

from inference_benchmark.reporting.labels import num_layers, variant

SCHEMA_VERSION = 1

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


class ComparisonError(ValueError):
    """The request or a file is at fault; the message is one line."""


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


@dataclass(frozen=True, eq=False)  # two equal cells are still two
class Cell:
    """A cell of a result file; samples[metric] holds a number per run, lower is better."""

    file: str
    label: str
    variant: str  # the label without its batch size
    estimated_from: tuple[int, ...]  # the depths that an estimate comes from; none: measured
    mode: str
    fingerprint: Fingerprint
    full_num_layers: int | None
    rounds: tuple[int, ...]
    samples: dict[str, list[float]]  # a metric that wasn't measured is absent
    baseline_label: str | None  # the baseline of its own session
    software: dict[str, str]
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
        estimated_from=tuple((record.get("extrapolation") or {}).get("from_layers", ())),
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
        codes = dict.fromkeys(reason["code"] for reason in validity["reasons"])
        yield f"{validity['verdict']} ({', '.join(codes)})"
    if record["status"] == "partial":
        yield "partial: the session didn't end"
    if record["estimated"]:
        small, large = record["extrapolation"]["from_layers"]
        yield f"an estimate from {small} and {large} layers, not a measurement"
