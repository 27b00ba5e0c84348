"""--explain: one prefill and one decode step, time by kind of kernel beside the limit of each kind."""

from inference_benchmark.reporting.layout import table
from inference_benchmark.reporting.units import UNKNOWN, milliseconds, percent


def explain(cell: dict) -> str:
    """Two tables, or why there are none."""
    profile = cell["profile"]
    if profile is None:
        return f"{cell['label']}: no profile (it needs a CUDA GPU and a run that succeeded)"
    parts = [_phase(cell, phase) for phase in ("prefill", "decode")]
    return "\n\n".join(parts)


def _phase(cell: dict, phase: str) -> str:
    measured = cell["summary"]["ttft_s" if phase == "prefill" else "tbot_s"]["median"]
    found = cell["profile"][phase]
    limits = (cell["limit"] or {}).get("by_kind", {}).get(phase, {})
    rows = [
        [kind, milliseconds(seconds), _share(seconds, measured), milliseconds(limits.get(kind))]
        for kind, seconds in sorted(found["by_kind"].items(), key=lambda each: -each[1])
    ]
    idle = None if measured is None else max(0.0, measured - found["kernel_s"])
    rows.append(["idle", milliseconds(idle), _share(idle, measured), UNKNOWN])
    rows.append(["all", milliseconds(measured), "", milliseconds(sum(limits.values()) or None)])
    step = "decode step" if phase == "decode" else phase
    title = f"one {step} of {cell['label']}, {found['kernels']:.0f} kernels"
    headers = ["kind", "ms", "share", "limit ms"]
    return f"{title}\n{table(rows, headers)}"


def _share(part: float | None, whole: float | None) -> str:
    return UNKNOWN if part is None or not whole else percent(part / whole)


def costliest(cell: dict) -> str:
    """The ten kernels of a decode step that take the longest."""
    rows = [
        [kernel["name"][:44], kernel["kind"], f"{kernel['calls']:.0f}", milliseconds(kernel["s"])]
        for kernel in cell["profile"]["decode"]["costliest"]
    ]
    body = table(rows, ["kernel", "kind", "calls", "ms"])
    return f"costliest kernels of one decode step of {cell['label']}\n{body}"


def what_bounds(cell: dict) -> str | None:
    """What bounds the decode of a cell, in one line."""
    host, bound = cell["host"], cell["bound"]
    if host is None or host["enqueue_over_kernel"] is None:
        return None
    busy = percent(host["decode_busy_share"])
    ratio = host["enqueue_over_kernel"]
    if ratio > 1:
        return (
            f"decode is bound by launches: enqueueing a step takes {ratio:.1f}x its kernels' time, "
            f"the GPU is busy {busy}"
        )
    resource = "the GPU" if bound is None else f"the GPU's {bound['decode']}"
    return f"decode is bound by {resource}: busy {busy} of a step's time"
