"""Throughput against what one user sees, the front of what was measured, and the hardware's curve.

A larger batch serves more tokens per GPU and each user fewer: no point of that trade is best. What
can be chosen is the front, the points that no other one beats in both. Behind it stands what the
hardware would allow at any batch size: bytes over bandwidth, FLOPs over peak.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from inference_benchmark.plotting.arithmetic import ceilings_of, limits_at
from inference_benchmark.plotting.axes_of_rates import (
    Axis,
    CostAxis,
    EnergyAxis,
    RateAxis,
    Reading,
    TimeAxis,
)
from inference_benchmark.plotting.picture import Picture, Table, listed, number
from inference_benchmark.plotting.style import (
    INK,
    LIMIT,
    label_points,
    legend,
    new_figure,
    plain_log,
)
from inference_benchmark.plotting.subject import PlottedCell, Subject, context_depth, series_of
from inference_benchmark.reporting.figures import bases, headline_rates
from inference_benchmark.reporting.units import percent, significant

_LOG_FROM = 6  # the ratio of the largest value to the least from which an axis is logarithmic
_PER_USER, _PER_GPU = "per_user_tokens_per_s", "per_gpu_tokens_per_s"


@dataclass(frozen=True, eq=False)
class _Point:
    """A cell; of several sessions of it the median of each reading, with the range of these."""

    plotted: PlottedCell
    x: Reading
    y: Reading
    sessions: tuple["_Point", ...] = ()

    @property
    def batch_size(self) -> int:
        return self.plotted.cell["batch_size"]


def pareto_pictures(subject: Subject) -> list[Picture]:
    """Throughput, cost and energy, each against what one user sees; those of which nothing is known
    are left out. Cells that start from several depths of the context are no choice to be made."""
    x, throughput = _speed_axis(subject), _throughput_axis(subject)
    if x is None or throughput is None or len(set(map(context_depth, subject.timed))) > 1:
        return []
    axes = [("Throughput", "pareto", throughput), *_alternatives(throughput)]
    pictures = [_picture(subject, what, name, x, y) for what, name, y in axes]
    return [picture for picture in pictures if picture is not None]


def _speed_axis(subject: Subject) -> Axis | None:
    rates = {rate["name"]: rate for rate in subject.workload["rates"]}
    if _PER_USER in rates:
        return RateAxis(rates[_PER_USER], "tokens/s per user = 1 / TBOT", "tok/s/user")
    if subject.main is None:
        return None
    title = subject.main["title"]
    return TimeAxis(subject.main, f"{title}, ms (less is better: to the right)", f"{title} ms")


def _throughput_axis(subject: Subject) -> RateAxis | None:
    rates = {rate["name"]: rate for rate in subject.workload["rates"]}
    shown = [rates[_PER_GPU]] if _PER_GPU in rates else headline_rates(subject.workload)
    if not shown:
        return None
    (over,) = (m for m in subject.workload["metrics"] if m["name"] == shown[0]["over"])
    title = shown[0]["title"]
    of = "output tokens" if (shown[0]["name"], over["name"]) == (_PER_GPU, "total_s") else "tokens"
    per = " / GPUs" if _PER_GPU in rates else ""
    label = f"{title}\n= batch × {of} / {over['title']} time{per}"
    return RateAxis(shown[0], label, title)


def _alternatives(throughput: RateAxis) -> list[tuple[str, str, Axis]]:
    tokens = "output" if throughput.rate["name"] == _PER_GPU else "total"
    of = "output tokens" if tokens == "output" else "tokens"
    cost = f"$ per million {of}\n= $/GPU-hour / ({of}/hour/GPU); bar: price range"
    energy = f"J per {of.removesuffix('s')}\n= energy of the GPUs / {of}"
    return [
        ("Cost", "pareto-cost", CostAxis(throughput, tokens, cost, f"$/M {of}")),
        ("Energy", "pareto-energy", EnergyAxis(energy, "J/token")),
    ]


def _picture(subject: Subject, what: str, name: str, x: Axis, y: Axis) -> Picture | None:
    points = _points(subject, x, y)
    if not points:
        return None
    front = _front(points, x, y)
    curve = _curve(subject, points, x, y)
    against = "speed for each user" if isinstance(x, RateAxis) else x.title
    return Picture(
        name=name,
        title=f"{what} against {against}",
        sentence=_sentence(subject, points, front, curve, x, y),
        figure=_draw(subject, points, front, curve, x, y),
        tables=[_table(subject, points, front, x, y)],
    )


def _points(subject: Subject, x: Axis, y: Axis) -> list[_Point]:
    groups: dict[str, list[_Point]] = {}
    for plotted in subject.timed:
        readings = x.read(plotted.cell), y.read(plotted.cell)
        if None not in readings:
            point = _Point(plotted, *readings)
            groups.setdefault(subject.base_name(plotted), []).append(point)
    return [_pooled(group) for group in groups.values()]


def _pooled(sessions: list[_Point]) -> _Point:
    first = sessions[0]
    if len(sessions) == 1:
        return replace(first, sessions=(first,))
    x, y = (
        Reading(median(values), (min(values), max(values)), readings[0].limit)
        for readings in ([point.x for point in sessions], [point.y for point in sessions])
        for values in [[reading.value for reading in readings]]
    )
    return _Point(first.plotted, x, y, tuple(sessions))


def _front(points: Sequence[_Point], x: Axis, y: Axis) -> list[_Point]:
    """Those that no other point beats in one and reaches in the other, the fastest for a user
    last."""

    def score(point: _Point) -> tuple[float, float]:
        return (
            point.x.value if x.higher_is_better else -point.x.value,
            point.y.value if y.higher_is_better else -point.y.value,
        )

    def beats(one: _Point, other: _Point) -> bool:
        a, b = score(one), score(other)
        return a[0] >= b[0] and a[1] >= b[1] and a != b

    front = [point for point in points if not any(beats(other, point) for other in points)]
    return sorted(front, key=score)


def _curve(subject: Subject, points: Sequence[_Point], x: Axis, y: Axis) -> list[tuple]:
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


def _counted(plotted: PlottedCell, ceilings, largest: int, x: Axis, y: Axis) -> dict:
    cell, found = plotted.cell, {}
    batch_size = 1
    while batch_size <= max(64, 2 * largest):
        limits = limits_at(plotted.result, cell, ceilings, batch_size) or {}
        scale = batch_size / cell["batch_size"]
        values = x.limit_at(cell, limits, scale), y.limit_at(cell, limits, scale)
        if all(values):
            found[batch_size] = values
        batch_size *= 2
    return found


def _draw(subject, points, front, curve, x: Axis, y: Axis):
    figure, ((axes,),) = new_figure(410)
    if curve:
        axes.plot(
            [each[0] for each in curve],
            [each[1] for each in curve],
            color=LIMIT,
            linestyle=(0, (4, 2)),
            marker=".",
            zorder=1.5,
            label=f"limit of the GPU ({', '.join(bases([p.plotted.cell for p in points]))})",
        )
    if len(front) > 1:
        axes.plot(
            [point.x.value for point in front],
            [point.y.value for point in front],
            color=INK,
            linewidth=4,
            alpha=0.18,
            solid_capstyle="round",
            label="front: no other is better in both",
        )
    for name, group in _by_series(points).items():
        _draw_series(axes, subject, name, group, front)
    _scale(axes, points, curve, x, y)
    axes.set_xlabel(x.label)
    axes.set_ylabel(y.label)
    legend(figure)
    labels = [(p.x.value, p.y.value, f"b{p.batch_size}", p in front) for p in points]
    if len({p.batch_size for p in points}) == 1:  # the title says it
        labels = []
    labels += _curve_labels(points, curve)
    label_points(axes, labels, [[each[:2] for each in curve]])
    return figure


def _by_series(points: Sequence[_Point]) -> dict[str, list[_Point]]:
    groups: dict[str, list[_Point]] = {}
    for point in sorted(points, key=lambda p: p.batch_size):
        groups.setdefault(series_of(point.plotted), []).append(point)
    return groups


def _draw_series(axes, subject: Subject, name: str, group: list[_Point], front) -> None:
    look = subject.looks[name]
    for point in group:
        for reading, draw in ((point.x, axes.hlines), (point.y, axes.vlines)):
            if reading.interval:
                other = point.y.value if reading is point.x else point.x.value
                draw(other, *reading.interval, color=look.color, linewidth=1.2)
    for is_on_front in (True, False):
        chosen = [point for point in group if (point in front) == is_on_front]
        if chosen:
            axes.plot(
                [point.x.value for point in chosen],
                [point.y.value for point in chosen],
                linestyle="none",
                marker=look.marker,
                markersize=8 if is_on_front else 6.5,
                color=look.color,
                markeredgecolor=INK if is_on_front else look.color,
                markerfacecolor=look.color if is_on_front else "none",
                markeredgewidth=1.4,
                label=_series_title(subject, group[0].plotted) if chosen[0] is group[0] else None,
            )


def _series_title(subject: Subject, plotted: PlottedCell) -> str:
    """The name of the cells of a series, without their batch size."""
    return subject.base_name(plotted).replace(f" b{plotted.cell['batch_size']}", "")


def _scale(axes, points, curve, x: Axis, y: Axis) -> None:
    for which, place in (("x", 0), ("y", 1)):
        values = [getattr(point, which).value for point in points]
        shown = values + [each[place] for each in curve if _is_near(each, points)]
        low, high = min(shown), max(shown)
        if high / low >= _LOG_FROM:
            getattr(axes, f"set_{which}lim")(low / 1.35, high * 1.35)
            plain_log(axes, which)
        else:
            margin = max((high - low) * 0.15, high * 0.02)
            getattr(axes, f"set_{which}lim")(max(0, low - margin), high + margin)
    if not x.higher_is_better:
        axes.invert_xaxis()


def _is_near(each: tuple, points: Sequence[_Point]) -> bool:
    """Whether the hardware's point is of a batch size about those that were measured."""
    batches = [point.batch_size for point in points]
    return min(batches) / 2 <= each[2] <= max(batches) * 2


