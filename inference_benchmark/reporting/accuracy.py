"""What quantised weights cost in accuracy, beside what they gain."""

from collections.abc import Sequence

from inference_benchmark.reporting.labels import joined
from inference_benchmark.reporting.units import UNKNOWN

_HEADERS = ["KL", "top-1"]


def accuracy_headers(cells: Sequence[dict]) -> list[str]:
    """Of the columns beside the speed; none where no weights are quantised."""
    return _HEADERS if any(cell.get("accuracy") for cell in cells) else []


def accuracy_columns(cell: dict, cells: Sequence[dict]) -> list[str]:
    """Mean KL divergence, and how often the likeliest token is the same; cells: of the table."""
    return accuracy_texts(cell) if accuracy_headers(cells) else []


def accuracy_texts(cell: dict) -> list[str]:
    """Of a cell the two columns."""
    accuracy = cell.get("accuracy")
    if not accuracy:
        return [UNKNOWN, UNKNOWN]
    return [_number(accuracy["kl_mean"]), f"{accuracy['top1_agreement']:.1%}"]


def accuracy_notes(cells: Sequence[dict]) -> list[str]:
    """What the columns are, the ratios of perplexities, and who is over --max-kl."""
    by_format = {
        cell["weights"]["format"]: cell["accuracy"] for cell in cells if cell.get("accuracy")
    }
    if not by_format:
        return []
    first = next(iter(by_format.values()))
    ratios = ", ".join(
        f"{name} {accuracy['perplexity_ratio']:.3f}"
        for name, accuracy in by_format.items()
        if accuracy["perplexity_ratio"] is not None
    )
    notes = [
        f"KL, top-1: next-token distributions against {first['against']} weights over "
        f"{first['tokens']} {first['text']}: mean divergence in nats, share of equal first "
        f"choices; perplexity times: {ratios or UNKNOWN}"
    ]
    failed = [cell for cell in cells if (cell.get("accuracy") or {}).get("passed") is False]
    if failed:
        notes.append(f"over --max-kl {first['max_kl']:g}: {joined(failed, cells)}")
    return notes


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2g}"
