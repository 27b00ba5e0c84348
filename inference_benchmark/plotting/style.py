"""One look for all pictures: colours by role, markers and hatches that tell modes apart without them.

A picture is 475 units wide, so that its text stays legible on a phone and two of them stand side by
side on a desk. Colours are written as those of light paper; svg.py exchanges them in the dark.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from inference_benchmark.reporting.units import significant

WIDTH_IN = 6.6  # at 72 units an inch
_FONT_SIZE = 12

# By role: light, dark.
INK = "#1c2127"
MUTED = "#59636e"
GRID = "#e2e6ea"
BAND = "#eef1f4"
PAPER = "#ffffff"
LIMIT = "#6b4e00"
SERIES = (
    "#0b66ad",
    "#b9500a",
    "#0b7a5b",
    "#8446a3",
    "#a8295f",
    "#5f6b00",
    "#3d5a80",
    "#7d4f3a",
)
DARK = {
    INK: "#e8ecf0",
    MUTED: "#a3adb8",
    GRID: "#363d45",
    BAND: "#272d34",
    PAPER: "#171b20",
    LIMIT: "#e2b84c",
    **dict(
        zip(
            SERIES,
            (
                "#62b2f2",
                "#f29b5c",
                "#4bc9a0",
                "#cf9fe6",
                "#f287b3",
                "#c4cf5a",
                "#9db8de",
                "#d3a58d",
            ),
            strict=True,
        )
    ),
}
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_LINES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
HATCHES = ("", "////", "----", "xxxx", "\\\\\\\\", "++++", "||||", "//")

_SETTINGS = {
    "font.size": _FONT_SIZE,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same everywhere
    "axes.titlesize": _FONT_SIZE,
    "axes.titlelocation": "left",
    "axes.labelsize": 11,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "hatch.linewidth": 0.7,
    "hatch.color": PAPER,
    "lines.linewidth": 1.6,
    "text.parse_math": False,  # a $ is a dollar, and labels come from files
    "svg.fonttype": "none",  # text stays text: it can be read aloud, searched and copied
    "svg.hashsalt": "inference-benchmark",  # the same file from the same numbers
}


def house_style() -> AbstractContextManager:
    """To draw and to save in."""
    return matplotlib.rc_context({**matplotlib.rcParamsDefault, **_SETTINGS, "backend": "agg"})


@dataclass(frozen=True)
class Look:
    """Of one mode, the same in every picture of a page."""

    color: str
    marker: str
    line: str | tuple


def look(place: int) -> Look:
    return Look(
        SERIES[place % len(SERIES)], _MARKERS[place % len(_MARKERS)], _LINES[place % len(_LINES)]
    )


def new_figure(height: float, rows: int = 1, columns: int = 1, **arguments):
    """(figure, axes [rows, columns]); height in units, of which the width has 475."""
    figure = Figure(figsize=(WIDTH_IN, height / 72), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **arguments)


_CHARACTER, _HANDLE = 6.6, 42  # units: of a legend's text, and what stands beside it


def legend(figure: Figure) -> None:
    """Above the panels, where nothing is drawn; in as many columns as its texts allow."""
    handles, texts = figure.axes[0].get_legend_handles_labels()  # those of others are the same
    if texts:
        width = _CHARACTER * max(map(len, texts)) + _HANDLE
        columns = max(1, int(WIDTH_IN * 72 / width))
        figure.legend(handles, texts, loc="outside upper left", ncols=columns)


def signed_percent(share: float, reach: float) -> str:
    """+0.04 %, with as many decimals as the largest share that is shown beside it asks for."""
    decimals = 1 if reach >= 0.02 else 2 if reach >= 0.0005 else 4
    return f"{share:+.{decimals}%}"


def settle(figure: Figure) -> None:
    """Lay it out once, and not anew for each file."""
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)


_TICKS = ((30, (1, 2, 5)), (3e3, (1, 3)), (math.inf, (1,)))  # by the ratio of the axis' ends


def plain_log(axes: Axes, axis_name: str) -> None:
    """A logarithmic axis with numbers as one writes them."""
    axis = getattr(axes, f"{axis_name}axis")
    getattr(axes, f"set_{axis_name}scale")("log")
    low, high = sorted(getattr(axes, f"get_{axis_name}lim")())
    subs = next(subs for most, subs in _TICKS if high / low <= most)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    axis.set_minor_formatter(NullFormatter())


def tick(value: float) -> str:
    """50, 2,000, 0.5 without needless zeros."""
    text = significant(value, 3)
    return text.rstrip("0").rstrip(".") if "." in text else text


def row_labels(axes: Axes, labels: Sequence[str], above: float, right: Sequence[str] = ()) -> None:
    """Names over the rows of a chart, from its left edge on: long ones need no room beside it.
    right: what stands at the right end of each."""
    across = axes.get_yaxis_transform()
    for row, label in enumerate(labels):
        axes.text(0, row - above, label, transform=across, va="bottom", fontsize=11)
    for row, label in enumerate(right):
        axes.text(1, row - above, label, transform=across, va="bottom", ha="right", fontsize=11)
    axes.set_yticks([])
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(len(labels) - 0.45, -0.9)


# Where a label may stand around its point, in units: right of it first, farther away last.
_OFFSETS = tuple(
    (8 * x * far, y * (5 + 6 * far))
    for far in (1, 2, 3)
    for x, y in ((1, 0), (0, 1), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))
)


def label_points(
    axes: Axes,
    labels: Sequence[tuple[float, float, str, bool]],
    avoid: Sequence[Sequence[tuple[float, float]]] = (),
) -> None:
    """Text beside points (x, y, text, is_strong), none over another or over what is to be avoided,
    lines of points or lone ones; one without room is left out unless it is strong. To be called
    last, when the axes have their size."""
    figure = axes.figure
    figure.draw_without_rendering()
    to_units = figure.dpi / 72
    points = [axes.transData.transform((x, y)) for x, y, *_ in labels]
    taken = [(px - 5, py - 5, px + 5, py + 5) for px, py in points]
    taken += [(px - 3, py - 3, px + 3, py + 3) for line in avoid for px, py in _dense(axes, line)]
    frame = axes.get_window_extent()
    for (px, py), (x, y, text, is_strong) in sorted(
        zip(points, labels, strict=True), key=lambda item: not item[1][3]
    ):
        width, height = 7.0 * len(text) * to_units, 12 * to_units
        for dx, dy in _OFFSETS:
            align = "left" if dx > 0 else "right" if dx < 0 else "center"
            left = px + dx * to_units - {"left": 0, "right": width, "center": width / 2}[align]
            bottom = py + dy * to_units - height / 2
            box = (left, bottom, left + width, bottom + height)
            inside = frame.x0 <= box[0] and box[2] <= frame.x1 + 8 and frame.y0 <= box[1]
            if inside and not any(_overlap(box, other) for other in taken):
                break
        else:
            if not is_strong:
                continue
            dx, dy, align = 8, 0, "left"
            box = (px, py, px + width, py + height)
        taken.append(box)
        axes.annotate(
            text,
            (x, y),
            (dx, dy),
            textcoords="offset points",
            ha=align,
            va="center",
            fontsize=10.5,
            color=INK if is_strong else MUTED,
        )


def _dense(axes: Axes, line: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Places on a line, close together."""
    places = [axes.transData.transform(point) for point in line]
    return places[:1] + [
        tuple(start + (end - start) * step / 12)
        for start, end in pairwise(places)
        for step in range(13)
    ]


def _overlap(a: tuple, b: tuple) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
