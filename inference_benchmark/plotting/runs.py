"""Every run as a dot over the session's time, with the GPU's clock and temperature under it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from inference_benchmark.plotting.picture import Picture, Table, number, slug
from inference_benchmark.plotting.style import (
    GRID,
    LIMIT,
    SERIES,
    new_figure,
    row_labels,
    signed_percent,
)
from inference_benchmark.plotting.subject import PlottedCell, Subject
from inference_benchmark.reporting.figures import shown_unit, summary_of, value_text

_ROW = 38  # units
_HALF = 0.3  # of a row, on either side of the median


@dataclass(frozen=True, eq=False)
class _Runs:
    """seconds: since the session's first run, or the run's number where no start is known."""

    plotted: PlottedCell
    seconds: list[float]
    values: list[float]
    median: float

    @property
    def deviations(self) -> list[float]:
        return [value / self.median - 1 for value in self.values]


def runs_pictures(subject: Subject) -> list[Picture]:
    """One per headline metric."""
    pictures = []
    for metric in subject.headlines:
        rows = [_runs(plotted, metric["name"]) for plotted in subject.timed]
        rows = [row for row in rows if row is not None]
        if rows:
            pictures.append(_picture(subject, metric, rows))
    return pictures


def _picture(subject: Subject, metric: dict, rows: list[_Runs]) -> Picture:
    return Picture(
        name=f"runs-{slug(metric['name'].removesuffix('_s'))}",
        title=f"{metric['title']} of every run",
        sentence=_sentence(subject, metric, rows),
        figure=_draw(subject, metric, rows),
        tables=[_table(subject, metric, rows)],
    )


def _runs(plotted: PlottedCell, metric: str) -> _Runs | None:
    samples, summary = plotted.cell["samples"] or {}, summary_of(plotted.cell, metric)
    values = samples.get("metrics", {}).get(metric)
    if not values or not summary.get("median"):
        return None
    return _Runs(plotted, _times(plotted), list(values), summary["median"])


def _times(plotted: PlottedCell) -> list[float]:
    """Of an estimate, which never ran, and of old files, the number of each round."""
    samples = plotted.cell["samples"]
    if not samples["started"]:
        return [float(number) for number in samples["round"]]
    starts = [
        cell["samples"]["started"][0]
        for cell in plotted.result["cells"]
        if cell["samples"] and cell["samples"]["started"]
    ]
    first = min(map(_seconds, starts))
    return [_seconds(start) - first for start in samples["started"]]


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _draw(subject: Subject, metric: dict, rows: list[_Runs]):
    states = _states(rows)
    panels = [len(rows) * _ROW, *([62] * len(states))]
    figure, axes = new_figure(
        sum(panels) + 75, len(panels), sharex=True, gridspec_kw={"height_ratios": panels}
    )
    strips = axes[0][0]
    reach = max(abs(deviation) for row in rows for deviation in row.deviations) or 1e-6
    for place, row in enumerate(rows):
        look = subject.look(row.plotted)
        strips.axhline(place, color=GRID, linewidth=1)
        strips.plot(
            row.seconds,
            [place - deviation / reach * _HALF for deviation in row.deviations],
            marker=look.marker,
            markersize=4,
            color=look.color,
            linestyle="none",
        )
    right = [
        f"{value_text(row.median, metric)} {shown_unit(metric)} {_range(row, reach)}"
        for row in rows
    ]
    row_labels(strips, [subject.name(row.plotted) for row in rows], 0.3, right)
    strips.set_title(
        f"a row is {signed_percent(2 * reach, reach)[1:]} high, its line the median; up: slower"
    )
    for (panel,), (title, unit, values) in zip(axes[1:], states, strict=True):
        _draw_state(panel, title, unit, values)
    has_starts = all(row.plotted.cell["samples"]["started"] for row in rows)
    axes[-1][0].set_xlabel("s since the session's first run" if has_starts else "round")
    return figure


def _range(row: _Runs, reach: float, between: str = " .. ") -> str:
    ends = min(row.deviations), max(row.deviations)
    return between.join(signed_percent(end, reach) for end in ends)


_STATES = (("SM clock", "sm_clock_hz", "GHz", 1e-9), ("temperature", "temperature_c", "°C", 1.0))


def _states(rows: Sequence[_Runs]) -> list[tuple[str, str, list[tuple]]]:
    """(title, unit, [(first second, last second, least, middle, largest)]) of what is known: of
    each run where the file says it, else of a cell's whole time."""
    states = []
    for title, field, unit, scale in _STATES:
        values = [value for row in rows for value in _state(row, field, scale)]
        if values:
            states.append((title, unit, values))
    return states


