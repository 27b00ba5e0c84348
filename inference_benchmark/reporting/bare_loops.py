"""Figures of engines of other projects beside those of a bare loop over each one's own API.

The loops are what tests/audit/bare_loops.py saved: the same model, lengths and batch size on the same
machine, without a worker or a check. How far a session's figures are from these is what this project's
way of driving an engine costs.
"""

from collections.abc import Mapping, Sequence

from inference_benchmark.reporting.figures import median, runs
from inference_benchmark.reporting.formats import markdown
from inference_benchmark.reporting.labels import variant
from inference_benchmark.reporting.units import UNKNOWN, milliseconds

_METRICS = {"ttft_s": "TTFT", "tbot_s": "TBOT"}


def bare_loop_table(results: Sequence[dict], loops: Mapping[str, dict]) -> str:
    """A Markdown row per loop; a loop without a cell of its kind has no ratio.

    results: of sessions, version 2. loops: by name, as bare_loops.py writes them, times in seconds, None
    where the loop did not stream and has nothing but its total.
    """
    headers = ["model", "batch", "tokens", "engine", "loop"]
    for title in _METRICS.values():
        headers += [f"{title} ms", "bare loop", "ratio"]
    return markdown([*headers, "n", "bare n"], [_row(results, *named) for named in loops.items()])


def _row(results: Sequence[dict], name: str, loop: dict) -> list[str]:
    cell = _cell_of(results, loop)
    row = [
        loop["model"],
        str(loop["batch_size"]),
        f"{loop['input_length']} -> {loop['output_length']}",
        loop["engine"] + (", not streamed" if loop.get("streams") is False else ""),
        name,
    ]
    for metric in _METRICS:
        own_s = median(cell, metric) if cell is not None else None
        loop_s = loop[metric]
        ratio = UNKNOWN if None in (own_s, loop_s) else f"{own_s / loop_s:.3f}"
        row += [milliseconds(own_s), milliseconds(loop_s), ratio]
    count = UNKNOWN if cell is None else str(runs(cell))
    return [*row, count, str(len(loop["runs"]["all_s"]))]


def _cell_of(results: Sequence[dict], loop: dict) -> dict | None:
    """The cell that did the same work in the same engine."""
    for result in results:
        config = result["config"]
        work = [config[name] for name in ("model_name", "input_length", "output_length")]
        if work != [loop[name] for name in ("model", "input_length", "output_length")]:
            continue
        for cell in result["cells"]:
            if (variant(cell), cell["batch_size"]) == (loop["engine"], loop["batch_size"]):
                return cell
    return None
