"""Under which conditions a cell was measured, and in what those of several cells differ.

A fingerprint (saved_cells.py) says what was measured; conditions say how: GPU, versions, kernels,
seed. Sessions are pooled only where they agree in all that can change a time.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from inference_benchmark.options.flag import flags_of
from inference_benchmark.options.flags import Flags

UNKNOWN = "unknown"
GPU_UUIDS = "gpu_uuid"

# What is said where it differs, and keeps no sessions apart: GPUs of one kind are part of what
# sessions differ by, and what the outputs were checked for changes no time.
SAID_ONLY = (GPU_UUIDS, "checked", "git_dirty")

_OF_GPU = ("memory_bytes", "power_limit_w", "default_power_limit_w", "max_sm_clock_hz")
# Of the configuration: flags with another role, and what the fingerprint or the report says. What
# this version does not know counts as a condition.
_NOT_CONDITIONS = {name for name, flag in flags_of(Flags).items() if flag.role != "condition"} | {
    *("full_num_layers", "extrapolated_from", "tensor_parallel", "ready_s", "price_source")
}
# What a cell says more exactly than its session, or what its label says.
_NOT_OPTIONS = {"cuda_graphs", "executors", "precision"}


class Conditioned(Protocol):
    @property
    def file(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def conditions(self) -> dict[str, str]: ...


@dataclass(frozen=True)
class Value:
    value: str
    files: tuple[str, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """A condition in which cells that are compared or could be pooled differ."""

    name: str
    values: tuple[Value, ...]
    ignored: bool  # on purpose: --ignore
    changes_time: bool

    @property
    def is_between_files(self) -> bool:
        return len({value.files for value in self.values}) > 1


def conditions_of(result: dict, record: dict) -> dict[str, str]:
    """Every condition of a cell by its name, as text; what the file does not say is "unknown"."""
    environment, config = result["environment"], result["config"]
    gpu = environment["gpu"] or {}
    check = record["output_check"]
    weights = record["weights"] or {}
    ranks = environment["ranks"] or []
    uuids = [rank.get("gpu_uuid") or rank.get("uuid") for rank in ranks] or [gpu.get("uuid")]
    conditions = {
        **{name: value for name, value in config.items() if name not in _NOT_CONDITIONS},
        **{name: value for name, value in environment.items() if name not in ("gpu", "ranks")},
        **{f"gpu_{name}": gpu.get(name) for name in _OF_GPU if gpu},
        **{
            name: value
            for name, value in (record["options"] or {}).items()
            if name not in _NOT_OPTIONS and not isinstance(value, dict)
        },
        "ranks": len(ranks) or config.get("tensor_parallel"),
        "weight_bits": weights.get("storage_bits"),
        "weight_group_size": weights.get("group_size"),
        "checked": " ".join(check["checked"]) if check else "nothing",
        GPU_UUIDS: " ".join(sorted(map(str, uuids))) if any(uuids) else None,
    }
    return {name: _text(value) for name, value in conditions.items() if not isinstance(value, dict)}


def _text(value: Any) -> str:
    if value is None:
        return UNKNOWN
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def timing_key(cell: Conditioned, ignored: Collection[str] = ()) -> tuple[tuple[str, str], ...]:
    """Equal for cells that may be pooled as sessions of one thing."""
    skipped = {*SAID_ONLY, *ignored}
    return tuple(sorted(item for item in cell.conditions.items() if item[0] not in skipped))


def distance(left: Conditioned, right: Conditioned) -> int:
    """In how many conditions that can change a time the two differ."""
    return len(set(timing_key(left)) ^ set(timing_key(right)))


def differences(
    groups: Iterable[Sequence[Conditioned]], ignored: Collection[str]
) -> list[Difference]:
    """In what the cells of each group differ, each difference once, by the name of the condition."""
    seen: dict[str, dict[str, dict[Conditioned, None]]] = {}
    for cells in groups:
        names = dict.fromkeys(name for cell in cells for name in cell.conditions)
        for name in names:
            values: dict[str, list[Conditioned]] = {}
            for cell in cells:
                values.setdefault(cell.conditions.get(name, UNKNOWN), []).append(cell)
            if len(values) > 1:
                known = seen.setdefault(name, {})
                for value, holders in values.items():
                    known.setdefault(value, {}).update(dict.fromkeys(holders))
    return [
        Difference(
            name,
            tuple(
                Value(
                    value, _unique(holders, lambda c: c.file), _unique(holders, lambda c: c.label)
                )
                for value, holders in values.items()
            ),
            ignored=name in ignored,
            changes_time=name not in SAID_ONLY,
        )
        for name, values in seen.items()
    ]


def _unique(cells: Iterable[Conditioned], of: Callable[[Conditioned], str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(of, cells)))