def _state(row: _Runs, field: str, scale: float) -> list[tuple]:
    per_run = (row.plotted.cell["samples"].get("gpu") or {}).get(field)
    if per_run:
        pairs = zip(row.seconds, per_run, strict=True)
        return [(at, at, v * scale, v * scale, v * scale) for at, v in pairs if v is not None]
    spread = (row.plotted.cell["gpu_state"] or {}).get(field)
    if not spread or not row.plotted.cell["samples"]["started"]:
        return []
    low, high = spread["min"] * scale, spread["max"] * scale
    middle = spread.get("median")
    middle = (low + high) / 2 if middle is None else middle * scale
    return [(row.seconds[0], row.seconds[-1], low, middle, high)]


def _draw_state(axes, title: str, unit: str, values: list[tuple]) -> None:
    color = SERIES[0] if unit == "GHz" else LIMIT
    points = [value for value in values if value[0] == value[1]]
    axes.plot(
        [p[0] for p in points],
        [p[3] for p in points],
        marker=".",
        markersize=4,
        linestyle="none",
        color=color,
    )
    for first, last, low, middle, high in values:
        if first != last:
            axes.fill_between([first, last], low, high, color=color, alpha=0.25, linewidth=0)
            axes.hlines(middle, first, last, color=color, linewidth=1.6)
    axes.set_ylabel(f"{title.replace('temperature', 'temp.')}\n{unit}")


def _sentence(subject: Subject, metric: dict, rows: list[_Runs]) -> str:
    widest = max(rows, key=lambda row: max(row.deviations) - min(row.deviations))
    count = sum(len(row.values) for row in rows)
    text = (
        f"{count} runs: {metric['title']} scatters most in {subject.name(widest.plotted)}, from "
        f"{_range(widest, max(map(abs, widest.deviations)), ' to ')} of its median"
    )
    clocks = [value for row in rows for value in _state(row, "sm_clock_hz", 1e-9)]
    if clocks:
        low, high = min(value[2] for value in clocks), max(value[4] for value in clocks)
        text += (
            f"; the clock stayed between {low:.2f} and {high:.2f} GHz"
            if low < high
            else (f"; the clock stayed at {low:.2f} GHz")
        )
    hot = [value[4] for row in rows for value in _state(row, "temperature_c", 1.0)]
    if hot:
        text += f", the GPU below {max(hot) + 1:.0f} °C"
    return f"{text}."


def _table(subject: Subject, metric: dict, rows: list[_Runs]) -> Table:
    names = ("median", "mean", "std", "min", "max", "p95", "p99")
    body = []
    for row in rows:
        summary = summary_of(row.plotted.cell, metric["name"])
        body.append(
            [
                subject.name(row.plotted),
                str(summary["n"]),
                *(
                    number(summary.get(name), value_text(summary.get(name), metric))
                    for name in names
                ),
                number(summary["outliers"], str(summary["outliers"])),
            ]
        )
    unit = shown_unit(metric)
    headers = ["cell", "runs", *(f"{name} {unit}".rstrip() for name in names), "outliers"]
    return Table(f"{metric['title']} over runs", headers, body).without_unknown()
