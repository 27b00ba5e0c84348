"""The roofline: FLOP/s reached against FLOPs per byte, under what bandwidth and peak allow.

Left of the ridge the bytes that are read bound a step, right of it arithmetic does. A prefill is far
to the right, a decode step at batch 1 far to the left; with the batch it moves right, because all
sequences share one reading of the weights.
"""

from dataclasses import dataclass

from inference_benchmark.hardware import Ceilings
from inference_benchmark.plotting.arithmetic import ceilings_of, cost_of
from inference_benchmark.plotting.picture import Entry, Picture, Table, number
from inference_benchmark.plotting.style import (
    INK,
    LIMIT,
    label_points,
    legend,
    new_figure,
    plain_log,
)
from inference_benchmark.plotting.subject import PlottedCell, Subject, series_of
from inference_benchmark.reporting.figures import median
from inference_benchmark.reporting.units import UNKNOWN, percent, significant

_TERA = 1e12


@dataclass(frozen=True, eq=False)
class _Step:
    """One phase of a cell: FLOPs per byte, FLOP/s reached and allowed, on one GPU."""

    plotted: PlottedCell
    phase: str
    intensity: float
    reached: float
    allowed: float


def roofline_picture(subject: Subject) -> Picture | None:
    """None where the work or the hardware is unknown."""
    ceilings = _ceilings(subject)
    if ceilings is None:
        return None
    steps = [step for plotted in subject.timed for step in _steps(plotted, ceilings)]
    if not steps:
        return None
    return Picture(
        name="roofline",
        title="Roofline of each phase",
        sentence=_sentence(subject, steps, ceilings),
        figure=_draw(subject, steps, ceilings),
        tables=[_table(subject, steps)],
    )


def _ceilings(subject: Subject) -> Ceilings | None:
    """Those of the first session."""
    if not subject.timed:
        return None
    first = subject.timed[0]
    alike = [p for p in subject.timed if p.result is first.result]
    compute = {p.cell["weights"]["compute"] for p in alike}
    if len(compute) > 1:  # several peaks
        return None
    return ceilings_of([(plotted.result, plotted.cell) for plotted in alike])


def _steps(plotted: PlottedCell, ceilings: Ceilings) -> list[_Step]:
    """Phases that a metric times alone."""
    cost = cost_of(plotted.result, plotted.cell)
    if cost is None:
        return []
    timed = {
        phase: metric
        for metric, counts in cost.metrics.items()
        for phase, count in counts.items()
        if len(counts) == 1 and count == 1
    }
    steps = []
    for phase, metric in timed.items():
        work, seconds = cost.phases[phase], median(plotted.cell, metric)
        if seconds:
            allowed = work.flops / work.least_s(ceilings)
            intensity = work.flops / work.bytes
            steps.append(_Step(plotted, phase, intensity, work.flops / seconds, allowed))
    return steps


def _draw(subject: Subject, steps: list[_Step], ceilings: Ceilings):
    figure, ((axes,),) = new_figure(400)
    ridge = ceilings.peak_flops / ceilings.bandwidth_bytes_per_s
    left = min(*(step.intensity for step in steps), ridge / 4) / 2
    right = max(*(step.intensity for step in steps), ridge * 4) * 2
    slope = ceilings.bandwidth_bytes_per_s / _TERA
    axes.plot(
        [left, ridge, right],
        [left * slope, ridge * slope, ridge * slope],
        color=LIMIT,
        linestyle=(0, (4, 2)),
        label=f"{ceilings.basis}: {significant(slope, 3)} TB/s, "
        f"{significant(ceilings.peak_flops / _TERA, 3)} TFLOP/s",
    )
    for phase in dict.fromkeys(step.phase for step in steps):
        for name in dict.fromkeys(series_of(step.plotted) for step in steps):
            _draw_series(axes, subject, name, phase, steps)
    axes.set_xlim(left, right)
    axes.set_ylim(min(step.reached for step in steps) / _TERA / 2.5, ridge * slope * 2)
    plain_log(axes, "x")
    plain_log(axes, "y")
    axes.set_xlabel("FLOPs per byte of memory traffic that the algorithm needs")
    axes.set_ylabel("TFLOP/s per GPU")
    legend(figure)
    labels = [
        (s.intensity, s.reached / _TERA, f"{s.phase} b{s.plotted.cell['batch_size']}", True)
        for s in _labelled(steps)
    ]
    roof = [(left, left * slope), (ridge, ridge * slope), (right, ridge * slope)]
    markers = [[(step.intensity, step.reached / _TERA)] for step in steps]
    label_points(axes, labels, [roof, *markers])
    return figure


