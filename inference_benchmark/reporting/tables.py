"""The report after a session, rendered from the result object alone; 80 columns wide at most.

The answer comes first: a headline, the summary, what has to be said about it. With details, tables
of throughput, latency, memory, cost, cold start and the output check follow, each without the columns
of which nothing is known.
"""

from inference_benchmark.model.weight_format import BASE_TYPES
from inference_benchmark.reporting import notes
from inference_benchmark.reporting.check_table import check_table, nearest_notes
from inference_benchmark.reporting.figures import (
    has_times,
    headlines,
    main_metric,
    median,
    of_summary,
    rate_of,
    summary_of,
    titled_unit,
    value_text,
)
from inference_benchmark.reporting.gains import gains_table
from inference_benchmark.reporting.labels import session_label
from inference_benchmark.reporting.latency_table import latency_table
from inference_benchmark.reporting.layout import wrap
from inference_benchmark.reporting.part_tables import is_part, part_tables
from inference_benchmark.reporting.reading import printable, to_version_2
from inference_benchmark.reporting.summary import legend_line, summary_notes, summary_table, titled
from inference_benchmark.reporting.units import (
    UNKNOWN,
    dollar_range,
    gigabytes,
    milliseconds,
    percent,
    rate,
    seconds,
    significant,
)

_PER_GPU, _PER_USER = "per_gpu_tokens_per_s", "per_user_tokens_per_s"
_MORE = "--details adds throughput, latency, memory, cost, cold start, the output check"
_OUTPUT_TOKENS = "output"
_COMPILATIONS = {"compilations": "compiled", "recompilations": "again"}  # by then, and later
_WIDTHS = {"$/M tokens": 22, "$/M output tokens": 22}


def report(result: dict, details: bool = False, legend: bool = True) -> str:
    """What is worth reading after a session; legend: for whoever sees it for the first time."""
    result = printable(to_version_2(result))
    parts = [headline(result), f"{summary_table(result)}\n{_under_summary(result, legend)}"]
    measured = [cell for cell in result["cells"] if has_times(cell)]
    if measured and is_part(result):
        parts += part_tables(result, measured)
    if details and measured:
        parts += _details(result, measured)
    parts.append(gains_table([result]))
    parts += [
        "\n".join(map(wrap, notes.reasons(result["cells"]))),
        _last_notes(result, details, legend),
    ]
    return "\n\n".join(part for part in parts if part)


def headline(result: dict) -> str:
    config, gpu = result["config"], result["environment"]["gpu"]
    where = gpu["name"] if gpu else "CPU smoke run: says nothing about GPUs"
    ranks = config["tensor_parallel"]
    where = f"{ranks} x {where}" if gpu and ranks > 1 else where
    workload = result["workload"]["name"]
    named = "" if workload == "generation" else f"{workload}, "
    how = "".join(f", {words}" for words in result["workload"].get("conditions", ()))
    line = f"{session_label(result)}, {named}{lengths(config)}, {_types(result)}{how}, {where}"
    return wrap(line)


def _types(result: dict) -> str:
    """The session's type; where all cells convert the weights, theirs."""
    session_type = result["config"]["precision"]
    types = [(cell["options"] or {}).get("precision") for cell in result["cells"]]
    if session_type in types or not types or any(name not in BASE_TYPES for name in types):
        return session_type
    return ", ".join(dict.fromkeys(types))


def lengths(config: dict) -> str:
    """chat 1000 -> 1000; of a workload that generates nothing there is an input only."""
    scenario = config["scenario"] or "own lengths"
    if config.get("sequence_lengths"):
        return f"{', '.join(map(str, config['sequence_lengths']))} tokens"
    if config["output_length"] is None:
        return f"{config['input_length']} tokens"
    return f"{scenario} {config['input_length']} -> {config['output_length']}"


def _under_summary(result: dict, legend: bool) -> str:
    remarks = [legend_line(result)] if legend else []
    remarks += [*summary_notes(result), *notes.estimate_notes(result)]
    return "\n".join(map(wrap, remarks))


