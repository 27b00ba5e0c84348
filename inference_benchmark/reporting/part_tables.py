"""Tables of a session that timed a part of a layer: every cell's times in a row, and its memory."""

from inference_benchmark.reporting.figures import (
    main_metric,
    named,
    shown_unit,
    summary_of,
    value_text,
)
from inference_benchmark.reporting.summary import titled
from inference_benchmark.reporting.units import megabytes, percent

_STATISTICS = ("mean", "std", "min", "max", "p95", "p99")


def is_part(result: dict) -> bool:
    return any(cell["name"].get("length") for cell in result["cells"])


def part_tables(result: dict, cells: list[dict]) -> list[str]:
    """cells: those that have times."""
    return [_times(result, cells), _memory(result, cells)]


def _times(result: dict, cells: list[dict]) -> str:
    """p95 from 20 runs on, p99 from 100."""
    main = main_metric(result["workload"], cells)
    rows = [
        [
            cell["label"],
            *(value_text(summary_of(cell, main["name"]).get(s), main) for s in _STATISTICS),
        ]
        for cell in cells
    ]
    return titled(f"{main['title']}, {shown_unit(main)}", rows, ["cell", *_STATISTICS], {})


def _memory(result: dict, cells: list[dict]) -> str:
    rows = []
    for cell in cells:
        peak, less = step_bytes(cell), saved_bytes(result, cell)
        share = less / (peak + less) if less is not None and peak + less else None
        rows.append([cell["label"], megabytes(peak), megabytes(less), percent(share)])
    title = "memory of a step beside its inputs and weights, MB"
    return titled(title, rows, ["cell", "peak", "less than the baseline", "%"], {})


def step_bytes(cell: dict) -> int | None:
    return (cell["memory"] or {}).get("step_peak_bytes")


def saved_bytes(result: dict, cell: dict) -> int | None:
    """How much less than the baseline's step takes; negative where it takes more."""
    speedup = cell["speedup"]
    baseline = named(result["cells"], speedup["baseline"]) if speedup else None
    peak, other = step_bytes(cell), step_bytes(baseline) if baseline else None
    return None if peak is None or other is None else other - peak
