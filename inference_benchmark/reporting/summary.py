"""The summary: a row per cell, the numbers one chooses by, and what has to be said under it."""

from collections.abc import Sequence

from inference_benchmark.reporting.accuracy import (
    accuracy_columns,
    accuracy_headers,
    accuracy_notes,
)
from inference_benchmark.reporting.figures import (
    bases,
    has_times,
    headline_rates,
    headlines,
    is_smoke,
    main_metric,
    measured_text,
    median,
    named,
    rate_of,
    reached,
    runs,
    shown_unit,
    speedup_of,
    verdict_text,
)
from inference_benchmark.reporting.labels import joined, variant
from inference_benchmark.reporting.layout import fitted, wrap
from inference_benchmark.reporting.reading import printable
from inference_benchmark.reporting.units import UNKNOWN, percent, rate
from inference_benchmark.reporting.version_1 import GENERATION
from inference_benchmark.statistics.verdicts import ADJUSTMENT

_WIDTHS = {"speed-up": 12, "verdict": 10}  # at most, where a row does not fit a line
_MEANINGS = {
    "ttft_s": "time to 1st token",
    "tbot_s": "per next one",
    "forward_s": "one forward over all tokens",
    "training_s": "one training step",
    "iterations_s": "a step at every length",
}
_RATIO_ROUNDING = 0.005  # of a speed-up as it is printed


def summary_table(result: dict) -> str:
    """Its title says what the columns are: runs, units, and what the limit refers to."""
    workload, cells = result["workload"], result["cells"]
    main = main_metric(workload, cells)
    counts = {runs(cell) for cell in cells}
    headers = ["cell", *(metric["title"] for metric in headlines(workload)), "limit"]
    headers += [declared["title"] for declared in headline_rates(workload)]
    headers += [
        *accuracy_headers(cells),
        "speed-up",
        *(["n"] if len(counts) > 1 else []),
        "verdict",
    ]
    rows = [summary_row(result, cell, main, with_runs=len(counts) > 1) for cell in cells]
    return titled(_title(workload, cells, main, counts), rows, headers, _WIDTHS)


def _title(workload: dict, cells: list[dict], main: dict | None, counts: set[int]) -> str:
    of_runs = f" of {max(counts)} runs" if len(counts) == 1 and max(counts) > 1 else ""
    times: dict[str, list[str]] = {}
    for metric in headlines(workload):
        if metric["unit"] == "s" and any(median(cell, metric["name"]) for cell in cells):
            times.setdefault(shown_unit(metric), []).append(metric["title"])
    title = f"summary (medians ±95%{of_runs})"
    title += "".join(f", {', '.join(titles)} in {unit}" for unit, titles in times.items())
    if main is not None and any(reached(cell, main) for cell in cells):
        title += f", limit: {' and '.join(bases(cells))}, of {main['title']}"
    return title


def summary_row(result: dict, cell: dict, main: dict | None, with_runs: bool) -> list[str]:
    workload = result["workload"]
    return [
        cell["label"],
        *(measured_text(cell, metric) for metric in headlines(workload)),
        UNKNOWN if main is None else percent(reached(cell, main)),
        *(rate(rate_of(cell, declared["name"])) for declared in headline_rates(workload)),
        *accuracy_columns(cell, result["cells"]),
        UNKNOWN if main is None else speedup_text(cell, main["name"]),
        *([str(runs(cell))] if with_runs else []),
        verdict_text(cell, is_smoke(result)),
    ]


def titled(title: str, rows: list, headers: list[str], widths: dict[str, int]) -> str:
    """A table without the columns in which nothing is known; none where nothing is known at all."""
    columns = zip(headers, *rows, strict=True)
    known = [column for column in columns if set(column[1:]) != {UNKNOWN}]
    if len(known) < 2:
        return ""
    headers, *rows = zip(*known, strict=True)
    return f"{wrap(title)}\n{fitted(rows, headers, widths)}"


