"""What the published tables of training and of other implementations say beside times."""

from collections.abc import Sequence

from inference_benchmark.reporting.figures import has_times, rate_of
from inference_benchmark.reporting.formats import markdown
from inference_benchmark.reporting.gains import gains_table
from inference_benchmark.reporting.labels import compile_scope, model_label, variant
from inference_benchmark.reporting.units import (
    NOTHING_PUBLISHED,
    UNKNOWN,
    gigabytes,
    rate,
    seconds,
)

_COMPILED = {
    None: "nothing",
    "layer": "each kind of layer",
    "model": "the forward",
    "step": "the step with its choice of the token",
}


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


def whole_steps(results: Sequence[dict]) -> str:
    """How much of a step was compiled as one function, beside speed and memory."""
    rows = [
        [
            model_label(result["config"], cell),
            variant(cell),
            _COMPILED[compile_scope(result["config"], cell)],
            rate(rate_of(cell, "decode_tokens_per_s")),
            gigabytes(cell["memory"].get("peak_allocated_bytes")),
            seconds(cell["cold_start"].get("compile_decode_s")),
        ]
        for result in results
        for cell in result["cells"]
        if has_times(cell) and cell["cold_start"] is not None
    ]
    if not rows:
        return NOTHING_PUBLISHED
    headers = ["model", "mode", "compiled as one", "decode tok/s", "peak GB", "first step s"]
    return markdown(headers, rows)


def training_errors(results: Sequence[dict]) -> str:
    """Of each measure of the check of training steps the largest error of all sound cells, by the
    format that their products are computed in."""
    errors: dict[tuple[str, str], tuple[float, float, str]] = {}
    cells = [cell for result in results for cell in result["cells"] if has_times(cell)]
    for cell in cells:
        for measure, entry in cell["output_check"]["measured"].items():
            worst = entry["error"], entry["limit"], cell["label"]
            key = cell["weights"]["compute"], measure
            errors[key] = max(errors.get(key, worst), worst)
    rows = [
        [*key, f"{limit:.2g}", f"{error:.2g}", label]
        for key, (error, limit, label) in sorted(errors.items(), key=lambda item: item[0][0])
    ]
    if not rows:
        return NOTHING_PUBLISHED
    return markdown(["products in", "relative error of", "allowed", "largest", "in"], rows)


def gains(results: Sequence[dict]) -> str:
    """One table of gains for each model, over all workloads, as a command prints it."""
    if not results:
        return NOTHING_PUBLISHED
    by_model: dict[str, list[dict]] = {}
    for result in results:
        by_model.setdefault(model_label(result["config"]), []).append(result)
    return "\n\n".join(
        f"```text\n{model}; {'; '.join(map(_work, of_model))};\n{gains_table(of_model)}\n```"
        for model, of_model in by_model.items()
    )


def _work(result: dict) -> str:
    """forward of 2048, batch 4"""
    config = result["config"]
    lengths = (config["input_length"], config["output_length"])
    sizes = dict.fromkeys(str(cell["batch_size"]) for cell in result["cells"])
    return (
        f"{result['workload']['name']} of {' -> '.join(str(length) for length in lengths if length)}, "
        f"batch {', '.join(sizes)}"
    )
