"""Where the time of a phase goes, for a README: a row per cell, a column per kind of kernel."""

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
    kinds = _kinds([phase for *_, phase in profiled])
    several = len({_conditions(result) for result, *_ in profiled}) > 1
    rows = [
        [
            model_label(result["config"], cell),
            *([_conditions(result)] if several else []),
            variant(cell),
            *(_of_kind(phase, kind, median(cell, phase["metric"])) for kind in kinds),
            _idle(cell, phase),
            f"{phase['kernels']:,.0f}",
        ]
        for result, cell, phase in profiled
    ]
    headers = ["model", *([results[0]["workload"]["name"]] if several else []), "mode"]
    headers += [*(f"{kind} ms" for kind in kinds), "idle ms", "kernels"]
    return markdown(headers, rows)


def decode_by_kind(results: Sequence[dict]) -> str:
    """Of decode steps: ms of each kind of kernel and its share of all kernels' time, in brackets the
    time at the limit. All of it behind the contexts that were profiled, at the start of a generation,
    so that the median over a generation, whose contexts grow, is no sum of these."""
    profiled = [
        (result, cell, phase)
        for result in results
        for cell in result["cells"]
        if is_sound(cell)
        and (phase := (cell["profile"] or {}).get("decode"))
        and "limit_s" in phase  # which files of before have not
    ]
    if not profiled:
        return NOTHING_PUBLISHED
    kinds = _kinds([phase for *_, phase in profiled])
    rows = [
        [
            model_label(result["config"], cell),
            variant(cell),
            str(cell["batch_size"]),
            *(_of_kind(phase, kind, phase["kernel_s"]) for kind in kinds),
            f"{milliseconds(phase['kernel_s'])} [{milliseconds(phase['limit_s'])}]",
            f"{phase['kernels']:,.0f}",
        ]
        for result, cell, phase in profiled
    ]
    headers = ["model", "mode", "batch", *(f"{kind} ms" for kind in kinds), "all ms", "kernels"]
    return markdown(headers, rows)


def _kinds(phases: Sequence[dict]) -> list[str]:
    """The costliest first."""
    kinds = dict.fromkeys(kind for phase in phases for kind in phase["by_kind"])
    return sorted(kinds, key=lambda kind: -max(phase["by_kind"].get(kind, 0.0) for phase in phases))


def _conditions(result: dict) -> str:
    return ", ".join(result["workload"].get("conditions", ()))


def _of_kind(phase: dict, kind: str, whole: float | None) -> str:
    seconds = phase["by_kind"].get(kind)
    if seconds is None:
        return UNKNOWN
    limit_s = (phase.get("limit_by_kind") or {}).get(kind)
    limit = "" if limit_s is None else f" [{milliseconds(limit_s)}]"
    share = f", {percent(seconds / whole)}" if whole else ""
    return f"{milliseconds(seconds)}{share}{limit}"


def _idle(cell: dict, phase: dict) -> str:
    whole = median(cell, phase["metric"])
    return UNKNOWN if not whole else milliseconds(max(0.0, whole - phase["kernel_s"]))
