"""Speed-ups as a forest plot: each ratio with its interval, beside the band within which two times
count as the same."""

from collections.abc import Sequence
from dataclasses import dataclass

from inference_benchmark.plotting.picture import Picture, Table, listed, number
from inference_benchmark.plotting.style import (
    BAND,
    INK,
    LIMIT,
    SERIES,
    legend,
    new_figure,
    plain_log,
    row_labels,
)
from inference_benchmark.plotting.subject import Subject
from inference_benchmark.reporting.figures import speedup_of
from inference_benchmark.statistics.verdicts import BAND_WITHIN_SESSION

_ROW = 33  # units
# Verdicts differ in shape, so that none needs its colour.
_LOOKS = {
    "slower": (SERIES[1], "v"),
    "inconclusive": (LIMIT, "D"),
    "same": (INK, "s"),
    "faster": (SERIES[0], "^"),
}


@dataclass(frozen=True)
class ForestRow:
    """A speed-up over a baseline: above 1 is better."""

    name: str
    metric: str
    baseline: str
    ratio: float
    ci95: Sequence[float] | None
    verdict: str
    band: float = BAND_WITHIN_SESSION  # within which it counts as the same


def speedup_picture(subject: Subject) -> Picture | None:
    """Of the headline metrics, each cell against the baseline of its session."""
    rows = [
        ForestRow(
            subject.name(plotted),
            metric["title"],
            plotted.cell["speedup"]["baseline"],
            speedup["ratio"],
            speedup["ci95"],
            speedup["verdict"],
        )
        for metric in subject.headlines
        for plotted in subject.timed
        if (speedup := speedup_of(plotted.cell, metric["name"])) is not None
    ]
    return forest("speedups", "Speed-up over the baseline of the session", rows)


def forest(name: str, title: str, rows: Sequence[ForestRow]) -> Picture | None:
    """rows from top to bottom; None where there are none."""
    if not rows:
        return None
    band = max(row.band for row in rows)
    return Picture(
        name=name,
        title=title,
        sentence=_sentence(rows, band),
        figure=_draw(rows, band),
        tables=[_table(title, rows)],
    )


def _draw(rows: Sequence[ForestRow], band: float):
    figure, ((axes,),) = new_figure(len(rows) * _ROW + 95)
    axes.axvspan(1 / (1 + band), 1 + band, color=BAND, label=f"the same, within {band:.0%}")
    axes.axvline(1, color=INK, linewidth=0.9)
    used = dict.fromkeys(row.verdict for row in rows)
    for place, row in enumerate(rows):
        color, marker = _LOOKS[row.verdict]
        if row.ci95:
            axes.hlines(place, *row.ci95, color=color, linewidth=2)
            axes.vlines(row.ci95, place - 0.12, place + 0.12, color=color, linewidth=1.2)
        label = row.verdict if used.pop(row.verdict, True) is None else None
        axes.plot(
            row.ratio,
            place,
            marker=marker,
            color=color,
            markersize=8,
            linestyle="none",
            label=label,
        )
    names = [f"{row.metric}: {row.name}" for row in rows]
    row_labels(axes, names, 0.22, [f"{row.ratio:.3f} {row.verdict}" for row in rows])
    values = [value for row in rows for value in (row.ratio, *(row.ci95 or ()))]
    low, high = min(*values, 1 - band), max(*values, 1 + band)
    axes.set_xlim(low / 1.02, high * 1.02)
    if high / low > 3:
        plain_log(axes, "x")
    axes.set_xlabel("speed-up: time of the baseline / time of the cell (right: faster)")
    legend(figure)
    return figure


def _sentence(rows: Sequence[ForestRow], band: float) -> str:
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in _LOOKS}
    counted = listed(f"{count} {verdict}" for verdict, count in counts.items() if count)
    best = max(rows, key=lambda row: row.ratio)
    worst = min(rows, key=lambda row: row.ratio)
    text = f"Of {len(rows)} comparisons: {counted} (same: within {band:.0%})"
    if worst.verdict == "slower":
        text += f"; the greatest loss is {_words(worst)}"
    if best.verdict == "faster":
        text += f"; the greatest gain is {_words(best)}"
    return f"{text}."


def _words(row: ForestRow) -> str:
    return f"{row.metric} of {row.name}, {row.ratio:.3f} times the speed of {row.baseline}"


def _table(title: str, rows: Sequence[ForestRow]) -> Table:
    return Table(
        title,
        ["cell", "metric", "baseline", "speed-up", "95 % from", "to", "verdict"],
        [
            [
                row.name,
                row.metric,
                row.baseline,
                number(row.ratio, f"{row.ratio:.4f}"),
                *(number(end, f"{end:.4f}") for end in row.ci95 or ()),
                *(["-", "-"] if not row.ci95 else []),
                row.verdict,
            ]
            for row in rows
        ],
    ).without_unknown()
