"""What a page says in words and tables: the cells of a subject, why they are not valid, sessions."""

from collections.abc import Sequence

from inference_benchmark.plotting.picture import Entry, Table, number
from inference_benchmark.plotting.sources import Source, SourceSet
from inference_benchmark.plotting.subject import PlottedCell, Subject
from inference_benchmark.reporting.figures import (
    bases,
    headline_rates,
    is_smoke,
    limit_of,
    rate_of,
    reached,
    runs,
    shown_unit,
    speedup_of,
    summary_of,
    value_text,
    verdict_words,
)
from inference_benchmark.reporting.units import UNKNOWN, percent, rate

_MOST_NAMES = 3  # of cells in a line


def overview_table(subject: Subject, caption: str) -> Table:
    """A row per cell: headline metrics with intervals, limits, rates, speed-up, verdict."""
    headers = ["cell", "runs"]
    for metric in subject.headlines:
        unit = f" {shown_unit(metric)}".rstrip()
        headers += [f"{metric['title']}{unit}", "95 % from", "to", f"limit{unit}", "reached"]
    headers += [declared["title"] for declared in headline_rates(subject.workload)]
    main = subject.main
    headers += [f"speed-up of {main['title']}"] if main else []
    rows = [_overview_row(subject, plotted) for plotted in subject.cells]
    return Table(caption, [*headers, "verdict"], rows).without_unknown()


def _overview_row(subject: Subject, plotted: PlottedCell) -> list[Entry]:
    cell = plotted.cell
    row: list[Entry] = [subject.name(plotted), str(runs(cell))]
    for metric in subject.headlines:
        summary = summary_of(cell, metric["name"])
        low, high = summary.get("median_ci95") or (None, None)
        limit, share = limit_of(cell, metric["name"]), reached(cell, metric)
        row += [number(v, value_text(v, metric)) for v in (summary.get("median"), low, high, limit)]
        row.append(number(share, percent(share)))
    for declared in headline_rates(subject.workload):
        value = rate_of(cell, declared["name"])
        row.append(number(value, rate(value)))
    if subject.main:
        row.append(_speedup(cell, subject.main["name"]))
    row.append(", ".join(verdict_words(cell, is_smoke(plotted.result))) or UNKNOWN)
    return row


def _speedup(cell: dict, metric: str) -> Entry:
    speedup = speedup_of(cell, metric)
    if speedup is None:
        return UNKNOWN
    return number(speedup["ratio"], f"{speedup['ratio']:.3f} {speedup['verdict']}")


def reasons(subject: Subject) -> list[str]:
    """Why verdicts are not valid and what went wrong, each once, with the cells that it is about."""
    named: dict[str, list[str]] = {}
    for plotted in subject.cells:
        cell, name = plotted.cell, subject.name(plotted)
        check = cell["output_check"]
        if check is not None and not check["passed"]:
            named.setdefault(f"wrong output: {'; '.join(check['failures'][:3])}", []).append(name)
        if cell["error"]:
            named.setdefault(f"{cell['status'].replace('_', ' ')}: {cell['error']}", []).append(
                name
            )
        for reason in (cell["validity"] or {}).get("reasons", ()):
            named.setdefault(f"{reason['severity']}: {reason['message']}", []).append(name)
    return [f"{_few(names, len(subject.cells))}: {text}" for text, names in named.items()]


def _few(names: Sequence[str], of: int) -> str:
    if len(names) > _MOST_NAMES:
        return "all cells" if len(names) == of else f"{len(names)} cells, {names[0]} and others"
    return ", ".join(names)


def lead(sets: Sequence[SourceSet]) -> str:
    """8 cells of 1 session on 1 x NVIDIA H200, 2026-11-21; limits: datasheet."""
    results = [source.result for file_set in sets for source in file_set.sources]
    cells = [cell for result in results for cell in result["cells"]]
    days = sorted({result["created"][:10] for result in results})
    counts = [_count(len(cells), "cell"), _count(len(results), "session")]
    text = f"{' of '.join(counts)} on {', '.join(dict.fromkeys(map(_device, results)))}"
    text += f", {' to '.join(dict.fromkeys((days[0], days[-1])))}"
    return f"{text}; limits: {', '.join(bases(cells)) or 'unknown'}."


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' * (number != 1)}"


def _device(result: dict) -> str:
    gpu = result["environment"]["gpu"]
    return "a CPU" if gpu is None else f"{gpu['count']} x {gpu['name']}"


def session_table(sets: Sequence[SourceSet]) -> Table:
    """What ran where, with which versions."""
    several = len(sets) > 1
    rows = [
        ([file_set.name] if several else []) + _session_row(source)
        for file_set in sets
        for source in file_set.sources
    ]
    headers = (["set"] if several else []) + [
        "file",
        "created",
        "state",
        "device",
        "driver",
        "torch",
    ]
    return Table("Sessions", [*headers, "commit", "command"], rows).without_unknown()


def _session_row(source: Source) -> list[Entry]:
    result, environment = source.result, source.result["environment"]
    commit = environment["git_commit"]
    return [
        source.name,
        result["created"],
        result["state"],
        _device(result),
        str(environment["driver"] or UNKNOWN),
        str(environment["torch"] or UNKNOWN),
        commit[:12] + ("+" if environment["git_dirty"] else "") if commit else UNKNOWN,
        " ".join(result["command"]),
    ]
