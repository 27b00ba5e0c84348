"""Weight formats side by side: what each gains at each batch size, and what it costs in accuracy."""

from collections.abc import Sequence

from inference_benchmark.model.weight_format import BASE_TYPES
from inference_benchmark.reporting.accuracy import accuracy_texts
from inference_benchmark.reporting.figures import (
    headlines,
    is_smoke,
    main_metric,
    measured_text,
    median,
    reached,
    runs,
    verdict_words,
)
from inference_benchmark.reporting.formats import markdown
from inference_benchmark.reporting.labels import model_label
from inference_benchmark.reporting.units import UNKNOWN, percent

_HEADERS = ["model", "GPUs", "tokens", "mode", "batch", "weights"]
_FIGURES = ["TTFT ms", "TBOT ms", "times bf16's", "of the limit", "KL", "top-1", "n", "verdict"]


def measured_formats(results: Sequence[dict]) -> str:
    """A Markdown row for each cell of sessions with --quantize."""
    return markdown([*_HEADERS, *_FIGURES], [_row(r, cell) for r in results for cell in r["cells"]])


def _row(result: dict, cell: dict) -> list[str]:
    config, gpu, workload = result["config"], result["environment"]["gpu"], result["workload"]
    main = main_metric(workload, result["cells"])
    return [
        model_label(config, cell),
        str(gpu["count"]) if gpu else UNKNOWN,
        f"{config['input_length']} -> {config['output_length']}",
        cell["mode"] + ("+kernels" if cell["name"]["kernels"] else ""),
        str(cell["batch_size"]),
        cell["weights"]["format"],
        *(measured_text(cell, metric) for metric in headlines(workload)),
        _share_of_plain(result["cells"], cell, main),
        percent(reached(cell, main)),
        *accuracy_texts(cell),
        str(runs(cell)),
        ", ".join(verdict_words(cell, is_smoke(result))),
    ]


def _share_of_plain(cells: Sequence[dict], cell: dict, metric: dict) -> str:
    """The metric's median over that of the same mode and batch size with weights as they are."""
    plain = next((other for other in cells if _is_plain_sibling(other, cell)), None)
    medians = [None if one is None else median(one, metric["name"]) for one in (cell, plain)]
    return UNKNOWN if None in medians else f"{medians[0] / medians[1]:.2f}"


def _is_plain_sibling(other: dict, cell: dict) -> bool:
    plain = other["weights"]["format"] in BASE_TYPES
    return plain and _what_runs(other) == _what_runs(cell)


def _what_runs(cell: dict) -> tuple:
    """What a cell has in common with the same of other weights."""
    settings = cell["name"]["kernels"], cell["options"]["cuda_graphs"]
    return cell["mode"], *settings, cell["batch_size"], cell["num_layers"]
