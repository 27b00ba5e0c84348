"""Tables of published results: a row per cell, with what it ran on."""

import json
from collections.abc import Sequence

from inference_benchmark.reporting.bare_loops import bare_loop_table
from inference_benchmark.reporting.engine_table import measured_engines
from inference_benchmark.reporting.figures import (
    bases,
    headline_rates,
    headlines,
    is_smoke,
    main_metric,
    named,
    rate_of,
    reached,
    runs,
    speedup_of,
    summary_of,
    titled_unit,
    value_text,
    verdict_words,
)
from inference_benchmark.reporting.format_table import measured_formats
from inference_benchmark.reporting.formats import markdown
from inference_benchmark.reporting.labels import (
    compile_scope,
    context_depth,
    model_label,
    variant,
)
from inference_benchmark.reporting.peers import has_formats, peer_formats_table, peers_table
from inference_benchmark.reporting.readme.files import PUBLISHED, results_in
from inference_benchmark.reporting.summary import medians_ratio
from inference_benchmark.reporting.units import NOTHING_PUBLISHED, UNKNOWN, percent, rate

_RATIO_ROUNDING = 0.001  # of a printed speed-up and of the medians it is held against


def published(*folders: str) -> str:
    """A row per cell of the files in these folders of results/published, with what they ran on; a
    table for each workload."""
    results = [result for folder in folders for result in results_in(folder)]
    if not results:
        return NOTHING_PUBLISHED
    columns = dict.fromkeys(map(_columns, results))
    tables = [_table([r for r in results if _columns(r) == alike]) for alike in columns]
    notes = dict.fromkeys(environment_line(result) for result in results)
    notes |= dict.fromkeys(note for result in results for note in _disagreements(result))
    return "\n\n".join([*tables, "\n".join(notes)])


def _columns(result: dict) -> tuple:
    """Results with the same ones share a table."""
    workload = result["workload"]
    return workload["name"], tuple(metric["name"] for metric in workload["metrics"])


def _table(results: list[dict]) -> str:
    """Of results of one workload."""
    workload = results[0]["workload"]
    cells = [cell for result in results for cell in result["cells"]]
    main = main_metric(workload, cells)
    rows = [measured_row(result, cell, main) for result in results for cell in result["cells"]]
    headers = ["model", "GPUs", "scenario", "mode", "batch"]
    has_depths = any(context_depth(cell) is not None for cell in cells)
    headers += ["depth"] if has_depths else []
    headers += [titled_unit(metric) for metric in headlines(workload)]
    headers += ["of the limit", *(declared["title"] for declared in headline_rates(workload))]
    headers += [f"speed-up of {main['title']} [95 %]", "n", "verdict"]
    return markdown(headers, rows)


def measured_row(result: dict, cell: dict, main: dict | None = None) -> list[str]:
    config, workload, gpu = result["config"], result["workload"], result["environment"]["gpu"]
    main = main or main_metric(workload, result["cells"])
    mode = variant(cell)
    scope = compile_scope(config, cell)
    mode += f", {scope} scope" if scope in ("model", "step") else ""
    gpus = str(gpu["count"]) if gpu else UNKNOWN
    return [
        model_label(config, cell),
        gpus,
        ", ".join([_scenario(config), *workload.get("conditions", ())]),
        mode,
        str(cell["batch_size"]),
        *([] if context_depth(cell) is None else [f"{context_depth(cell):,}"]),
        *(with_interval(cell, metric) for metric in headlines(workload)),
        percent(reached(cell, main)),
        *(rate(rate_of(cell, declared["name"])) for declared in headline_rates(workload)),
        _speedup(result, cell, main),
        str(runs(cell)),
        ", ".join(verdict_words(cell, is_smoke(result))),
    ]


def _disagreements(result: dict) -> list[str]:
    """Where a speed-up is not the ratio of the medians in its row and in the baseline's."""
    cells = result["cells"]
    main = main_metric(result["workload"], cells)
    return [
        f"{model_label(result['config'], cell)}, {cell['label']}: the speed-up of {main['title']} is "
        f"the mean over rounds, each with itself; the medians' own ratio is {ratio:.3f}."
        for cell in cells
        if (ratio := medians_ratio(cell, cells, main, _RATIO_ROUNDING)) is not None
    ]


