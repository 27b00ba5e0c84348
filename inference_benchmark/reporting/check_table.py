"""The output check as --details shows it: what it allowed, what it found, what it cost."""

import math

from inference_benchmark.reporting.summary import titled
from inference_benchmark.reporting.units import UNKNOWN, percent, seconds


def check_table(cells: list[dict]) -> str:
    """A row per cell that was checked, and under it what came nearest to its limit."""
    checked = [cell for cell in cells if cell["output_check"]]
    rows = [
        [
            cell["label"],
            _number(cell["output_check"]["floor"]),
            _number(cell["output_check"]["tolerance"]),
            seconds(cell["output_check"]["seconds"]),
            percent(_share_of_measuring(cell)),
        ]
        for cell in checked
    ]
    headers = ["cell", "floor", "tolerance", "check s", "of measuring"]
    of_logits = any("logits" in cell["output_check"]["checked"] for cell in checked)
    title = "output check, relative errors"
    title += " of logits (floor: measured, of eager's own rounding)" if of_logits else ""
    return titled(title, rows, headers, {}) if checked else ""


def nearest_notes(cells: list[dict]) -> list[str]:
    """Of each cell the measure that came nearest to its limit, with the floor it rests on."""
    notes = []
    for cell in cells:
        measured = (cell["output_check"] or {}).get("measured")
        if measured:
            measure, finding = max(measured.items(), key=lambda item: _ratio(item[1]))
            place = f" ({finding['at']})" if finding["at"] else ""
            notes.append(
                f"{cell['label']}: nearest to its limit of {len(measured)} measures: {measure}{place}, "
                f"{_number(finding['error'])} of {_number(finding['limit'])}; "
                f"floor {_number(finding['floor'])}"
            )
    return notes


def _share_of_measuring(cell: dict) -> float | None:
    """The check's time over that of the timed runs."""
    check_s, samples = cell["output_check"]["seconds"], cell["samples"]
    if check_s is None or samples is None:
        return None
    run_s = max((sum(values) for values in samples["metrics"].values()), default=0.0)
    return check_s / run_s if run_s else None


def _ratio(entry: dict) -> float:
    if entry["error"] is None:
        return math.inf
    return entry["error"] / entry["limit"] if entry["limit"] else 0.0


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2g}"