def group_rows(cells: Sequence[dict], result: dict | None = None) -> str:
    """A line per cell of a group that is done, to be shown while others are still to come.

    result: the session so far, which says what is timed and on what; without it: generation.
    """
    workload = GENERATION if result is None else result["workload"]
    smoke = result is not None and is_smoke(result)
    lines = (_line(cell, workload, verdict_text(cell, smoke)) for cell in map(printable, cells))
    return "\n".join(lines)


def _line(cell: dict, workload: dict, verdict: str) -> str:
    """thunder+graphs b1: TTFT 22.01±0.36, TBOT 3.923±0.001 ms, 254 tok/s, valid"""
    if not has_times(cell):
        return f"{cell['label']}: {verdict}"
    known = [m for m in headlines(workload) if median(cell, m["name"]) is not None]
    times = ", ".join(f"{metric['title']} {measured_text(cell, metric)}" for metric in known)
    unit = f" {shown_unit(known[-1])}" if known and known[-1]["unit"] == "s" else ""
    rates = [
        f"{rate(rate_of(cell, declared['name']))} {declared['title']}"
        for declared in headline_rates(workload)
    ]
    return wrap(f"{cell['label']}: {', '.join([times + unit, *rates, verdict])}")


def speedup_text(cell: dict, metric: str) -> str:
    """1.52x faster, or a dash."""
    speedup = speedup_of(cell, metric)
    return UNKNOWN if speedup is None else f"{speedup['ratio']:.2f}x {speedup['verdict']}"


def legend_line(result: dict) -> str:
    """What the columns mean, for whoever sees them for the first time."""
    workload, cells = result["workload"], result["cells"]
    shown, main = headlines(workload), main_metric(workload, cells)
    meanings = [f"{m['title']}: {_MEANINGS[m['name']]}" for m in shown if m["name"] in _MEANINGS]
    if main is not None and any(reached(cell, main) for cell in cells):
        meanings.append("limit: % reached")
    return "; ".join([*meanings, "verdict: trust?"])


def summary_notes(result: dict) -> list[str]:
    """What was checked, what speed-ups refer to, and where two printed numbers seem to disagree."""
    cells = result["cells"]
    main = main_metric(result["workload"], cells)
    notes = _check_notes(cells)
    notes += _speedup_notes(cells, main) if main is not None else []
    notes += _kernel_notes(result, main)
    notes += accuracy_notes(cells)
    notes += _clock_notes(cells)
    apart = [cell for cell in cells if not cell["group"]["interleaved"]]
    if apart:
        notes.append(f"not interleaved with others, measured one after the other: {joined(apart)}")
    few = [cell for cell in cells if main is not None and _lacks_interval(cell, main)]
    few = [cell for cell in few if "too_few_runs" not in _reason_codes(cell)]
    if few:
        notes.append(f"too few runs for a 95% interval of the median: {joined(few, cells)}")
    return notes


def _clock_notes(cells: list[dict]) -> list[str]:
    """Where clocks differ: a token that the host has is later than one that the GPU has."""
    timed = [cell for cell in cells if has_times(cell)]
    by_host = [cell for cell in timed if cell["timer"] == "wall"]
    if not by_host or len(by_host) == len(timed):
        return []
    return [
        f"clock: the host's, when the process has a token, of {joined(by_host)}; else the GPU's"
    ]


def _lacks_interval(cell: dict, main: dict) -> bool:
    return has_times(cell) and "±" not in measured_text(cell, main)


def _reason_codes(cell: dict) -> set[str]:
    return {reason["code"] for reason in (cell["validity"] or {"reasons": []})["reasons"]}


def _check_notes(cells: list[dict]) -> list[str]:
    """checked: tokens, logits, cache. Estimates never ran; the cells they come from were checked."""
    by_evidence: dict[str, list[dict]] = {}
    for cell in cells:
        if cell["output_check"] is not None:
            evidence = ", ".join(cell["output_check"]["checked"]) or "nothing"
            if reference := cell["output_check"].get("reference"):
                evidence += f" against {reference}"
            by_evidence.setdefault(evidence, []).append(cell)
    unchecked = [c for c in cells if c["output_check"] is None and has_times(c)]
    unchecked = [cell for cell in unchecked if not cell["estimated"]]
    notes = [
        f"checked: {evidence}" + ("" if len(by_evidence) == 1 else f" ({joined(checked)})")
        for evidence, checked in by_evidence.items()
    ]
    return notes + ([f"output not checked: {joined(unchecked, cells)}"] if unchecked else [])


