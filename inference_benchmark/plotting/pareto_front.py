"""Which points are on the front, and what the hardware allows around them: numbers, no drawing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from inference_benchmark.hardware import Ceilings
from inference_benchmark.plotting.arithmetic import ceilings_of, limits_at
from inference_benchmark.plotting.axes_of_rates import Axis, Reading
from inference_benchmark.plotting.subject import PlottedCell, Subject

_LEAST_LARGEST_BATCH = 64  # up to which the hardware's curve goes at least


@dataclass(frozen=True, eq=False)
class Point:
    """A cell; of several sessions of it the median of each reading, with the range of these."""

    plotted: PlottedCell
    x: Reading
    y: Reading
    sessions: tuple["Point", ...] = ()

    @property
    def batch_size(self) -> int:
        return self.plotted.cell["batch_size"]


def points_of(subject: Subject, x: Axis, y: Axis) -> list[Point]:
    groups: dict[str, list[Point]] = {}
    for plotted in subject.timed:
        readings = x.read(plotted.cell), y.read(plotted.cell)
        if None not in readings:
            point = Point(plotted, *readings)
            groups.setdefault(subject.base_name(plotted), []).append(point)
    return [_pooled(group) for group in groups.values()]


def _pooled(sessions: list[Point]) -> Point:
    first = sessions[0]
    if len(sessions) == 1:
        return replace(first, sessions=(first,))
    x, y = (_middle([getattr(point, axis) for point in sessions]) for axis in ("x", "y"))
    return Point(first.plotted, x, y, tuple(sessions))


def _middle(readings: Sequence[Reading]) -> Reading:
    values = [reading.value for reading in readings]
    return Reading(median(values), (min(values), max(values)), readings[0].limit)


def front_of(points: Sequence[Point], x: Axis, y: Axis) -> list[Point]:
    """Those that no other point beats in one and reaches in the other, the fastest for a user
    last."""

    def score(point: Point) -> tuple[float, float]:
        return (
            point.x.value if x.higher_is_better else -point.x.value,
            point.y.value if y.higher_is_better else -point.y.value,
        )

    def beats(point: Point, other: Point) -> bool:
        a, b = score(point), score(other)
        return a[0] >= b[0] and a[1] >= b[1] and a != b

    front = [point for point in points if not any(beats(other, point) for other in points)]
    return sorted(front, key=score)


def curve_of(points: Sequence[Point], x: Axis, y: Axis) -> list[tuple]:
    """(x, y, batch size) of what the hardware allows, by batch size.

    Through the limits of the cells; where the work can be counted at any batch size, at the powers
    of two between and around them as well. Of one format on one number of GPUs, the first.
    """
    first = points[0].plotted
    alike = [p for p in points if _hardware(p.plotted) == _hardware(first)]
    at = {p.batch_size: (p.x.limit, p.y.limit) for p in alike if p.x.limit and p.y.limit}
    if not at:
        return []
    measured = [p.plotted for p in alike if p.plotted.result is first.result]
    ceilings = ceilings_of([(plotted.result, plotted.cell) for plotted in measured])
    if ceilings is not None:
        at |= _counted(first, ceilings, max(at), x, y)
    return sorted((*values, batch) for batch, values in at.items())


def _hardware(plotted: PlottedCell) -> tuple:
    return plotted.cell["weights"]["format"], plotted.num_gpus


def _counted(plotted: PlottedCell, ceilings: Ceilings, largest: int, x: Axis, y: Axis) -> dict:
    cell, points = plotted.cell, {}
    batch_size = 1
    while batch_size <= max(_LEAST_LARGEST_BATCH, 2 * largest):
        limits = limits_at(plotted.result, cell, ceilings, batch_size) or {}
        scale = batch_size / cell["batch_size"]
        values = x.limit_at(cell, limits, scale), y.limit_at(cell, limits, scale)
        if all(values):
            points[batch_size] = values
        batch_size *= 2
    return points


def is_near(curve_point: tuple, points: Sequence[Point]) -> bool:
    """Whether the hardware's point is of a batch size about those that were measured."""
    batches = [point.batch_size for point in points]
    return min(batches) / 2 <= curve_point[2] <= max(batches) * 2


def share_of(reading: Reading, axis: Axis) -> float:
    share = reading.value / reading.limit
    return share if axis.higher_is_better else 1 / share
