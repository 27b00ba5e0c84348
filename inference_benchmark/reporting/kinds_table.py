"""Where the time of a step goes, for a README: a row per cell, a column per kind of kernel."""

from collections.abc import Sequence

from inference_benchmark.reporting.figures import is_sound, median
from inference_benchmark.reporting.formats import markdown
from inference_benchmark.reporting.labels import model_label, variant
from inference_benchmark.reporting.units import NOTHING_PUBLISHED, UNKNOWN, milliseconds, percent


def time_by_kind(results: Sequence[dict]) -> str:
    """Of workloads of one phase: ms of each kind of kernel, its share of the median, and in brackets
    the time at the limit where the kind has one; idle is what of the median no kernel takes. Where
    sessions were of several conditions a column names them."""
    profiled = [
        (result, cell, next(iter(cell["profile"].values())))
        for result in results
        for cell in result["cells"]
        if is_sound(cell) and cell["profile"]
    ]
    if not profiled:
        return NOTHING_PUBLISHED
    kinds = list(dict.fromkeys(kind for *_, phase in profiled for kind in phase["by_kind"]))
    kinds.sort(key=lambda kind: -max(phase["by_kind"].get(kind, 0.0) for *_, phase in profiled))
    several = len({_conditions(result) for result, *_ in profiled}) > 1
    rows = [
        [
            model_label(result["config"], cell),
            *([_conditions(result)] if several else []),
            variant(cell),
            *(_of_kind(cell, phase, kind) for kind in kinds),
            _idle(cell, phase),
            f"{phase['kernels']:,.0f}",
        ]
        for result, cell, phase in profiled
    ]
    headers = ["model", *([results[0]["workload"]["name"]] if several else []), "mode"]
    headers += [*(f"{kind} ms" for kind in kinds), "idle ms", "kernels"]
    return markdown(headers, rows)


def _conditions(result: dict) -> str:
    return ", ".join(result["workload"].get("conditions", ()))


def _of_kind(cell: dict, phase: dict, kind: str) -> str:
    seconds = phase["by_kind"].get(kind)
    if seconds is None:
        return UNKNOWN
    limit_s = (phase.get("limit_by_kind") or {}).get(kind)
    limit = "" if limit_s is None else f" [{milliseconds(limit_s)}]"
    whole = median(cell, phase["metric"])
    share = f", {percent(seconds / whole)}" if whole else ""
    return f"{milliseconds(seconds)}{share}{limit}"


def _idle(cell: dict, phase: dict) -> str:
    whole = median(cell, phase["metric"])
    return UNKNOWN if not whole else milliseconds(max(0.0, whole - phase["kernel_s"]))
