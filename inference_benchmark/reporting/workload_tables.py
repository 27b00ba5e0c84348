"""What the published tables of training and of other implementations say beside times."""

from collections.abc import Sequence

from inference_benchmark.reporting.figures import has_times
from inference_benchmark.reporting.formats import markdown
from inference_benchmark.reporting.gains import gains_table
from inference_benchmark.reporting.labels import model_label, variant
from inference_benchmark.reporting.units import NOTHING_PUBLISHED, UNKNOWN, gigabytes, seconds


def training_costs(results: Sequence[dict]) -> str:
    """Memory, and what the first run took with everything that it compiled."""
    rows = [
        [
            model_label(result["config"], cell),
            ", ".join(result["workload"].get("conditions", ())),
            variant(cell),
            gigabytes(cell["memory"].get("peak_allocated_bytes")),
            seconds(cell["cold_start"].get("compile_training_s")),
            _count(cell, "compilations"),
            _count(cell, "recompilations"),
        ]
        for result in results
        for cell in result["cells"]
        if has_times(cell) and cell["cold_start"] is not None
    ]
    if not rows:
        return NOTHING_PUBLISHED
    headers = ["model", "training", "mode", "peak GB", "first run s", "compiled", "afterwards"]
    return markdown(headers, rows)


def _count(cell: dict, name: str) -> str:
    count = cell["cold_start"].get(name)
    return UNKNOWN if count is None else f"{count:.0f}"


def training_errors(results: Sequence[dict]) -> str:
    """Of each measure of the check of training steps the largest error of all sound cells."""
    errors: dict[str, tuple[float, float, str]] = {}
    cells = [cell for result in results for cell in result["cells"] if has_times(cell)]
    for cell in cells:
        for measure, entry in cell["output_check"]["measured"].items():
            worst = entry["error"], entry["limit"], cell["label"]
            errors[measure] = max(errors.get(measure, worst), worst)
    rows = [
        [measure, f"{limit:.2g}", f"{error:.2g}", label]
        for measure, (error, limit, label) in errors.items()
    ]
    if not rows:
        return NOTHING_PUBLISHED
    return markdown(["relative error of", "allowed", "largest", "in"], rows)


def gains(results: Sequence[dict]) -> str:
    """The table of gains of each session, as a session prints it."""
    if not results:
        return NOTHING_PUBLISHED
    return "\n\n".join(
        f"```text\n{result['workload']['name']}, {model_label(result['config'])}: "
        f"{gains_table(result)}\n```"
        for result in results
    )