def _labelled(steps: list[_Step]) -> list[_Step]:
    """Of each phase the least and the largest batch."""
    chosen = []
    for phase in dict.fromkeys(step.phase for step in steps):
        ordered = sorted(
            (step for step in steps if step.phase == phase),
            key=lambda step: step.plotted.cell["batch_size"],
        )
        ends = {step.plotted.cell["batch_size"]: step for step in (ordered[-1], ordered[0])}
        chosen += ends.values()
    return chosen


def _draw_series(axes, subject: Subject, name: str, phase: str, steps: list[_Step]) -> None:
    """Prefills are filled, other phases hollow."""
    look = subject.looks[name]
    chosen = [s for s in steps if series_of(s.plotted) == name and s.phase == phase]
    is_filled = phase == steps[0].phase
    axes.plot(
        [step.intensity for step in chosen],
        [step.reached / _TERA for step in chosen],
        linestyle="none",
        marker=look.marker,
        markersize=7.5,
        color=look.color,
        markerfacecolor=look.color if is_filled else "none",
        markeredgecolor=INK if is_filled else look.color,
        markeredgewidth=1.2,
        label=subject.series_name(chosen[0].plotted)
        if is_filled
        else None,  # each phase is named beside its points
    )


def _sentence(subject: Subject, steps: list[_Step], ceilings: Ceilings) -> str:
    ridge = ceilings.peak_flops / ceilings.bandwidth_bytes_per_s
    parts = []
    for phase in dict.fromkeys(step.phase for step in steps):
        chosen = [step for step in steps if step.phase == phase]
        best = max(chosen, key=lambda step: step.reached / step.allowed)
        worst = min(chosen, key=lambda step: step.reached / step.allowed)
        left = sum(step.intensity < ridge for step in chosen)
        bound = "bandwidth" if left == len(chosen) else "compute" if not left else "either"
        low, high = (percent(step.reached / step.allowed) for step in (worst, best))
        shares = low if low == high else f"{low} to {high}"
        parts.append(f"{phase} is bound by {bound} and reaches {shares} of its roof")
    return f"The ridge is at {ridge:.0f} FLOPs per byte: {'; '.join(parts)}."


def _table(subject: Subject, steps: list[_Step]) -> Table:
    """A row per cell, phases side by side."""
    phases = list(dict.fromkeys(step.phase for step in steps))
    of_cell = {(step.plotted, step.phase): step for step in steps}
    rows = []
    for plotted in dict.fromkeys(step.plotted for step in steps):
        row: list[Entry] = [subject.name(plotted)]
        for phase in phases:
            row += _columns(of_cell.get((plotted, phase)))
        rows.append(row)
    headers = ["cell"]
    for phase in phases:
        headers += [f"{phase} FLOPs/byte", "TFLOP/s", "of its roof"]
    return Table("Roofline of each phase, per GPU", headers, rows)


def _columns(step: _Step | None) -> list[Entry]:
    if step is None:
        return [UNKNOWN] * 3
    share = step.reached / step.allowed
    return [
        number(step.intensity, significant(step.intensity)),
        number(step.reached / _TERA, significant(step.reached / _TERA)),
        number(share, percent(share)),
    ]
