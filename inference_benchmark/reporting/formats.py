"""A result in the form that was asked for: tables for people, Markdown, CSV or JSON for programs."""

import csv
import io
import json
from collections.abc import Sequence

from inference_benchmark.reporting import notes
from inference_benchmark.reporting.accuracy import accuracy_headers
from inference_benchmark.reporting.figures import (
    has_times,
    headline_rates,
    headlines,
    limit_of,
    main_metric,
    rate_of,
    runs,
    speedup_of,
    summary_of,
    titled_unit,
    verdict_words,
)
from inference_benchmark.reporting.labels import context_depth, model_label, variant
from inference_benchmark.reporting.reading import printable, to_version_2
from inference_benchmark.reporting.saving import finite
from inference_benchmark.reporting.summary import summary_notes, summary_row
from inference_benchmark.reporting.tables import headline, report

FORMATS = ("table", "markdown", "csv", "json")


def report_as(result: dict, format: str, details: bool = False, legend: bool = True) -> str:
    """The report in one of FORMATS; details and legend are of tables only.

    Raises:
        ValueError: no such format.
    """
    if format == "json":
        return json.dumps(finite(to_version_2(result)), allow_nan=False)
    if format == "table":
        return report(result, details, legend)
    if format not in FORMATS:
        raise ValueError(f"no format {format!r}: it is one of {', '.join(FORMATS)}")
    result = printable(to_version_2(result))
    return as_markdown(result) if format == "markdown" else as_csv(result)


def markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table. A bar or a line end in a cell would end it, so they are replaced."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(map(_in_a_cell, line))} |" for line in lines)


def _in_a_cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def as_markdown(result: dict) -> str:
    """The summary as a table, and under it what has to be said about it."""
    workload, cells = result["workload"], result["cells"]
    main = main_metric(workload, cells)
    headers = ["cell", *(titled_unit(metric) for metric in headlines(workload))]
    headers += [f"limit, of {main['title']}" if main else "limit"]
    headers += [declared["title"] for declared in headline_rates(workload)]
    headers += [*accuracy_headers(cells), "speed-up", "n", "verdict"]
    rows = [summary_row(result, cell, main, with_runs=True) for cell in cells]
    remarks = [*summary_notes(result), *notes.estimate_notes(result), *notes.basis_notes(cells)]
    remarks += notes.reasons(cells)
    remarks += [*result["warnings"], notes.stop_note(cells)]
    title = " ".join(headline(result).split())
    bullets = "\n".join(f"- {' '.join(note.split())}" for note in remarks)
    return f"{title}\n\n{markdown(headers, rows)}\n\n{bullets}"


_ACCURACY = ("kl_mean", "kl_max", "top1_agreement", "perplexity_ratio")


def as_csv(result: dict) -> str:
    """A row per cell, SI units, full precision; empty where nothing is known or counts."""
    stream = io.StringIO()
    rows = [_csv_row(result, cell) for cell in result["cells"]]
    writer = csv.DictWriter(stream, list(rows[0]) if rows else ["cell"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().rstrip("\n")


def _csv_row(result: dict, cell: dict) -> dict:
    config, gpu = result["config"], result["environment"]["gpu"]
    row = {
        "cell": cell["label"],
        "mode": cell["mode"],
        "variant": variant(cell),
        "batch_size": cell["batch_size"],
        "context_depth": context_depth(cell),
        "num_layers": cell["num_layers"],
        "model": model_label(config, cell),
        "gpu": gpu and gpu["name"],
        "workload": config["workload"],
        "scenario": config["scenario"],
        "input_length": config["input_length"],
        "output_length": config["output_length"],
        "weights": cell["weights"]["format"],
        **{name: (cell.get("accuracy") or {}).get(name) for name in _ACCURACY},
        "status": cell["status"],
        "verdict": " ".join(verdict_words(cell, gpu is None)),
        "runs": runs(cell),
        "limit_basis": cell["limit"] and cell["limit"]["basis"],
        "baseline": cell["speedup"]["baseline"] if has_times(cell) and cell["speedup"] else None,
    }
    for metric in result["workload"]["metrics"]:
        row |= _csv_metric(cell, metric["name"])
    for declared in result["workload"]["rates"]:
        row[declared["name"]] = rate_of(cell, declared["name"])
    return row


def _csv_metric(cell: dict, name: str) -> dict:
    summary, ratio = summary_of(cell, name), speedup_of(cell, name) or {}
    low, high = summary.get("median_ci95") or (None, None)
    ratio_low, ratio_high = ratio.get("ci95") or (None, None)
    return {
        name: summary.get("median"),
        f"{name}_ci95_low": low,
        f"{name}_ci95_high": high,
        f"{name}_limit": limit_of(cell, name),
        f"{name}_speedup": ratio.get("ratio"),
        f"{name}_speedup_ci95_low": ratio_low,
        f"{name}_speedup_ci95_high": ratio_high,
        f"{name}_speedup_verdict": ratio.get("verdict"),
    }
