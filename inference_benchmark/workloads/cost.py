"""What a run has to do, and the least time that the hardware alone needs for it. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from inference_benchmark.hardware import Ceilings


@dataclass(frozen=True)
class Phase:
    """FLOPs and bytes of one step of a kind, and which of them attention needs."""

    flops: float
    bytes: float
    attention_flops: float
    attention_bytes: float = 0.0

    def least_s(self, ceilings: Ceilings) -> float:
        return _least_s(self.flops, self.bytes, ceilings)

    def bound(self, ceilings: Ceilings) -> str:
        """What the limit is made of, "compute" or "bandwidth"."""
        computes_s = self.flops / ceilings.peak_flops
        return (
            "compute" if computes_s >= self.bytes / ceilings.bandwidth_bytes_per_s else "bandwidth"
        )

    def by_kind(self, ceilings: Ceilings) -> dict[str, float]:
        """The least time of each kind of kernel."""
        flops, moved = self.flops - self.attention_flops, self.bytes - self.attention_bytes
        return {
            "matmul": _least_s(flops, moved, ceilings),
            "attention": _least_s(self.attention_flops, self.attention_bytes, ceilings),
        }


def _least_s(flops: float, moved: float, ceilings: Ceilings) -> float:
    return max(flops / ceilings.peak_flops, moved / ceilings.bandwidth_bytes_per_s)


@dataclass(frozen=True)
class Cost:
    """The phases of a run by name, and how its metrics are made of them.

    metrics: {metric: {phase: how many of its steps}}; a metric without steps has no limit.
    facts: what of this the result file holds.
    mfu, mbu: (phase, metric) that FLOPs and bytes are held against, None where it says nothing.
    amounts: what rates of work divide by their metric's median; others are the workload's amounts.
    """

    phases: Mapping[str, Phase]
    metrics: Mapping[str, Mapping[str, int]]
    facts: Mapping[str, float] = field(default_factory=dict)
    mfu: tuple[str, str] | None = None
    mbu: tuple[str, str] | None = None
    amounts: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def unknown(cls) -> "Cost":
        """Of a model of which nobody here knows what it computes: it has no limits."""
        return cls(phases={}, metrics={})

    def limit(self, ceilings: Ceilings | None) -> dict | None:
        """The result file's limit of a cell: least seconds of each metric, and by kind of kernel."""
        if ceilings is None or not self.phases:
            return None
        limit = {
            "basis": ceilings.basis,
            "metrics": self._least_s(ceilings),
            "by_kind": {name: phase.by_kind(ceilings) for name, phase in self.phases.items()},
        }
        if ceilings.datasheet is not None:
            limit["datasheet"] = self._least_s(ceilings.datasheet)
        return limit

    def _least_s(self, ceilings: Ceilings) -> dict[str, float | None]:
        least_s = {name: phase.least_s(ceilings) for name, phase in self.phases.items()}
        return {
            metric: sum(least_s[phase] * count for phase, count in steps.items()) or None
            for metric, steps in self.metrics.items()
        }

    def bound(self, ceilings: Ceilings | None) -> dict[str, str] | None:
        """For each metric that is the time of one step, what bounds it."""
        if ceilings is None or not self.phases:
            return None
        return {
            metric: self.phases[phase].bound(ceilings)
            for metric, steps in self.metrics.items()
            for phase, count in steps.items()
            if len(steps) == 1 and count == 1
        }