def _curve_labels(points: Sequence[_Point], curve: list[tuple]) -> list[tuple]:
    return [(*each[:2], f"b{each[2]}", False) for each in curve if _is_near(each, points)]


def _sentence(subject, points, front, curve, x: Axis, y: Axis) -> str:
    ends = list(dict.fromkeys((front[-1], front[0])))  # best for a user, best in y
    said = [
        f"{_text(p.x.value)} {x.title} at {_text(p.y.value)} {y.title} "
        f"({subject.base_name(p.plotted)})"
        for p in ends
    ]
    if len(points) == 1:
        text = f"Measured: {said[0]}"
    elif len(ends) == 1:
        text = f"One of {len(points)} cells is best in both: {said[0]}"
    else:
        text = f"The front of {len(front)} cells runs from {said[0]} to {said[1]}"
    if curve:
        shares = [f"{percent(_share(p.y, y))} at b{p.batch_size}" for p in ends if p.y.limit]
        text += f"; of what the hardware allows in {y.title} that is {listed(shares)}"
    sessions = {len(p.sessions) for p in points}
    if max(sessions) > 1:
        text += "; points are medians of sessions, their bars the range of these"
    return f"{text}."


def _share(reading: Reading, axis: Axis) -> float:
    share = reading.value / reading.limit
    return share if axis.higher_is_better else 1 / share


def _text(value: float) -> str:
    return significant(value, 3)


def _table(subject, points, front, x: Axis, y: Axis) -> Table:
    headers = ["cell", x.title, y.title, "range" if isinstance(y, CostAxis) else "95 %"]
    headers += ["limit", "reached", "front"]
    rows = [
        [
            subject.name(p.plotted),
            number(p.x.value, significant(p.x.value)),
            number(p.y.value, significant(p.y.value)),
            _interval(p.y),
            number(p.y.limit, p.y.limit and significant(p.y.limit)),
            number(p.y.limit and _share(p.y, y), p.y.limit and percent(_share(p.y, y))),
            "front" if pooled in front else "-",
        ]
        for pooled in points
        for p in pooled.sessions
    ]
    return Table(f"{y.title} against {x.title}", headers, rows).without_unknown()


def _interval(reading: Reading) -> str:
    if reading.interval is None:
        return "-"
    low, high = sorted(reading.interval)
    return f"{significant(low)} .. {significant(high)}"
