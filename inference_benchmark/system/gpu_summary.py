"""A cell's `gpu_state` and its energy, from the snapshots around its runs."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from inference_benchmark.system.gpu_state import THROTTLE_FIELDS, Snapshot

# The energy counter refreshes about ten times a second, so one run's reading is off by up to
# 0.1 s of power at either end: runs of less than twice that carry no information.
MIN_ENERGY_RUN_S = 0.2


def summarize_state(
    before: Sequence[Snapshot | None], after: Sequence[Snapshot | None]
) -> dict[str, Any] | None:
    """The `gpu_state` of a cell from the snapshots around each of its runs; None if there are none.

    Clocks and power are those right after each run: before one, the GPU may still be idle.
    `throttled_s` sums each cause over the runs, `throttled_share` divides it by their time
    `window_s`; causes can overlap. `energy_j` was used in `energy_window_s` seconds.
    """
    pairs = _pairs(before, after)
    if not pairs:
        return None
    ends = [end for _, end in pairs]
    both = [snapshot for pair in pairs for snapshot in pair]
    window_s = sum(end.time_s - start.time_s for start, end in pairs)
    throttled_s = {cause: _throttled_s(pairs, cause) for cause in THROTTLE_FIELDS}
    energy_j, energy_window_s = _energy(pairs)
    return {
        "runs": len(pairs),
        "window_s": window_s,
        "sm_clock_hz": _spread([s.sm_clock_hz for s in ends]),
        "memory_clock_hz": _spread([s.memory_clock_hz for s in ends]),
        "temperature_c": _range([s.temperature_c for s in both]),
        "power_limit_w": min(_known(s.power_limit_w for s in both), default=None),
        "default_power_limit_w": min(_known(s.default_power_limit_w for s in both), default=None),
        "power_w": _spread([s.power_w for s in ends]),
        "throttled_s": throttled_s,
        "throttled_share": {
            # the driver updates its counters now and then: a short window can seem overfull
            cause: None if seconds is None or window_s <= 0 else min(1.0, seconds / window_s)
            for cause, seconds in throttled_s.items()
        },
        "energy_j": energy_j,
        "energy_window_s": energy_window_s,
        "event_reasons": _union_of_reasons(both),
        "other_processes": _union_of_processes(both),
    }


def energy_per_token_j(
    before: Sequence[Snapshot | None],
    after: Sequence[Snapshot | None],
    tokens: int,
    min_window_s: float = 2.0,
) -> float | None:
    """Joules per token over all runs of a cell, which made `tokens` tokens together.

    None where a run lacks its energy, or where the runs are too short for the counter: less than
    min_window_s together, or MIN_ENERGY_RUN_S each on average.
    """
    pairs = _pairs(before, after)
    energy_j, window_s = _energy(pairs)
    if energy_j is None or len(pairs) < len(before) or tokens <= 0:
        return None
    if window_s < min_window_s or window_s / len(pairs) < MIN_ENERGY_RUN_S:
        return None
    return energy_j / tokens


Pair = tuple[Snapshot, Snapshot]


def _pairs(before: Sequence[Snapshot | None], after: Sequence[Snapshot | None]) -> list[Pair]:
    both = zip(before, after, strict=True)
    return [(start, end) for start, end in both if start is not None and end is not None]


def _throttled_s(pairs: list[Pair], cause: str) -> float | None:
    return _total(_increase(s.throttled_s.get(cause), e.throttled_s.get(cause)) for s, e in pairs)


def _energy(pairs: list[Pair]) -> tuple[float | None, float | None]:
    """Joules, and the seconds they were used in; (None, None) unless every run has its energy."""
    energy_j = _total(_increase(start.energy_j, end.energy_j) for start, end in pairs)
    if energy_j is None:
        return None, None
    return energy_j, sum(end.time_s - start.time_s for start, end in pairs)


def _increase(start: float | None, end: float | None) -> float | None:
    """None also where a counter ran backwards: it was reset, and the difference means nothing."""
    return None if start is None or end is None or end < start else end - start


def _total(values: Any) -> float | None:
    values = list(values)
    return None if not values or None in values else sum(values)


def _known(values: Any) -> list[float]:
    return [value for value in values if value is not None]


def _range(values: list[float | None]) -> dict[str, float] | None:
    known = _known(values)
    return {"min": min(known), "max": max(known)} if known else None


def _spread(values: list[float | None]) -> dict[str, float] | None:
    known = _known(values)
    if not known:
        return None
    return {"min": min(known), "median": median(known), "max": max(known)}


def _union_of_reasons(snapshots: list[Snapshot]) -> list[str] | None:
    known = _known(snapshot.event_reasons for snapshot in snapshots)
    return sorted(set().union(*known)) if known else None


def _union_of_processes(snapshots: list[Snapshot]) -> list[dict[str, int | None]] | None:
    """Each process once, with the most memory it was seen to use."""
    known = _known(snapshot.other_processes for snapshot in snapshots)
    if not known:
        return None
    most: dict[int, int | None] = {}
    for process in (process for processes in known for process in processes):
        used = _known([most.get(process["pid"]), process["used_memory_bytes"]])
        most[process["pid"]] = max(used, default=None)
    return [{"pid": pid, "used_memory_bytes": used} for pid, used in sorted(most.items())]
