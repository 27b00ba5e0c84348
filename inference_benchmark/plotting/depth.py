"""Rates over the depth of the context that is already in the cache, with what the hardware allows.

Attention to a longer context reads more of the cache in each decode step and computes more in each
prefill, so both rates fall; the question is whether they fall as the hardware's do.
"""

from inference_benchmark.plotting.axes_of_rates import RateAxis, Reading
from inference_benchmark.plotting.picture import Picture, Table, listed, number
from inference_benchmark.plotting.style import LIMIT, Look, legend, new_figure, plain_log, tick
from inference_benchmark.plotting.subject import PlottedCell, Subject, context_depth, series_of
from inference_benchmark.reporting.figures import bases, headline_rates
from inference_benchmark.reporting.units import UNKNOWN, percent, rate

_LOG_FROM = 6  # the ratio of the largest value to the least from which an axis is logarithmic
_MARGIN = 1.15  # factor beside the first and the last depth

Readings = list[tuple[PlottedCell, Reading]]


def depth_picture(subject: Subject) -> Picture | None:
    """None where all cells start from the same depth."""
    cells = [p for p in subject.timed if context_depth(p) is not None]
    cells.sort(key=context_depth)
    if len({context_depth(plotted) for plotted in cells}) < 2:
        return None
    axes = [
        RateAxis(declared, declared["title"], declared["title"])
        for declared in headline_rates(subject.workload)
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
    return [(p, value) for p in cells if (value := axis.read(p.cell)) is not None]


def _draw(subject: Subject, read: list[tuple[RateAxis, Readings]]):
    figure, axes = new_figure(250 * len(read) + 60, len(read), sharex=True)
    for (panel,), (axis, readings) in zip(axes, read, strict=True):
        for (series, *_), line in _lines(readings).items():
            _draw_line(panel, subject, subject.looks[series], line)
        values = [v for _, r in readings for v in (r.value, r.limit) if v]
        if max(values) / min(values) >= _LOG_FROM:
            panel.set_ylim(min(values) / 1.3, max(values) * 1.3)
            plain_log(panel, "y")
        else:
            panel.set_ylim(0, max(values) * 1.1)
            panel.yaxis.set_major_formatter(lambda value, _: tick(value))
        panel.set_ylabel(axis.label)
    depths = sorted({context_depth(plotted) for plotted, _ in read[0][1]})
    positive = [depth for depth in depths if depth]
    axes[-1][0].set_xscale("symlog", base=2, linthresh=positive[0], linscale=0.6)
    axes[-1][0].set_xlim(depths[0] / _MARGIN or -positive[0] / 6, depths[-1] * _MARGIN)
    axes[-1][0].set_xticks(depths, list(map(_short, depths)))
    axes[-1][0].minorticks_off()
    axes[-1][0].set_xlabel("tokens in the cache before the run, per sequence")
    legend(figure)
    return figure


def _short(depth: int) -> str:
    return f"{depth // 1024}k" if depth and depth % 1024 == 0 else f"{depth:,}"


def _lines(readings: Readings) -> dict[tuple[str, int, str], Readings]:
    """By series, batch size and session."""
    lines: dict[tuple[str, int, str], Readings] = {}
    for plotted, reading in readings:
        key = series_of(plotted), plotted.cell["batch_size"], plotted.file
        lines.setdefault(key, []).append((plotted, reading))
    return lines


def _draw_line(axes, subject: Subject, look: Look, line: Readings) -> None:
    first, batch_size = line[0][0], line[0][0].cell["batch_size"]
    depths = [context_depth(plotted) for plotted, _ in line]
    known = set(axes.get_legend_handles_labels()[1])
    title = _title(subject, first)
    axes.plot(
        depths,
        [reading.value for _, reading in line],
        color=look.color,
        marker=look.marker,
        linestyle=look.line,
        label=title if title not in known else None,
    )
    for depth, (_, reading) in zip(depths, line, strict=True):
        if reading.interval:
            axes.vlines(depth, *reading.interval, color=look.color, linewidth=1.2)
    if all(reading.limit for _, reading in line):
        title = f"limit at b{batch_size} ({', '.join(bases([p.cell for p, _ in line]))})"
        axes.plot(
            depths,
            [reading.limit for _, reading in line],
            color=LIMIT,
            linestyle=(0, (4, 2)),
            marker=".",
            label=title if title not in known else None,
        )


def _title(subject: Subject, plotted: PlottedCell) -> str:
    """Of a line: without the depth."""
    return f"{subject.series_name(plotted)} b{plotted.cell['batch_size']}"


def _sentence(subject: Subject, axis: RateAxis, readings: Readings) -> str:
    """Of the last rate, decode where there is one."""
    parts = []
    for line in _lines(readings).values():
        (shallow, before), (deep, after) = line[0], line[-1]
        changes = "falls" if after.value < before.value else "goes"
        part = (
            f"{_title(subject, shallow)} {changes} from {rate(before.value)} {axis.title} at depth "
            f"{context_depth(shallow):,} to {rate(after.value)} at {context_depth(deep):,}"
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
