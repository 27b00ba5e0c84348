"""Rates over the depth of the context that is already in the cache, with what the hardware allows.

Attention to a longer context reads more of the cache in each decode step and computes more in each
prefill, so both rates fall; the question is whether they fall as the hardware's do.
"""

from inference_benchmark.plotting.axes_of_rates import RateAxis, Reading
from inference_benchmark.plotting.picture import Picture, Table, listed, number
from inference_benchmark.plotting.style import LIMIT, legend, new_figure, plain_log, tick
from inference_benchmark.plotting.subject import PlottedCell, Subject, context_depth, series_of
from inference_benchmark.reporting.figures import bases, headline_rates
from inference_benchmark.reporting.units import UNKNOWN, percent, rate

_LOG_FROM = 6  # the ratio of the largest value to the least from which an axis is logarithmic

Readings = list[tuple[PlottedCell, Reading]]


def depth_picture(subject: Subject) -> Picture | None:
    """None where all cells start from the same depth."""
    cells = [p for p in subject.timed if context_depth(p) is not None]
    cells.sort(key=context_depth)
    if len({context_depth(plotted) for plotted in cells}) < 2:
        return None
    axes = [
        RateAxis(each, each["title"], each["title"]) for each in headline_rates(subject.workload)
    ]
    read = [(axis, _read(axis, cells)) for axis in axes]
    read = [(axis, readings) for axis, readings in read if readings]
    if not read:
        return None
    return Picture(
        name="depth",
        title="Rates over the depth of the context",
        sentence=_sentence(subject, *read[-1]),
        figure=_draw(subject, read),
        tables=[_table(subject, axis, readings) for axis, readings in read],
    )


def _read(axis: RateAxis, cells: list[PlottedCell]) -> Readings:
    return [(p, found) for p in cells if (found := axis.read(p.cell)) is not None]


def _draw(subject: Subject, read: list[tuple[RateAxis, Readings]]):
    figure, axes = new_figure(250 * len(read) + 60, len(read), sharex=True)
    for (panel,), (axis, readings) in zip(axes, read, strict=True):
        is_first = axis is read[0][0]
        for name, line in _lines(subject, readings).items():
            _draw_line(panel, subject, name, line, is_first)
        values = [v for _, r in readings for v in (r.value, r.limit) if v]
        if max(values) / min(values) >= _LOG_FROM:
            panel.set_ylim(min(values) / 1.3, max(values) * 1.3)
            plain_log(panel, "y")
        else:
            panel.set_ylim(0, max(values) * 1.1)
        panel.set_ylabel(axis.label)
    depths = sorted({context_depth(plotted) for plotted, _ in read[0][1]})
    positive = [depth for depth in depths if depth]
    axes[-1][0].set_xscale("symlog", base=2, linthresh=positive[0], linscale=0.6)
    axes[-1][0].set_xticks(
        depths, [f"{depth // 1024}k" if depth >= 1024 else tick(depth) for depth in depths]
    )
    axes[-1][0].minorticks_off()
    axes[-1][0].set_xlabel("tokens in the cache before the run, per sequence")
    legend(figure)
    return figure


def _lines(subject: Subject, readings: Readings) -> dict[tuple[str, int], Readings]:
    """By series and batch size."""
    lines: dict[tuple[str, int], Readings] = {}
    for plotted, reading in readings:
        key = series_of(plotted), plotted.cell["batch_size"]
        lines.setdefault(key, []).append((plotted, reading))
    return lines


def _draw_line(axes, subject: Subject, name: tuple[str, int], line: Readings, named: bool) -> None:
    series, batch_size = name
    look, depths = subject.looks[series], [context_depth(plotted) for plotted, _ in line]
    first = line[0][0]
    title = f"{first.cell['name']['variant']} b{batch_size}"
    axes.plot(
        depths,
        [reading.value for _, reading in line],
        color=look.color,
        marker=look.marker,
        linestyle=look.line,
        label=title if named else None,
    )
    for depth, (_, reading) in zip(depths, line, strict=True):
        if reading.interval:
            axes.vlines(depth, *reading.interval, color=look.color, linewidth=1.2)
    if all(reading.limit for _, reading in line):
        basis = ", ".join(bases([plotted.cell for plotted, _ in line]))
        axes.plot(
            depths,
            [reading.limit for _, reading in line],
            color=LIMIT,
            linestyle=(0, (4, 2)),
            marker=".",
            label=f"limit at b{batch_size} ({basis})" if named else None,
        )


def _sentence(subject: Subject, axis: RateAxis, readings: Readings) -> str:
    """Of the last rate, decode where there is one."""
    parts = []
    for line in _lines(subject, readings).values():
        (shallow, before), (deep, after) = line[0], line[-1]
        part = (
            f"{subject.base_name(shallow)} falls from {rate(before.value)} to {rate(after.value)} "
            f"{axis.title} at {context_depth(deep):,} tokens"
        )
        if before.limit and after.limit:
            shares = percent(before.value / before.limit), percent(after.value / after.limit)
            part += f", from {shares[0]} to {shares[1]} of the limit"
        parts.append(part)
    return f"{listed(parts)}."


def _table(subject: Subject, axis: RateAxis, readings: Readings) -> Table:
    rows = [
        [
            subject.name(plotted),
            number(context_depth(plotted), f"{context_depth(plotted):,}"),
            number(reading.value, rate(reading.value)),
            number(reading.limit, rate(reading.limit)),
            number(*_reached(reading)) if reading.limit else UNKNOWN,
        ]
        for plotted, reading in readings
    ]
    headers = ["cell", "depth", axis.title, "limit", "reached"]
    return Table(f"{axis.title} over depth", headers, rows).without_unknown()


def _reached(reading: Reading) -> tuple[float, str]:
    return reading.value / reading.limit, percent(reading.value / reading.limit)