def _scenario(config: dict) -> str:
    if config["output_length"] is None:
        return f"{config['workload']} of {config['input_length']}"
    return config["scenario"] or f"{config['input_length']} -> {config['output_length']}"


def with_interval(cell: dict, metric: dict) -> str:
    """22.01 [21.99, 22.37]"""
    summary = summary_of(cell, metric["name"])
    text, interval = value_text(summary.get("median"), metric), summary.get("median_ci95")
    if interval is None:
        return text
    return f"{text} [{', '.join(value_text(bound, metric) for bound in interval)}]"


def _speedup(result: dict, cell: dict, main: dict) -> str:
    speedup = speedup_of(cell, main["name"])
    if speedup is None:
        return UNKNOWN
    interval = speedup["ci95"] or []
    bounds = f" [{', '.join(f'{bound:.3f}' for bound in interval)}]" if interval else ""
    baseline = named(result["cells"], cell["speedup"]["baseline"])
    name = variant(baseline) if baseline else cell["speedup"]["baseline"]
    return f"{speedup['ratio']:.3f}{bounds} {_compared(speedup['verdict'])} {name}"


def _compared(verdict: str) -> str:
    return {"same": "same as", "inconclusive": "inconclusive against"}.get(
        verdict, f"{verdict} than"
    )


def environment_line(result: dict) -> str:
    environment = result["environment"]
    names = ("torch", "thunder", "nvfuser", "transformer_engine", "triton", "driver", "cuda")
    versions = ", ".join(f"{name} {environment[name]}" for name in names if environment[name])
    gpu = environment["gpu"]
    where = f"{gpu['count']} x {gpu['name']}" if gpu else "CPU"
    precision, basis = result["config"]["precision"], ", ".join(bases(result["cells"]))
    return f"{result['created'][:10]}, {where}, {precision}; limit: {basis}; {versions}."


def engines_measured() -> str:
    """Engines of other projects, from results/published/engines, beside ours, from as_shipped."""
    results = [*results_in("engines"), *results_in("as_shipped")]
    if not results:
        return NOTHING_PUBLISHED
    notes = dict.fromkeys(environment_line(result) for result in results)
    notes |= dict.fromkeys(filter(None, map(_cache_line, results)))
    return "\n\n".join([measured_engines(results), "\n".join(notes)])


def formats_measured() -> str:
    """Weights in 8 and 4 bits, from results/published/formats."""
    results = results_in("formats")
    if not results:
        return NOTHING_PUBLISHED
    notes = dict.fromkeys(environment_line(result) for result in results)
    return "\n\n".join([measured_formats(results), "\n".join(notes)])


def _cache_line(result: dict) -> str | None:
    """What compilers found on disk when a session's engines started."""
    state = result["config"].get("cache_state")
    if state is None:
        return None
    sizes = ", ".join(dict.fromkeys(str(cell["batch_size"]) for cell in result["cells"]))
    filling = {"cold": "empty", "warm": "filled"}[state]
    name = result["config"]["model_name"]
    return f"{name}, batch {sizes}: started with {filling} compile caches."


def engines_bare() -> str:
    """The same engines in loops of their own, from results/published/engines/bare; those that did not
    stream have no times to compare."""
    paths = sorted((PUBLISHED / "engines" / "bare").glob("*.json"))
    loops = {path.stem: json.loads(path.read_text()) for path in paths}
    timed = {name: loop for name, loop in loops.items() if loop["ttft_s"] is not None}
    return bare_loop_table(results_in("engines"), timed) if timed else NOTHING_PUBLISHED


def _peer_records() -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((PUBLISHED / "peers").glob("*.json"))]


def peer_formats() -> str:
    """Other projects' kernels for weights in 8 and 4 bits."""
    records = [record for record in _peer_records() if has_formats(record)]
    return peer_formats_table(records) if records else NOTHING_PUBLISHED


def peers(folders: Sequence[str]) -> str:
    """Other projects' programs beside our modes in these folders of results/published."""
    records = [record for record in _peer_records() if not has_formats(record)]
    engines = results_in("engines")
    if not records and not engines:
        return NOTHING_PUBLISHED
    ours = [result for folder in folders for result in results_in(folder)]
    return peers_table(records, engines, ours, "llama3.1-8b")
