"""What another implementation of the model gains: time of every headline metric, and memory."""

from collections.abc import Sequence

from inference_benchmark.model.implementation import DEFAULT
from inference_benchmark.reporting.figures import headlines, named, speedup_of
from inference_benchmark.reporting.summary import titled
from inference_benchmark.reporting.units import UNKNOWN

_MB = 1e6


def gains_table(results: Sequence[dict]) -> str:
    """A row per metric of each cell of another implementation than the first one; nothing where
    there is one only. results: of one workload each, with the same implementations."""
    rows = [row for result in results for row in _rows_of(result)]
    if not rows:
        return ""
    first = _implementation(results[0]["cells"][0])
    headers = ["cell", "of", "speed-up", "95%", "saved", "", "MB saved", "%"]
    title = f"against {first or DEFAULT} in the same mode; saved: of the time; MB: of peak memory"
    return titled(title, rows, headers, {})


def _rows_of(result: dict) -> list[list[str]]:
    cells = result["cells"]
    first = _implementation(cells[0]) if cells else None
    others = [cell for cell in cells if _implementation(cell) != first]
    return [row for cell in others for row in _rows(result, cell)]


def _implementation(cell: dict) -> str | None:
    return (cell["options"] or {}).get("implementation")


def _rows(result: dict, cell: dict) -> list[list[str]]:
    rows = []
    for metric in headlines(result["workload"]):
        gain = speedup_of(cell, metric["name"])
        if gain is None:
            continue
        baseline = named(result["cells"], cell["speedup"]["baseline"])
        interval = gain["ci95"]
        saved = saved_bytes(cell, baseline)
        before = _peak(baseline)
        rows.append(
            [
                cell["label"],
                metric["title"],
                f"{gain['ratio']:.3f}x",
                UNKNOWN if interval is None else f"{interval[0]:.3f}-{interval[1]:.3f}",
                f"{(1 - 1 / gain['ratio']) * 100:.1f}%",
                gain["verdict"],
                UNKNOWN if saved is None else f"{saved / _MB:,.0f}",
                UNKNOWN if saved is None or not before else f"{saved / before * 100:.1f}%",
            ]
        )
    return rows


def saved_bytes(cell: dict, baseline: dict | None) -> int | None:
    """Of peak memory; negative where it takes more."""
    before, after = _peak(baseline), _peak(cell)
    return None if before is None or after is None else before - after


def _peak(cell: dict | None) -> int | None:
    return ((cell or {}).get("memory") or {}).get("peak_allocated_bytes")
