"""The times of one cell, metric by metric, beside its limits: that of the datasheet as well where
others were measured or given, since most published shares are of the datasheet's."""

from inference_benchmark.reporting.figures import (
    datasheet_limit_of,
    limit_of,
    reached,
    share_of,
    shown_unit,
    summary_of,
    value_text,
)
from inference_benchmark.reporting.summary import titled
from inference_benchmark.reporting.units import UNKNOWN, milliseconds, percent


def latency_table(result: dict, cell: dict) -> str:
    """How a cell's times are distributed, and what the hardware alone would need for them."""
    rows = [_latency_row(cell, metric) for metric in result["workload"]["metrics"]]
    if not cell["estimated"]:
        rows += [
            _step_row(percentiles)
            for percentiles in cell["summary"]["steps"].values()
            if percentiles
        ]
    unit = shown_unit(result["workload"]["metrics"][0])
    headers = [unit, "median", "mean", "std", "min", "max", "p95", "p99", "limit", "%"]
    return titled(_latency_title(cell), rows, [*headers, "sheet", "%"], {})


def _latency_title(cell: dict) -> str:
    """With what the limits are of."""
    title = f"latency of {cell['label']}"
    if cell["limit"] is None:
        return title
    datasheet = "; sheet: that of the datasheet" if "datasheet" in cell["limit"] else ""
    return f"{title}, limit: {cell['limit']['basis']}{datasheet}"


def _latency_row(cell: dict, metric: dict) -> list[str]:
    values = summary_of(cell, metric["name"])
    names = ("median", "mean", "std", "min", "max", "p95", "p99")
    limit, of_datasheet = limit_of(cell, metric["name"]), datasheet_limit_of(cell, metric["name"])
    return [
        metric["title"],
        *(value_text(values.get(name), metric) for name in names),
        value_text(limit, metric),
        percent(reached(cell, metric)),
        value_text(of_datasheet, metric),
        percent(share_of(of_datasheet, cell, metric)),
    ]


def _step_row(percentiles: dict) -> list[str]:
    p50, p95, p99 = (milliseconds(percentiles[name]) for name in ("p50", "p95", "p99"))
    return ["single steps", p50, *[UNKNOWN] * 4, p95, p99, *[UNKNOWN] * 4]