def _last_notes(result: dict, details: bool, legend: bool) -> str:
    remarks = [*(notes.details_notes(result) if details else []), *result["warnings"]]
    remarks.append(notes.stop_note(result["cells"]))
    remarks += [_MORE] if legend and not details and any(map(has_times, result["cells"])) else []
    return "\n".join(wrap(note) for note in dict.fromkeys(remarks))


def _details(result: dict, cells: list[dict]) -> list[str]:
    return [
        _operating_points(result, cells),
        _throughput(result, cells),
        *(latency_table(result, cell) for cell in cells if not is_part(result)),
        _resources(cells),
        _variance(result, cells),
        _cold_start(cells),
        "\n".join([check_table(cells), *map(wrap, nearest_notes(cells))]).strip(),
    ]


def _throughput(result: dict, cells: list[dict]) -> str:
    rates = result["workload"]["rates"]
    if result["config"]["tensor_parallel"] == 1:
        rates = [declared for declared in rates if declared["name"] != _PER_GPU]
    if not any(map(_counts_tokens, rates)):
        return ""
    others = any(not _counts_tokens(declared) for declared in rates)
    rows = [
        [
            cell["label"],
            *(rate(rate_of(cell, declared["name"])) for declared in rates),
            milliseconds(of_summary(cell, "s_per_token")),
            *([percent(of_summary(cell, "mfu"))] if others else []),
        ]
        for cell in cells
    ]
    headers = ["cell", *(_amount(declared) or declared["title"] for declared in rates), "ms/token"]
    headers += ["MFU"] if others else []
    of_what = "amounts" if others else "tokens per second (tokens"
    title = f"throughput, {of_what} over median time{'' if others else ')'}"
    return titled(title, rows, headers, _WIDTHS)


def _amount(declared: dict) -> str:
    """What a rate counts: output_tokens_per_s is output, of tokens_per_s there is no more to say."""
    if not _counts_tokens(declared):
        return declared["title"]
    return declared["name"].removesuffix("tokens_per_s").strip("_").replace("_", " ")


def _counts_tokens(declared: dict) -> bool:
    return declared["name"].endswith("tokens_per_s")


def _operating_points(result: dict, cells: list[dict]) -> str:
    """What one chooses a batch size by; only where there is something to choose."""
    if len({cell["batch_size"] for cell in cells}) < 2:
        return ""
    first = headlines(result["workload"])[:1]
    names = {declared["name"]: declared["title"] for declared in result["workload"]["rates"]}
    rates = [name for name in (_PER_GPU, _PER_USER) if name in names] or list(names)
    rows = [
        [
            cell["label"],
            *(rate(rate_of(cell, name)) for name in rates),
            *(value_text(median(cell, metric["name"]), metric) for metric in first),
            dollar_range(_cost(cell)),
        ]
        for cell in cells
    ]
    headers = ["cell", *(names[name] for name in rates)]
    headers += [titled_unit(metric) for metric in first]
    return titled("operating points", rows, [*headers, _cost_title(cells)], _WIDTHS)


def _cost(cell: dict) -> dict | None:
    """Per million output tokens; of a workload without output, of all tokens."""
    costs = of_summary(cell, "cost_per_million_tokens") or {}
    return costs.get(_OUTPUT_TOKENS, costs.get("total"))


def _cost_title(cells: list[dict]) -> str:
    known = [of_summary(cell, "cost_per_million_tokens") or {} for cell in cells]
    return "$/M output tokens" if any(_OUTPUT_TOKENS in cost for cost in known) else "$/M tokens"


