"""The steps within a run: how they go on from first to last, and how they are distributed."""

from dataclasses import dataclass

import numpy as np

from inference_benchmark.plotting.picture import Picture, Table, number
from inference_benchmark.plotting.style import GRID, INK, new_figure, row_labels
from inference_benchmark.plotting.subject import PlottedCell, Subject
from inference_benchmark.reporting.units import milliseconds

_ROW = 44  # units
_BINS = 80  # along a run
_STEADY = 0.01  # what is called the same
_HALF = 0.3  # of a row, on either side of the median


@dataclass(frozen=True, eq=False)
class _Steps:
    """relative [run, step]: over their median, which is in seconds."""

    plotted: PlottedCell
    relative: np.ndarray
    median_s: float


def steps_pictures(subject: Subject) -> list[Picture]:
    """None where runs have no steps, or only one."""
    rows = [row for row in map(_steps, subject.timed) if row is not None]
    if not rows:
        return []
    return [
        Picture(
            name="steps",
            title="Steps along a run",
            sentence=_sentence_along(subject, rows),
            figure=_draw_along(subject, rows),
            tables=[_table_along(subject, rows)],
        ),
        Picture(
            name="distribution",
            title="Distribution of single steps",
            sentence=_sentence_of_tails(subject, rows),
            figure=_draw_distribution(subject, rows),
            tables=[_table(subject, rows)],
        ),
    ]


def _steps(plotted: PlottedCell) -> _Steps | None:
    kinds = list((plotted.cell["samples"] or {}).get("steps", {}).values())
    if len(kinds) != 1 or not kinds[0]:
        return None
    length = min(map(len, kinds[0]))
    if length < 2:
        return None
    steps = np.array([run[:length] for run in kinds[0]])
    median_s = float(np.median(steps))
    return _Steps(plotted, steps / median_s, median_s)


def _along(row: _Steps) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Place in the run, least, median and largest step of each bin, over all runs."""
    edges = np.linspace(0, row.relative.shape[1], min(_BINS, row.relative.shape[1]) + 1)
    edges = np.unique(edges.astype(int))
    bins = [row.relative[:, start:end] for start, end in zip(edges[:-1], edges[1:], strict=True)]
    places = (edges[:-1] + edges[1:]) / 2
    return places, *(np.array([f(b) for b in bins]) for f in (np.min, np.median, np.max))


def _draw_along(subject: Subject, rows: list[_Steps]):
    figure, ((axes,),) = new_figure(len(rows) * _ROW + 75)
    binned = [_along(row) for row in rows]
    reach = max(float(np.abs(values - 1).max()) for _, *kinds in binned for values in kinds) or 1e-6
    for place, (row, (at, least, middle, largest)) in enumerate(zip(rows, binned, strict=True)):
        look = subject.look(row.plotted)
        least, middle, largest = (
            place - (values - 1) / reach * _HALF for values in (least, middle, largest)
        )
        axes.axhline(place, color=GRID, linewidth=1)
        axes.fill_between(at, least, largest, color=look.color, alpha=0.3, linewidth=0)
        axes.plot(at, middle, color=look.color, linewidth=1.4)
    right = [f"median {milliseconds(row.median_s)} ms" for row in rows]
    row_labels(axes, [subject.name(row.plotted) for row in rows], 0.3, right)
    axes.set_title(f"a row is {2 * reach:.1%} high: median, least and largest; up: slower")
    axes.set_xlabel("step of the run")
    return figure


def _sentence_along(subject: Subject, rows: list[_Steps]) -> str:
    drift = {row: _drift(row) for row in rows}
    most = max(rows, key=lambda row: abs(drift[row]))
    if abs(drift[most]) < _STEADY:
        return f"Steps take the same time from a run's start to its end, within {_STEADY:.0%}."
    return (
        f"From the first to the last tenth of a run the median step changes by "
        f"{drift[most]:+.1%} in {subject.name(most.plotted)}"
        f"{', the most of all' if len(rows) > 1 else ''}."
    )


def _ends(row: _Steps) -> tuple[float, float]:
    """Median steps of the first and of the last tenth of the runs, over the median of all."""
    tenth = max(1, row.relative.shape[1] // 10)
    ends = row.relative[:, :tenth], row.relative[:, -tenth:]
    return float(np.median(ends[0])), float(np.median(ends[1]))


def _drift(row: _Steps) -> float:
    first, last = _ends(row)
    return last / first - 1


def _table_along(subject: Subject, rows: list[_Steps]) -> Table:
    body = []
    for row in rows:
        ends = [end * row.median_s for end in _ends(row)]
        drift = _drift(row)
        times = (number(end, milliseconds(end)) for end in ends)
        body.append([subject.name(row.plotted), *times, number(drift, f"{drift:+.1%}")])
    return Table(
        "Median steps of the first and of the last tenth of the runs",
        ["cell", "first ms", "last ms", "change"],
        body,
    )


_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)


def _draw_distribution(subject: Subject, rows: list[_Steps]):
    figure, ((axes,),) = new_figure(len(rows) * _ROW + 85)
    for place, row in enumerate(rows):
        look, percent = subject.look(row.plotted), (row.relative.ravel() - 1) * 100
        p5, p25, p50, p75, p95 = np.quantile(percent, _SHARES)
        axes.hlines(place, percent.min(), percent.max(), color=look.color, linewidth=0.9)
        axes.hlines(place, p5, p95, color=look.color, linewidth=3.5)
        axes.hlines(place, p25, p75, color=look.color, linewidth=9)
        axes.plot(
            [percent.min(), percent.max()],
            [place] * 2,
            marker="|",
            markersize=8,
            color=look.color,
            linestyle="none",
        )
        axes.plot(p50, place, marker="|", markersize=15, markeredgewidth=2, color=INK)
    axes.set_xscale("symlog", linthresh=1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:+g}" if value else "0")
    right = [f"median {milliseconds(row.median_s)} ms" for row in rows]
    row_labels(axes, [subject.name(row.plotted) for row in rows], 0.22, right)
    axes.set_title("thick: the middle half and 5 to 95 %; thin: all steps")
    axes.set_xlabel("% from the median step (linear to 1 %, then logarithmic)")
    return figure


def _sentence_of_tails(subject: Subject, rows: list[_Steps]) -> str:
    worst = max(rows, key=lambda row: row.relative.max())
    widest = max(rows, key=lambda row: np.ptp(np.quantile(row.relative, (0.05, 0.95))))
    low, high = np.quantile(widest.relative, (0.05, 0.95)) - 1
    return (
        f"The slowest step of all took {worst.relative.max():.2f} times the median, in "
        f"{subject.name(worst.plotted)}; 90 % of the steps lie between {low:+.1%} and {high:+.1%} "
        f"in {subject.name(widest.plotted)}{', the widest' if len(rows) > 1 else ''}."
    )


def _table(subject: Subject, rows: list[_Steps]) -> Table:
    body = []
    for row in rows:
        (percentiles,) = row.plotted.cell["summary"]["steps"].values()
        values = [percentiles and percentiles[name] for name in ("p50", "p95", "p99")]
        extremes = [row.relative.min() * row.median_s, row.relative.max() * row.median_s]
        body.append(
            [
                subject.name(row.plotted),
                f"{row.relative.size:,}",
                *(number(v, milliseconds(v)) for v in (*values, *map(float, extremes))),
            ]
        )
    headers = ["cell", "steps", "p50 ms", "p95 ms", "p99 ms", "least ms", "largest ms"]
    return Table("Single steps of all runs", headers, body).without_unknown()
