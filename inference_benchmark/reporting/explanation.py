"""--explain: each phase of a run, time by kind of kernel beside the limit of each kind."""

from inference_benchmark.reporting.figures import is_sound, median
from inference_benchmark.reporting.layout import table
from inference_benchmark.reporting.reading import printable
from inference_benchmark.reporting.units import UNKNOWN, milliseconds, percent

_METRICS = {"prefill": "ttft_s", "decode": "tbot_s"}  # others: PHASE_s
_STEPS = {"decode": "decode step"}


def explain(cell: dict) -> str:
    """A table per phase, or why there are none."""
    cell = printable(cell)
    if not is_sound(cell):
        return f"{cell['label']}: no profile, its output is wrong or it failed"
    if cell["profile"] is None:
        return f"{cell['label']}: no profile (it needs a CUDA GPU and a run that succeeded)"
    return "\n\n".join(_phase(cell, phase) for phase in cell["profile"])


def _phase(cell: dict, phase: str) -> str:
    """Measured is the median over runs where the profile does not say what these very steps took."""
    found = cell["profile"][phase]
    measured = median(cell, found.get("metric") or _METRICS.get(phase, f"{phase}_s"))
    limits = _limits(cell, phase)
    rows = [
        [kind, milliseconds(seconds), _share(seconds, measured), milliseconds(limits.get(kind))]
        for kind, seconds in sorted(found["by_kind"].items(), key=lambda each: -each[1])
    ]
    idle = None if measured is None else max(0.0, measured - found["kernel_s"])
    rows.append(["idle", milliseconds(idle), _share(idle, measured), UNKNOWN])
    rows.append(["all", milliseconds(measured), "", milliseconds(sum(limits.values()) or None)])
    title = f"one {_STEPS.get(phase, phase)} of {cell['label']}, {found['kernels']:.0f} kernels"
    basis = f"limit ms ({cell['limit']['basis']})" if cell["limit"] else "limit ms"
    return f"{title}\n{table(rows, ['kind', 'ms', 'share', basis])}"


def _limits(cell: dict, phase: str) -> dict:
    """By kind of kernel: at the positions that were profiled, where the profile says them."""
    profiled = cell["profile"][phase].get("limit_by_kind")
    mean = (cell["limit"] or {}).get("by_kind", {}).get(phase, {})
    return {kind: limit for kind, limit in (profiled or mean).items() if limit is not None}


def _share(part: float | None, whole: float | None) -> str:
    return UNKNOWN if part is None or not whole else percent(part / whole)


def costliest(cell: dict) -> str:
    """The ten kernels of a phase that take the longest: of a decode step where there is one."""
    cell = printable(cell)
    if not is_sound(cell) or not cell["profile"]:
        return f"{cell['label']}: no profile"
    phase = "decode" if "decode" in cell["profile"] else next(iter(cell["profile"]))
    rows = [
        [kernel["name"][:44], kernel["kind"], f"{kernel['calls']:.0f}", milliseconds(kernel["s"])]
        for kernel in cell["profile"][phase]["costliest"]
    ]
    body = table(rows, ["kernel", "kind", "calls", "ms"])
    return f"costliest kernels of one {_STEPS.get(phase, phase)} of {cell['label']}\n{body}"


def what_bounds(cell: dict) -> str | None:
    """What bounds the decode of a cell, in one line."""
    host, bound = cell["host"], cell["bound"]
    if not is_sound(cell) or host is None or host.get("enqueue_over_kernel") is None:
        return None
    busy = percent(host.get("decode_busy_share"))
    ratio = host["enqueue_over_kernel"]
    if ratio > 1:
        return (
            f"decode is bound by launches: enqueueing a step takes {ratio:.1f}x its kernels' time, "
            f"the GPU is busy {busy}"
        )
    resource = "the GPU" if not bound else f"the GPU's {bound.get(_METRICS['decode'])}"
    return f"decode is bound by {resource}: busy {busy} of a step's time"
