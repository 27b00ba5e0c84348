"""Throughput against what one user sees, the front of what was measured, and the hardware's curve.

A larger batch serves more tokens per GPU and each user fewer: no point of that trade is best. What
can be chosen is the front, the points that no other one beats in both. Behind it stands what the
hardware would allow at any batch size: bytes over bandwidth, FLOPs over peak.
"""

from collections.abc import Sequence

from inference_benchmark.plotting.axes_of_rates import (
    Axis,
    CostAxis,
    EnergyAxis,
    RateAxis,
    Reading,
    TimeAxis,
)
from inference_benchmark.plotting.pareto_front import (
    Point,
    curve_of,
    front_of,
    is_near,
    points_of,
    share_of,
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
from inference_benchmark.plotting.subject import Subject, sequence, series_of
from inference_benchmark.reporting.figures import bases, headline_rates
from inference_benchmark.reporting.units import percent, significant

_LOG_FROM = 6  # the ratio of the largest value to the least from which an axis is logarithmic
_PER_USER, _PER_GPU = "per_user_tokens_per_s", "per_gpu_tokens_per_s"


def pareto_pictures(subject: Subject) -> list[Picture]:
    """Throughput, cost and energy, each against what one user sees; those of which nothing is known
    are left out. Where sequences differ in length there is no choice to be made."""
    x, throughput = _speed_axis(subject), _throughput_axis(subject)
    if x is None or throughput is None or len(set(map(sequence, subject.timed))) > 1:
        return []
    axes = [("Throughput", "pareto", throughput), *_alternatives(throughput)]
    batch_sizes = {plotted.cell["batch_size"] for plotted in subject.timed}
    if isinstance(x, TimeAxis) and len(batch_sizes) == 1:  # a rate is an amount over that time
        axes = [axis for axis in axes if isinstance(axis[2], EnergyAxis)]
    pictures = [_picture(subject, title, name, x, y) for title, name, y in axes]
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


def _picture(subject: Subject, title: str, name: str, x: Axis, y: Axis) -> Picture | None:
    points = points_of(subject, x, y)
    if not points:
        return None
    front = front_of(points, x, y)
    curve = curve_of(points, x, y)
    against = "speed for each user" if isinstance(x, RateAxis) else x.title
    return Picture(
        name=name,
        title=f"{title} against {against}",
        sentence=_sentence(subject, points, front, curve, x, y),
        figure=_draw(subject, points, front, curve, x, y),
        tables=[_table(subject, points, front, x, y)],
    )


def _draw(subject, points, front, curve, x: Axis, y: Axis):
    figure, ((axes,),) = new_figure(410)
    if curve:
        axes.plot(
            [point[0] for point in curve],
            [point[1] for point in curve],
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
    label_points(axes, labels, [[point[:2] for point in curve]])
    return figure


def _by_series(points: Sequence[Point]) -> dict[str, list[Point]]:
    groups: dict[str, list[Point]] = {}
    for point in sorted(points, key=lambda p: p.batch_size):
        groups.setdefault(series_of(point.plotted), []).append(point)
    return groups


def _draw_series(axes, subject: Subject, name: str, group: list[Point], front) -> None:
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
                label=subject.series_name(group[0].plotted) if chosen[0] is group[0] else None,
            )


def _scale(axes, points, curve, x: Axis, y: Axis) -> None:
    for axis_name, place in (("x", 0), ("y", 1)):
        values = [getattr(point, axis_name).value for point in points]
        shown = values + [point[place] for point in curve if is_near(point, points)]
        low, high = min(shown), max(shown)
        if high / low >= _LOG_FROM:
            getattr(axes, f"set_{axis_name}lim")(low / 1.35, high * 1.35)
            plain_log(axes, axis_name)
        else:
            margin = max((high - low) * 0.15, high * 0.02)
            getattr(axes, f"set_{axis_name}lim")(max(0, low - margin), high + margin)
    if not x.higher_is_better:
        axes.invert_xaxis()


def _curve_labels(points: Sequence[Point], curve: list[tuple]) -> list[tuple]:
    return [(*point[:2], f"b{point[2]}", False) for point in curve if is_near(point, points)]


def _sentence(subject, points, front, curve, x: Axis, y: Axis) -> str:
    ends = list(dict.fromkeys((front[-1], front[0])))  # best for a user, best in y
    phrases = [
        f"{_text(p.x.value)} {x.title} at {_text(p.y.value)} {y.title} "
        f"({subject.base_name(p.plotted)})"
        for p in ends
    ]
    if len(points) == 1:
        text = f"Measured: {phrases[0]}"
    elif len(ends) == 1:
        text = f"One of {len(points)} cells is best in both: {phrases[0]}"
    else:
        text = f"The front of {len(front)} cells runs from {phrases[0]} to {phrases[1]}"
    if curve:
        shares = [f"{percent(share_of(p.y, y))} at b{p.batch_size}" for p in ends if p.y.limit]
        text += f"; of what the hardware allows in {y.title} that is {listed(shares)}"
    sessions = {len(p.sessions) for p in points}
    if max(sessions) > 1:
        text += "; points are medians of sessions, their bars the range of these"
    return f"{text}."


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
            number(p.y.limit and share_of(p.y, y), p.y.limit and percent(share_of(p.y, y))),
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
