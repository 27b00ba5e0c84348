"""Memory: what a cell was predicted to need, and what it took at its peak."""

from inference_benchmark.plotting.bars import NAME_ABOVE, ROW, mark_rows, stacked_bars
from inference_benchmark.plotting.picture import Picture, Table, number
from inference_benchmark.plotting.style import INK, legend, new_figure, row_labels
from inference_benchmark.plotting.subject import PlottedCell, Subject
from inference_benchmark.reporting.units import gigabytes, percent

_PARTS = {"weights": "weights_bytes", "KV cache": "kv_cache_bytes"}
_REST = "all else at the peak"


def memory_picture(subject: Subject) -> Picture | None:
    """None where no peak is known: without a GPU nothing is."""
    taken = [p for p in subject.cells if (p.cell["memory"] or {}).get("peak_allocated_bytes")]
    if not taken:
        return None
    title = "Memory per GPU, predicted and taken"
    return Picture(
        name="memory",
        title=title,
        sentence=_sentence(subject, taken),
        figure=_draw(subject, taken),
        tables=[_table(subject, title, taken)],
    )


def _parts(plotted: PlottedCell) -> dict[str, float]:
    memory = plotted.cell["memory"]
    known = {name: memory[field] or 0 for name, field in _PARTS.items()}
    rest = memory["peak_allocated_bytes"] - sum(known.values())
    return known | {_REST: max(0, rest)}


def _draw(subject: Subject, cells: list[PlottedCell]):
    figure, ((axes,),) = new_figure(len(cells) * ROW + 95)
    rows = [{part: size / 1e9 for part, size in _parts(plotted).items()} for plotted in cells]
    ends = stacked_bars(axes, rows, (*_PARTS, _REST))
    predicted = [plotted.cell["memory"]["predicted_bytes"] for plotted in cells]
    marks = {row: size / 1e9 for row, size in enumerate(predicted) if size}
    mark_rows(axes, marks, "predicted, of the group")
    capacity = _capacity(cells)
    if capacity and capacity / 1e9 < 4 * max(ends):
        axes.axvline(capacity / 1e9, color=INK, linestyle=(0, (4, 2)), label="the GPU's memory")
    row_labels(axes, [_label(subject, plotted) for plotted in cells], NAME_ABOVE)
    axes.set_xlabel("GB")
    legend(figure)
    return figure


def _capacity(cells: list[PlottedCell]) -> int | None:
    gpu = cells[0].result["environment"]["gpu"]
    return gpu and gpu["memory_bytes"]


def _label(subject: Subject, plotted: PlottedCell) -> str:
    memory = plotted.cell["memory"]
    text = f"{subject.name(plotted)}: {gigabytes(memory['peak_allocated_bytes'])} GB"
    if memory["predicted_bytes"] is None:
        return text
    return f"{text} of {gigabytes(memory['predicted_bytes'])} predicted"


def _sentence(subject: Subject, cells: list[PlottedCell]) -> str:
    most = max(cells, key=lambda p: p.cell["memory"]["peak_allocated_bytes"])
    peak = most.cell["memory"]["peak_allocated_bytes"]
    text = (
        f"{subject.name(most)} takes the most, {gigabytes(peak)} GB"
        if len(cells) > 1
        else (f"{subject.name(most)} takes {gigabytes(peak)} GB")
    )
    if capacity := _capacity(cells):
        text += f", {percent(peak / capacity)} of the GPU's memory"
    ratios = [
        p.cell["memory"]["peak_allocated_bytes"] / p.cell["memory"]["predicted_bytes"]
        for p in cells
        if p.cell["memory"]["predicted_bytes"]
    ]
    if ratios:
        low, high = percent(min(ratios)), percent(max(ratios))
        text += f"; peaks are {low if low == high else f'{low} to {high}'} of what was predicted"
    return f"{text}."


def _table(subject: Subject, title: str, cells: list[PlottedCell]) -> Table:
    fields = {
        "weights GB": "weights_bytes",
        "KV cache GB": "kv_cache_bytes",
        "peak allocated GB": "peak_allocated_bytes",
        "peak reserved GB": "peak_reserved_bytes",
        "predicted GB": "predicted_bytes",
    }
    rows = [
        [
            subject.name(plotted),
            *(
                number(value, gigabytes(value))
                for value in map(plotted.cell["memory"].get, fields.values())
            ),
        ]
        for plotted in cells
    ]
    return Table(title, ["cell", *fields], rows).without_unknown()
