"""What comes before the first fast token, by stage, and when a slow start has paid back."""

from inference_benchmark.plotting.bars import NAME_ABOVE, ROW, stacked_bars
from inference_benchmark.plotting.picture import Picture, Table, number
from inference_benchmark.plotting.style import legend, new_figure, row_labels
from inference_benchmark.plotting.subject import PlottedCell, Subject
from inference_benchmark.reporting.units import UNKNOWN, rate, seconds

_WARMUP = "warm-up runs"
_SUMS = ("first_token_s",)  # of other stages


def startup_picture(subject: Subject) -> Picture | None:
    """None where nothing is known of any start."""
    starts = {p: _stages(p.cell["cold_start"]) for p in subject.cells if p.cell["cold_start"]}
    starts = {plotted: stages for plotted, stages in starts.items() if stages}
    if not starts:
        return None
    title = "Start-up: from nothing to the first timed run"
    return Picture(
        name="startup",
        title=title,
        sentence=_sentence(subject, starts),
        figure=_draw(subject, starts),
        tables=[_table(subject, title, starts)],
    )


def _stages(cold_start: dict) -> dict[str, float]:
    stages = {
        _title(name): value
        for name, value in cold_start.items()
        if name.endswith("_s") and name not in _SUMS and isinstance(value, (int, float)) and value
    }
    if warmup := sum(cold_start.get("warmup_s") or ()):
        stages[_WARMUP] = warmup
    return stages


def _title(name: str) -> str:
    return name.removesuffix("_s").replace("_", " ")


def _draw(subject: Subject, starts: dict[PlottedCell, dict[str, float]]):
    figure, ((axes,),) = new_figure(len(starts) * ROW + 100)
    stacked_bars(axes, list(starts.values()), _all_stages(starts))
    labels = [_label(subject, plotted, stages) for plotted, stages in starts.items()]
    row_labels(axes, labels, NAME_ABOVE)
    axes.set_xlabel("s")
    legend(figure)
    return figure


def _all_stages(starts: dict) -> list[str]:
    return list(dict.fromkeys(stage for stages in starts.values() for stage in stages))


def _label(subject: Subject, plotted: PlottedCell, stages: dict[str, float]) -> str:
    text = f"{subject.name(plotted)}: {seconds(sum(stages.values()))} s"
    tokens = plotted.cell["cold_start"].get("payback_tokens")
    return text if tokens is None else f"{text}, breaks even after {rate(tokens)} tokens"


def _sentence(subject: Subject, starts: dict[PlottedCell, dict[str, float]]) -> str:
    totals = {plotted: sum(stages.values()) for plotted, stages in starts.items()}
    slowest, fastest = (choose(totals, key=totals.get) for choose in (max, min))
    stages = starts[slowest]
    longest = max(stages, key=stages.get)
    text = (
        f"{subject.name(slowest)} starts in {seconds(totals[slowest])} s, of which {longest} takes "
        f"{seconds(stages[longest])} s"
    )
    if fastest is not slowest:
        text += f"; {subject.name(fastest)} in {seconds(totals[fastest])} s"
    pay = {p: p.cell["cold_start"].get("payback_tokens") for p in starts}
    if any(pay.values()):
        known = {plotted: tokens for plotted, tokens in pay.items() if tokens}
        last = max(known, key=known.get)
        text += (
            f"; every start that is longer than plain eager's has paid back after "
            f"{rate(known[last])} output tokens"
        )
    return f"{text}."


def _table(subject: Subject, title: str, starts: dict[PlottedCell, dict[str, float]]) -> Table:
    stages = _all_stages(starts)
    rows = []
    for plotted, stage_seconds in starts.items():
        total = sum(stage_seconds.values())
        tokens = plotted.cell["cold_start"].get("payback_tokens")
        rows.append(
            [
                subject.name(plotted),
                *(
                    number(stage_seconds.get(stage), seconds(stage_seconds.get(stage)))
                    for stage in stages
                ),
                number(total, seconds(total)),
                number(tokens, rate(tokens)) if tokens is not None else UNKNOWN,
            ]
        )
    headers = ["cell", *(f"{stage} s" for stage in stages), "sum s", "break-even, output tokens"]
    return Table(title, headers, rows).without_unknown()
