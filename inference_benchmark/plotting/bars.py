"""Rows of stacked bars, told apart by hatches as by colours, and marks across them."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from inference_benchmark.plotting.style import HATCHES, LIMIT, MUTED, PAPER, SERIES

ROW = 36  # units of a row: its name, and the bar below
NAME_ABOVE = 0.24  # of a row, where a name stands over the middle of its bar
_HEIGHT = 0.42


def stacked_bars(
    axes: Axes, rows: Sequence[Mapping[str, float]], parts: Sequence[str], empty: str | None = None
) -> list[float]:
    """One row per mapping from part to length, in the order of `parts`; returns where rows end.

    empty: the part that is an outline only, because nothing happens in it.
    """
    ends = [0.0] * len(rows)
    for place, part in enumerate(parts):
        widths = [row.get(part, 0.0) for row in rows]
        look = {
            "color": SERIES[place % len(SERIES)],
            "hatch": HATCHES[place % len(HATCHES)],
            "linewidth": 0,
        }
        if part == empty:
            look = {"color": "none", "edgecolor": MUTED, "linewidth": 0.8}
        axes.barh(range(len(rows)), widths, left=ends, height=_HEIGHT, label=part, **look)
        ends = [end + width for end, width in zip(ends, widths, strict=True)]
    return ends


def mark_rows(axes: Axes, marks: Mapping[int, float], label: str) -> None:
    """A tick across the bar of each row, with an edge that lets it be seen on any colour."""
    if not marks:
        return
    lows, highs = ([row + end for row in marks] for end in (-0.21, 0.3))
    places = list(marks.values())
    axes.vlines(places, lows, highs, color=PAPER, linewidth=5.5)
    axes.vlines(places, lows, highs, color=LIMIT, linewidth=2.5, label=label)
