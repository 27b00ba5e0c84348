"""What a table asks of a cell, whatever its workload: medians, limits, speed-ups, the verdict.

Metrics and rates are those that the result's `workload` declares. A cell whose output is wrong
answers every question about its speed with None.
"""

from collections.abc import Sequence
from typing import Any

from inference_benchmark.reporting.units import UNKNOWN, significant, with_interval

_WITH_A_SPEED = ("ok", "partial")


def is_sound(cell: dict) -> bool:
    """Whether what was measured counts: the cell did not fail, and its output is not wrong."""
    check = cell["output_check"]
    return cell["status"] in _WITH_A_SPEED and (check is None or check["passed"])


def has_times(cell: dict) -> bool:
    return is_sound(cell) and bool(cell["summary"] and cell["summary"]["n"])


def is_suspect(cell: dict) -> bool:
    return bool(cell["validity"]) and cell["validity"]["verdict"] == "suspect"


def runs(cell: dict) -> int:
    """Finished ones, those with wrong outputs included."""
    samples = cell["samples"] or cell["wrong_output_samples"]
    if cell["summary"] is not None:
        return cell["summary"]["n"]
    return 0 if samples is None else len(samples["round"])


def headlines(workload: dict) -> list[dict]:
    return [metric for metric in workload["metrics"] if metric["headline"]]


def headline_rates(workload: dict) -> list[dict]:
    return [rate for rate in workload["rates"] if rate["headline"]]


def main_metric(workload: dict, cells: Sequence[dict]) -> dict | None:
    """What limits and speed-ups of the summary are of: the last headline metric that was measured.

    For generation that is TBOT, and TTFT where there is one output token only.
    """
    shown = headlines(workload)
    measured = [m for m in shown if any(median(cell, m["name"]) is not None for cell in cells)]
    return (measured or shown or [None])[-1]


def summary_of(cell: dict, metric: str) -> dict:
    """The summary of one metric; empty where nothing is known or counts."""
    return (cell["summary"]["metrics"].get(metric) or {}) if has_times(cell) else {}


def median(cell: dict, metric: str) -> float | None:
    return summary_of(cell, metric).get("median")


def rate_of(cell: dict, rate: str) -> float | None:
    return cell["summary"]["rates"].get(rate) if has_times(cell) else None


def of_summary(cell: dict, name: str) -> Any:
    """A figure that is not of a metric, such as mfu or the cost."""
    return cell["summary"][name] if has_times(cell) else None


def limit_of(cell: dict, metric: str) -> float | None:
    return None if cell["limit"] is None else cell["limit"]["metrics"].get(metric)


def datasheet_limit_of(cell: dict, metric: str) -> float | None:
    """The datasheet's limit, where limit_of is another one."""
    return None if cell["limit"] is None else cell["limit"].get("datasheet", {}).get(metric)


def reached(cell: dict, metric: dict) -> float | None:
    """How much of what the hardware allows: 1 is as fast as the limit."""
    return share_of(limit_of(cell, metric["name"]), cell, metric)


def share_of(limit: float | None, cell: dict, metric: dict) -> float | None:
    """How much of this limit a cell reaches."""
    measured = median(cell, metric["name"])
    if not limit or not measured:
        return None
    return limit / measured if metric["better"] == "lower" else measured / limit


def speedup_of(cell: dict, metric: str, against: str | None = None) -> dict | None:
    """{"ratio", "ci95", "verdict", ...} against the session's baseline, or against another
    reference: "plain_eager", "eager_kernels"."""
    if not is_sound(cell) or cell["speedup"] is None:
        return None
    speedup = cell["speedup"] if against is None else cell["speedup"][against]
    return speedup and speedup["metrics"].get(metric)


def named(cells: Sequence[dict], label: str) -> dict | None:
    return next((cell for cell in cells if cell["label"] == label), None)


def bases(cells: Sequence[dict]) -> list[str]:
    """Where limits come from: datasheet, measured, given."""
    return sorted({cell["limit"]["basis"] for cell in cells if cell["limit"]})


# Of parts of a layer, whose times are kernels'.
_OF_KERNELS = (
    *("graph_s", "attention_s", "ffn_s", "layer_s"),
    *("forward_pass_s", "backward_pass_s"),
)


def shown_unit(metric: dict) -> str:
    """Of a time ms, of kernels' us; of anything else its own."""
    if metric["unit"] != "s":
        return metric["unit"]
    return "us" if metric["name"] in _OF_KERNELS else "ms"


def titled_unit(metric: dict) -> str:
    """TTFT ms: the head of a column."""
    return f"{metric['title']} {shown_unit(metric)}".rstrip()


def _scale(metric: dict) -> float:
    return {"ms": 1e3, "us": 1e6}.get(shown_unit(metric), 1.0)


def value_text(value: float | None, metric: dict) -> str:
    """In the unit that is shown."""
    return UNKNOWN if value is None else significant(value * _scale(metric))


def measured_text(cell: dict, metric: dict) -> str:
    """The median with its 95 % interval: 3.923±0.001; alone where the runs are too few for one."""
    summary = summary_of(cell, metric["name"])
    return with_interval(summary.get("median"), summary.get("median_ci95"), _scale(metric))


def is_smoke(result: dict) -> bool:
    """Whether no GPU took part: such times show that the program runs, not how fast a GPU is."""
    return result["environment"]["gpu"] is None


def verdict_words(cell: dict, smoke: bool) -> list[str]:
    """What is to be thought of a cell; an estimate and a CPU's smoke run are never simply valid."""
    if not is_sound(cell):
        status = "wrong_output" if cell["status"] in _WITH_A_SPEED else cell["status"]
        return [status.replace("_", " ").upper()]
    if not has_times(cell):
        return ["no runs"]
    verdict = cell["validity"] and cell["validity"]["verdict"]
    if verdict is None:
        return []
    if cell["estimated"]:
        return ["ESTIMATE"] if verdict == "valid" else ["ESTIMATE", verdict]
    return ["smoke"] if smoke and verdict in ("valid", "unverified") else [verdict]


def verdict_text(cell: dict, smoke: bool) -> str:
    """As terminals show it: loud unless all is well."""
    quiet = ("valid", "smoke", "no runs")
    words = verdict_words(cell, smoke)
    return ", ".join(word if word in quiet else word.upper() for word in words) or "-"