def _cold_start(cells: list[dict]) -> str:
    """What comes before the first fast token; pay-back is in output tokens against plain eager."""
    cells = [cell for cell in cells if cell["cold_start"] is not None]
    stages = dict.fromkeys(
        name
        for cell in cells
        for name, value in cell["cold_start"].items()
        if name.endswith("_s") and not isinstance(value, list)
    )
    rows = [
        [
            cell["label"],
            *(seconds(cell["cold_start"].get(name)) for name in stages),
            *(rate(cell["cold_start"].get(name)) for name in _COMPILATIONS),
            rate(cell["cold_start"].get("payback_tokens")),
        ]
        for cell in cells
    ]
    headers = ["cell", *map(_stage, stages), *_COMPILATIONS.values(), "pay-back"]
    first = ", ".join(_stage(name) for name in stages if name.startswith("compile_"))
    title = f"cold start, s ({first}: compiling and the first call)"
    return titled(title, rows, headers, _WIDTHS) if cells else ""


def _stage(name: str) -> str:
    if name == "first_token_s":
        return "token 1"
    return name.removesuffix("_s").removeprefix("compile_").replace("_", " ")


def _resources(cells: list[dict]) -> str:
    names = (
        *("weights_bytes", "kv_cache_bytes", "current_allocated_bytes"),
        *("peak_allocated_bytes", "peak_reserved_bytes"),
    )
    rows = [
        [
            cell["label"],
            *(gigabytes((cell["memory"] or {}).get(name)) for name in names),
            dollar_range(_cost(cell)),
        ]
        for cell in cells
    ]
    headers = ["cell", "weights", "KV", "now", "peak", "reserved", _cost_title(cells)]
    title = f"resources, GB{_planned(cells)}"
    if any(_cost(cell) for cell in cells):
        title += "; cost as min - median - max"
    return f"{titled(title, rows, headers, _WIDTHS)}\n{_total_cost(cells)}".strip()


def _planned(cells: list[dict]) -> str:
    """Predicted per group of cells that are held together."""
    planned = {
        (cell["batch_size"], (cell["memory"] or {}).get("predicted_bytes")) for cell in cells
    }
    amounts = sorted({amount for _, amount in planned if amount is not None})
    if not amounts:
        return ""
    least, most = gigabytes(amounts[0]), gigabytes(amounts[-1])
    return f"; {most if least == most else f'{least} to {most}'} planned for what is held together"


def _total_cost(cells: list[dict]) -> str:
    lines = []
    for cell in cells:
        cost = of_summary(cell, "cost_per_million_tokens") or {}
        if _OUTPUT_TOKENS in cost and cost.get("total"):
            lines.append(wrap(f"{cell['label']}: $/M total tokens {dollar_range(cost['total'])}"))
        energy = of_summary(cell, "energy_per_token_j")
        if energy is not None:
            lines.append(f"{cell['label']}: {significant(energy)} J per token")
    return "\n".join(lines)


def _variance(result: dict, cells: list[dict]) -> str:
    shown, workload = headlines(result["workload"]), result["workload"]
    rates = [declared for declared in workload["rates"] if any(_spread(c, declared) for c in cells)]
    main = main_metric(workload, cells)
    rows = [
        [
            cell["label"],
            *(
                UNKNOWN if (std := _spread(cell, declared)) is None else significant(std, 3)
                for declared in rates
            ),
            *(value_text(summary_of(cell, m["name"]).get("std"), m) for m in shown),
            *([_interval(cell, main)] if main else []),
        ]
        for cell in cells
    ]
    headers = ["cell", *(_rate_title(declared) for declared in rates)]
    headers += [titled_unit(metric) for metric in shown]
    headers += ["median 95%"] if main else []
    title = "variance, standard deviation over runs"
    title += f"; median of {titled_unit(main)}" if main else ""
    return titled(title, rows, headers, _WIDTHS)


def _rate_title(declared: dict) -> str:
    """With its unit, tokens per second where it counts tokens."""
    return f"{_amount(declared)} tok/s".strip() if _counts_tokens(declared) else declared["title"]


def _spread(cell: dict, declared: dict) -> float | None:
    return cell["summary"]["rate_std"].get(declared["name"])


def _interval(cell: dict, metric: dict) -> str:
    interval = summary_of(cell, metric["name"]).get("median_ci95")
    if interval is None:
        return UNKNOWN
    return " .. ".join(value_text(bound, metric) for bound in interval)
