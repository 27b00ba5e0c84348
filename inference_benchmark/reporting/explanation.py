"""--explain: each phase of a run, time by kind of kernel beside the limit of each kind."""

from inference_benchmark.reporting.figures import is_sound, limit_of, median
from inference_benchmark.reporting.layout import table
from inference_benchmark.reporting.reading import printable
from inference_benchmark.reporting.units import UNKNOWN, milliseconds, percent

_BUSY = "_busy_share"
_STEPS = {"decode": "decode step"}
_MOSTLY = 0.5


def explain(cell: dict) -> str:
    """A table per phase, or why there are none."""
    cell = printable(cell)
    if not is_sound(cell):
        return f"{cell['label']}: no profile, its output is wrong or it failed"
    if cell["profile"] is None:
        return f"{cell['label']}: no profile (it needs a CUDA GPU and a run that succeeded)"
    return "\n\n".join(_phase(cell, phase) for phase in cell["profile"])


def _phase(cell: dict, phase: str) -> str:
    """Kernels are held against the limit of the very steps that were profiled where it is known,
    the median over runs against that of a whole run."""
    profiled = cell["profile"][phase]
    metric = profiled.get("metric")
    measured, limits = median(cell, metric), _limits(cell, phase)
    rows = [
        [
            kernel_kind,
            milliseconds(seconds),
            _share(seconds, measured),
            milliseconds(limits.get(kernel_kind)),
        ]
        for kernel_kind, seconds in sorted(profiled["by_kind"].items(), key=lambda item: -item[1])
    ]
    kernel_s = profiled["kernel_s"]
    limit_s = profiled.get("limit_s") or sum(limits.values()) or None
    rows.append(
        ["kernels", milliseconds(kernel_s), _share(kernel_s, measured), milliseconds(limit_s)]
    )
    idle = None if measured is None else max(0.0, measured - kernel_s)
    rows.append(["idle", milliseconds(idle), _share(idle, measured), UNKNOWN])
    rows.append(
        ["median of runs", milliseconds(measured), "", milliseconds(limit_of(cell, metric))]
    )
    basis = f"limit ms ({cell['limit']['basis']})" if cell["limit"] else "limit ms"
    return f"{_title(cell, phase, profiled)}\n{table(rows, ['kind', 'ms', 'share', basis])}"


def _title(cell: dict, phase: str, profiled: dict) -> str:
    title = f"one {_STEPS.get(phase, phase)} of {cell['label']}, {profiled['kernels']:.0f} kernels"
    if profiled.get("contexts"):
        first, last = profiled["contexts"]
        title += f", context {first:,}" + (f" to {last:,}" if last != first else "")
    return title


def _limits(cell: dict, phase: str) -> dict:
    """By kind of kernel: at the positions that were profiled, where the profile says them."""
    profiled = cell["profile"][phase].get("limit_by_kind")
    mean = (cell["limit"] or {}).get("by_kind", {}).get(phase, {})
    return {
        kernel_kind: limit for kernel_kind, limit in (profiled or mean).items() if limit is not None
    }


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
    """What bounds the step that a run repeats, or its only one, in one line."""
    host, bound = cell["host"], cell["bound"]
    if not is_sound(cell) or host is None or host.get("enqueue_over_kernel") is None:
        return None
    phase = _repeated_phase(host)
    busy = percent(host.get(f"{phase}{_BUSY}"))
    ratio = host["enqueue_over_kernel"]
    if ratio > 1:
        return (
            f"{phase} is bound by launches: enqueueing a step takes {ratio:.1f}x its kernels' time, "
            f"the GPU is busy {busy}"
        )
    metric = ((cell["profile"] or {}).get(phase) or {}).get("metric")
    resource_name = (bound or {}).get(metric)
    resource = f"the GPU's {resource_name}" if resource_name else "the GPU"
    return f"{phase} is bound by {resource}: busy {busy} of a step's time{_power(cell)}"


def _power(cell: dict) -> str:
    """At the power limit fewer instructions are what gains speed, whatever else a step is bound by."""
    state = cell["gpu_state"] or {}
    share = (state.get("throttled_share") or {}).get("software_power_cap") or 0.0
    clock_hz = (state.get("sm_clock_hz") or {}).get("median")
    if share < _MOSTLY or clock_hz is None or state.get("power_limit_w") is None:
        return ""
    return (
        f"; at the power limit of {state['power_limit_w']:.0f} W for {percent(share)} of the time, "
        f"SM clock {clock_hz / 1e6:,.0f} MHz"
    )


def _repeated_phase(host: dict) -> str:
    phases = [name.removesuffix(_BUSY) for name in host if name.endswith(_BUSY)]
    return "decode" if "decode" in phases or not phases else phases[-1]