def _speedup_notes(cells: list[dict], main: dict) -> list[str]:
    judged = [cell for cell in cells if speedup_of(cell, main["name"])]
    if not judged:
        return []
    references = [(cell, named(cells, cell["speedup"]["baseline"])) for cell in judged]
    names = sorted(
        {variant(other) if other else c["speedup"]["baseline"] for c, other in references}
    )
    several = len({cell["speedup"]["baseline"] for cell in judged}) > 1
    note = f"speed-up: {main['title']} against {', '.join(names)}"
    note += " of the same batch size and depth" if several else ""
    note += ", paired by round" if all(cell["group"]["interleaved"] for cell in judged) else ""
    note += f"; {ADJUSTMENT}" if _is_adjusted(judged) else ""
    ratios = [(cell, medians_ratio(cell, cells, main, _RATIO_ROUNDING)) for cell in judged]
    apart = [
        f"{cell['label']} {ratio:.2f}x"
        for cell, ratio in ratios
        if ratio is not None and f"{ratio:.2f}" != f"{speedup_of(cell, main['name'])['ratio']:.2f}"
    ]
    if apart:
        note += (
            f"; times moved between rounds, so the medians' own ratio differs: {', '.join(apart)}"
        )
    return [note]


def _kernel_notes(result: dict, main: dict | None) -> list[str]:
    """How modes with this project's kernels do against PyTorch with these, and that there are such
    modes where all are as shipped."""
    cells = result["cells"]
    with_ours = [cell for cell in cells if cell["name"]["kernels"]]
    if not with_ours:
        takers = [cell for cell in cells if _steps_our_decoder(cell["engine"] or {})]
        if not takers or not _could_have_ours(result):
            return []
        modes = " ".join(dict.fromkeys(f"{cell['mode']}+kernels" for cell in takers))
        return [f"modes as shipped; with this project's kernels too: add {modes} to --mode"]
    if main is None:
        return []
    against: dict[str, list[str]] = {}
    for cell in with_ours:
        speedup = speedup_of(cell, main["name"], against="eager_kernels")
        if speedup is not None:
            text = f"{variant(cell)} b{cell['batch_size']} {speedup['ratio']:.2f}x {speedup['verdict']}"
            against.setdefault(cell["speedup"]["eager_kernels"]["baseline"], []).append(text)
    return [
        f"with the same kernels, {main['title']} against {name}: {', '.join(texts)}"
        for name, texts in against.items()
    ]


def _could_have_ours(result: dict) -> bool:
    """Whether the same request with +kernels would be accepted."""
    config, cells = result["config"], result["cells"]
    chosen_apart = (config.get("attention"), config.get("linear")) == ("sdpa", "torch")
    implemented = any((cell["options"] or {}).get("implementation") for cell in cells)
    generates = result["workload"]["name"] == GENERATION["name"]
    return generates and not is_smoke(result) and not chosen_apart and not implemented


def _steps_our_decoder(engine: dict) -> bool:
    """Whether an engine can have this project's kernels; others may share the weights alone."""
    return engine.get("weights") == "session" and engine["granularity"] == "steps"


def _is_adjusted(cells: list[dict]) -> bool:
    return any(
        ratio is not None and ratio["p_adjusted"] is not None
        for cell in cells
        for ratio in cell["speedup"]["metrics"].values()
    )


def medians_ratio(cell: dict, cells: Sequence[dict], metric: dict, rounding: float) -> float | None:
    """The ratio of the printed medians, where it differs by more than the rounding from the speed-up
    that is printed beside them."""
    speedup = speedup_of(cell, metric["name"])
    baseline = named(cells, cell["speedup"]["baseline"]) if speedup else None
    before = median(baseline, metric["name"]) if baseline else None
    after = median(cell, metric["name"])
    if not before or not after:
        return None
    ratio = before / after
    return None if abs(speedup["ratio"] - ratio) <= rounding else ratio
