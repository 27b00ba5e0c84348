"""Where the time of a phase goes: kernels by kind, what no kernel accounts for, and the limit.

Kernels are those of a profiled pass; what no kernel accounts for is what the same steps take beyond
them in timed runs.
"""

from dataclasses import dataclass
from statistics import median as middle

from inference_benchmark.plotting.bars import NAME_ABOVE, ROW, mark_rows, stacked_bars
from inference_benchmark.plotting.picture import Picture, Table, number, slug
from inference_benchmark.plotting.style import legend, new_figure, row_labels
from inference_benchmark.plotting.subject import PlottedCell, Subject
from inference_benchmark.reporting.figures import median
from inference_benchmark.reporting.units import UNKNOWN, milliseconds, percent

_IDLE = "no kernel"
_STEPS = {"decode": "one decode step", "prefill": "one prefill"}


@dataclass(frozen=True, eq=False)
class _Bar:
    plotted: PlottedCell
    parts: dict[str, float]  # seconds by kind
    kernel_s: float
    limit_s: float | None
    limits: dict[str, float | None]
    measured_s: float | None


def kernel_pictures(subject: Subject) -> list[Picture]:
    """One per phase that was profiled."""
    profiled = [plotted for plotted in subject.timed if plotted.cell["profile"]]
    phases = dict.fromkeys(phase for plotted in profiled for phase in plotted.cell["profile"])
    pictures = []
    for phase in reversed(phases):  # the step that a run repeats first
        bars = [_bar(p, phase) for p in profiled if phase in p.cell["profile"]]
        title = f"Kernels of {_STEPS.get(phase, f'one {phase}')}"
        pictures.append(
            Picture(
                name=f"kernels-{slug(phase)}",
                title=title,
                sentence=_sentence(subject, bars, phase),
                figure=_draw(subject, bars),
                tables=[_table(subject, title, bars)],
            )
        )
    return pictures


def _bar(plotted: PlottedCell, phase: str) -> _Bar:
    profile = plotted.cell["profile"][phase]
    measured = _same_steps_s(plotted, profile) or median(plotted.cell, profile.get("metric"))
    parts = dict(sorted(profile["by_kind"].items()))
    kernel_s = profile["kernel_s"]
    if measured is not None and measured > kernel_s:
        parts[_IDLE] = measured - kernel_s
    return _Bar(
        plotted,
        parts,
        kernel_s,
        profile.get("limit_s"),
        profile.get("limit_by_kind") or {},
        measured,
    )


def _same_steps_s(plotted: PlottedCell, profile: dict) -> float | None:
    """What the very steps that were profiled take in a timed run, the median over runs: later ones
    have a longer context."""
    steps = list((plotted.cell["samples"] or {}).get("steps", {}).values())
    if not profile.get("contexts") or len(steps) != 1 or not all(steps[0]):
        return None
    first, last = (context - plotted.config["input_length"] - 1 for context in profile["contexts"])
    runs = [run[first : last + 1] for run in steps[0] if len(run) > last]
    return middle([sum(run) / len(run) for run in runs if run]) if any(runs) else None


def _kinds(bars: list[_Bar]) -> list[str]:
    """The costliest first, what no kernel accounts for last."""
    total: dict[str, float] = {}
    for bar in bars:
        for part, seconds in bar.parts.items():
            total[part] = total.get(part, 0) + seconds / sum(bar.parts.values())
    return sorted(total, key=lambda part: (part == _IDLE, -total[part]))


def _draw(subject: Subject, bars: list[_Bar]):
    """In multiples of each cell's limit, so that a batch of 1 is seen beside one of 128; in ms
    where a limit is unknown."""
    figure, ((axes,),) = new_figure(len(bars) * ROW + 100)
    has_limits = all(bar.limit_s for bar in bars)
    units = [bar.limit_s if has_limits else 1e-3 for bar in bars]
    rows = [
        {part: seconds / unit for part, seconds in bar.parts.items()}
        for bar, unit in zip(bars, units, strict=True)
    ]
    stacked_bars(axes, rows, _kinds(bars), empty=_IDLE)
    row_labels(axes, [_label(subject, bar) for bar in bars], NAME_ABOVE)
    if has_limits:
        mark_rows(axes, dict.fromkeys(range(len(bars)), 1.0), "limit")
    unit = "times the limit" if has_limits else "ms"
    axes.set_xlabel(f"{unit}; empty: time of the timed steps in which no kernel ran")
    legend(figure)
    return figure


def _label(subject: Subject, bar: _Bar) -> str:
    text = f"{subject.name(bar.plotted)}: {milliseconds(bar.measured_s or bar.kernel_s)} ms"
    return text if not bar.limit_s else f"{text}, limit {milliseconds(bar.limit_s)}"


def _sentence(subject: Subject, bars: list[_Bar], phase: str) -> str:
    """Of the cell that is farthest from its limit, what takes its time."""
    bar = max(bars, key=lambda bar: sum(bar.parts.values()) / (bar.limit_s or 1))
    whole = sum(bar.parts.values())
    part = max((part for part in bar.parts if part != _IDLE), key=bar.parts.get)
    text = (
        f"In {subject.name(bar.plotted)} {part} takes {percent(bar.parts[part] / whole)} of "
        f"{_STEPS.get(phase, phase)}"
    )
    if bar.limit_s:
        text += f", which takes {whole / bar.limit_s:.2f} times its limit"
        text += ", the most of all" if len(bars) > 1 else ""
    idle = [(b.parts.get(_IDLE, 0) / sum(b.parts.values()), b) for b in bars]
    share, most = max(idle, key=lambda pair: pair[0])
    if share >= 0.01:
        text += f"; no kernel runs in up to {percent(share)} ({subject.name(most.plotted)})"
    return f"{text}."


def _table(subject: Subject, title: str, bars: list[_Bar]) -> Table:
    kinds = _kinds(bars)
    headers = ["cell"]
    for part in kinds:
        headers += [f"{part} ms"] + ([] if part == _IDLE else ["its limit ms"])
    headers += ["kernels ms", "limit ms", "timed ms"]
    rows = []
    for bar in bars:
        row = [subject.name(bar.plotted)]
        for part in kinds:
            row.append(_ms(bar.parts.get(part)))
            if part != _IDLE:
                row.append(_ms(bar.limits.get(part)))
        rows.append([*row, _ms(bar.kernel_s), _ms(bar.limit_s), _ms(bar.measured_s)])
    return Table(f"{title}, by kind", headers, rows).without_unknown()


def _ms(seconds: float | None):
    return number(seconds, milliseconds(seconds)) if seconds is not None else UNKNOWN
