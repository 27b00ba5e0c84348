"""What a rate, a cost or an energy is for a cell, with its interval and what the hardware allows.

Rates are an amount over a time, so that their intervals and limits are those of the time, turned
around. Costs are a price over a rate.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from inference_benchmark.reporting.figures import limit_of, of_summary, rate_of, summary_of


@dataclass(frozen=True)
class Reading:
    value: float
    interval: tuple[float, float] | None
    limit: float | None


@dataclass(frozen=True)
class RateAxis:
    """A rate of the workload. label: its definition, for the axis."""

    rate: Mapping
    label: str
    title: str
    higher_is_better: bool = True

    def read(self, cell: dict) -> Reading | None:
        value, over = rate_of(cell, self.rate["name"]), self.rate["over"]
        times = summary_of(cell, over)
        if not value or not times.get("median"):
            return None
        amount, interval = value * times["median"], times.get("median_ci95")
        limit_s = limit_of(cell, over)
        return Reading(
            value,
            interval and (amount / interval[1], amount / interval[0]),
            amount / limit_s if limit_s else None,
        )

    def limit_at(self, cell: dict, limits: Mapping[str, float], scale: float) -> float | None:
        """With `scale` times the cell's batch; limits: least seconds by metric."""
        value, over = rate_of(cell, self.rate["name"]), self.rate["over"]
        if not limits.get(over) or not value:
            return None
        amount = value * summary_of(cell, over)["median"]
        return amount * (1 if self.is_per_sequence else scale) / limits[over]

    @property
    def is_per_sequence(self) -> bool:
        return self.rate["name"].startswith("per_user")


@dataclass(frozen=True)
class TimeAxis:
    """A metric in ms."""

    metric: Mapping
    label: str
    title: str
    higher_is_better: bool = False

    def read(self, cell: dict) -> Reading | None:
        times = summary_of(cell, self.metric["name"])
        if not times.get("median"):
            return None
        interval, limit_s = times.get("median_ci95"), limit_of(cell, self.metric["name"])
        return Reading(
            times["median"] * 1e3,
            interval and (interval[0] * 1e3, interval[1] * 1e3),
            limit_s and limit_s * 1e3,
        )

    def limit_at(self, cell: dict, limits: Mapping[str, float], scale: float) -> float | None:
        limit_s = limits.get(self.metric["name"])
        return limit_s and limit_s * 1e3


@dataclass(frozen=True)
class CostAxis:
    """$ per million tokens; the interval is the range of prices. throughput: what it is a price
    over."""

    throughput: RateAxis
    tokens: str
    label: str
    title: str
    higher_is_better: bool = False

    def read(self, cell: dict) -> Reading | None:
        cost = (of_summary(cell, "cost_per_million_tokens") or {}).get(self.tokens)
        rate = self.throughput.read(cell)
        if not cost or rate is None:
            return None
        limit = cost["median"] * rate.value / rate.limit if rate.limit else None
        prices = (cost["min"], cost["max"])
        return Reading(cost["median"], prices if prices[0] < prices[1] else None, limit)

    def limit_at(self, cell: dict, limits: Mapping[str, float], scale: float) -> float | None:
        now, limit = self.read(cell), self.throughput.limit_at(cell, limits, scale)
        rate = self.throughput.read(cell)
        return now.value * rate.value / limit if now and rate and limit else None


@dataclass(frozen=True)
class EnergyAxis:
    """J per token; no limit is known of it."""

    label: str
    title: str
    higher_is_better: bool = False

    def read(self, cell: dict) -> Reading | None:
        energy = of_summary(cell, "energy_per_token_j")
        return Reading(energy, None, None) if energy else None

    def limit_at(self, cell: dict, limits: Mapping[str, float], scale: float) -> float | None:
        return None


Axis = RateAxis | TimeAxis | CostAxis | EnergyAxis
