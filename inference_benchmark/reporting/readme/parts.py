"""A table of a part of a layer for a README: implementations down, lengths across."""

from collections.abc import Callable, Sequence

from inference_benchmark.reporting.figures import (
    has_times,
    is_suspect,
    main_metric,
    rate_of,
    reached,
    speedup_of,
    summary_of,
)
from inference_benchmark.reporting.formats import markdown
from inference_benchmark.reporting.labels import variant
from inference_benchmark.reporting.part_tables import saved_bytes, step_bytes
from inference_benchmark.reporting.units import (
    NOTHING_PUBLISHED,
    UNKNOWN,
    megabytes,
    percent,
    significant,
)

_SUSPECT = "?"
_MOST_SAVED = 10.0  # a share beyond says nothing
_SUSPECT_NOTE = f"{_SUSPECT}: a suspect figure; its reasons are in the file."


def parts_section(results: Sequence[dict], environment_line: Callable[[dict], str]) -> str:
    """A table per file, and what they ran on."""
    if not results:
        return NOTHING_PUBLISHED
    tables = [f"{part_title(result)}:\n\n{part_markdown(result)}" for result in results]
    return "\n\n".join([*tables, "\n".join(dict.fromkeys(map(environment_line, results)))])


def part_title(result: dict) -> str:
    """**attention decode**, llama2-7b, 100 runs"""
    count = max(cell["summary"]["n"] for cell in result["cells"] if cell["summary"])
    return f"**{result['workload']['name']}**, {result['config']['model_name']}, {count} runs"


def part_markdown(result: dict) -> str:
    """A row per implementation and batch size, a column per length: medians in us, launched, and in
    a CUDA graph where one was timed. What follows is of the longest; memory is that of a step beside
    its inputs and weights, and saved is against the first row."""
    cells = result["cells"]
    main = main_metric(result["workload"], cells)
    lengths = list(dict.fromkeys(cell["input_length"] for cell in cells))
    by_row: dict[tuple[str, int], dict[int, dict]] = {}
    for cell in cells:
        by_row.setdefault((variant(cell), cell["batch_size"]), {})[cell["input_length"]] = cell
    rows = []
    for (name, batch_size), by_length in by_row.items():
        last = by_length.get(lengths[-1])
        rows.append(
            [
                name,
                str(batch_size),
                *(_microseconds(by_length.get(length), main) for length in lengths),
                *_at_longest(result, last, main),
            ]
        )
    headers = ["implementation", "batch", *(f"{length}: us" for length in lengths)]
    headers += ["of the limit", "TFLOP/s", "TB/s", "speed-up", "memory MB", "saved MB"]
    table = markdown(headers, rows)
    return f"{table}\n\n{_SUSPECT_NOTE}" if any(map(is_suspect, cells)) else table


def _microseconds(cell: dict | None, main: dict) -> str:
    if cell is None or not has_times(cell):
        is_unknown = cell is None or cell["status"] in ("ok", "partial")
        return UNKNOWN if is_unknown else cell["status"].replace("_", " ")
    launched = summary_of(cell, main["name"])["median"] * 1e6
    graph = summary_of(cell, "graph_s").get("median")
    text = f"{launched:,.1f}" if graph is None else f"{launched:,.1f} / {graph * 1e6:,.1f}"
    return f"{text} {_SUSPECT}" if is_suspect(cell) else text


def _at_longest(result: dict, cell: dict | None, main: dict) -> list[str]:
    if cell is None or not has_times(cell):
        return [UNKNOWN] * 6
    speedup, saved = speedup_of(cell, main["name"]), saved_bytes(result, cell)
    rates = [rate_of(cell, rate["name"]) for rate in result["workload"]["rates"]]
    share = UNKNOWN
    if saved is not None:
        before = step_bytes(cell) + saved
        relative = saved / before if before else None
        share = megabytes(saved)
        if relative is not None and abs(relative) < _MOST_SAVED:
            share += f" ({percent(relative)})"
    return [
        percent(reached(cell, main)),
        *(UNKNOWN if value is None else significant(value, 3) for value in rates),
        UNKNOWN if speedup is None else f"{speedup['ratio']:.2f} {speedup['verdict']}",
        megabytes(step_bytes(cell)),
        share,
    ]
