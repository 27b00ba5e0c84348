"""One table over the sessions of a set: what they agree on, and by how much they differ."""

import math
from collections.abc import Iterable, Sequence
from statistics import median

import numpy as np

from inference_benchmark.reporting.figures import titled_unit, value_text
from inference_benchmark.reporting.labels import session_label
from inference_benchmark.reporting.layout import table, wrap
from inference_benchmark.reporting.units import UNKNOWN
from inference_benchmark.statistics.intervals import log_mean_interval

_HEADERS = ("cell", "metric", "sessions", "median", "deviation", "95 % interval")
_NOTE = (
    "The unit is the session: medians of each, their median, standard deviation and Student's "
    "interval. For a comparison: compare_results.py --before ... --after ..."
)


def set_table(results: Sequence[dict]) -> str:
    """A row per cell and headline metric; results are of version 2, of one command."""
    rows = [
        row for label, metric, medians in _medians(results) for row in _row(label, metric, medians)
    ]
    return "\n".join((wrap(session_label(results[0])), "", table(rows, _HEADERS), wrap(_NOTE)))


def _medians(results: Sequence[dict]) -> Iterable[tuple[str, dict, list[float]]]:
    """(label, metric, a median per session that has one) in the order of the first session."""
    labels = dict.fromkeys(cell["label"] for result in results for cell in result["cells"])
    metrics = [metric for metric in results[0]["workload"]["metrics"] if metric["headline"]]
    for label in labels:
        cells = [cell for result in results for cell in result["cells"] if cell["label"] == label]
        for metric in metrics:
            yield (
                label,
                metric,
                [value for cell in cells if (value := _median(cell, metric["name"]))],
            )


def _median(cell: dict, metric: str) -> float | None:
    summary = (cell["summary"] or {}).get("metrics", {}).get(metric)
    return summary["median"] if summary else None


def _row(label: str, metric: dict, medians: list[float]) -> Iterable[Sequence[str]]:
    if not medians:
        return
    interval = log_mean_interval(medians)
    deviation = float(np.log(medians).std(ddof=1)) if len(medians) > 1 else math.nan
    yield (
        label,
        titled_unit(metric),
        str(len(medians)),
        value_text(median(medians), metric),
        UNKNOWN if math.isnan(deviation) else f"{deviation:.2%}",
        " .. ".join(value_text(bound, metric) for bound in interval) if interval else UNKNOWN,
    )
