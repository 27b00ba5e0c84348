"""Fills the tables of README.md and results/README.md from presets and published result files.

`python -m inference_benchmark.reporting.readme` rewrites both between their markers; a test holds them against what
this would write, so that they can't disagree.
"""

import re
from pathlib import Path

from inference_benchmark.engines import ENGINES, listed
from inference_benchmark.engines.spec import EXECUTORS
from inference_benchmark.model.config import Precision
from inference_benchmark.model.weight_format import QUANTIZED
from inference_benchmark.models import MODELS
from inference_benchmark.reporting.audit_tables import (
    Audit,
    audit_cannot_see,
    audit_faults,
    audit_limits,
    audit_summary,
)
from inference_benchmark.reporting.engine_table import measured_engines
from inference_benchmark.reporting.figures import (
    bases,
    headline_rates,
    headlines,
    is_smoke,
    main_metric,
    median,
    named,
    rate_of,
    reached,
    runs,
    speedup_of,
    summary_of,
    value_text,
    verdict_words,
)
from inference_benchmark.reporting.format_table import measured_formats
from inference_benchmark.reporting.formats import markdown
from inference_benchmark.reporting.labels import context_depth, model_label, variant
from inference_benchmark.reporting.part_readme import parts_section
from inference_benchmark.reporting.reading import read_result
from inference_benchmark.reporting.session_sets import set_table
from inference_benchmark.reporting.summary import medians_ratio, summary_table
from inference_benchmark.reporting.units import (
    NOTHING_PUBLISHED,
    UNKNOWN,
    count,
    gigabytes,
    percent,
    rate,
)
from inference_benchmark.reporting.workload_tables import gains, training_costs, training_errors
from inference_benchmark.scenarios import SCENARIOS

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "results" / "published"
_RATIO_ROUNDING = 0.001  # of a printed speed-up and of the medians it is held against
HEADLINES = ("as_shipped", "three_sessions", "models", "four_gpus")  # what the README itself shows


def main() -> None:
    for path, sections in FILES.items():
        path.write_text(fill(path.read_text(), sections))


def fill(text: str, sections: dict) -> str:
    """text with every marked section <!-- name --> ... <!-- /name --> written anew."""
    for name, section in sections.items():
        body = f"<!-- {name} -->\n{section()}\n<!-- /{name} -->"
        text, found = re.subn(
            rf"<!-- {name} -->(?:.*?<!-- /{name} -->)?", lambda _, body=body: body, text, flags=re.S
        )
        if found != 1:
            raise ValueError(f"the marker <!-- {name} --> is needed once, found {found} times")
    return text


def example(name: str) -> str:
    """A file of examples/, whole."""
    return f"```python\n{(ROOT / 'examples' / f'{name}.py').read_text().rstrip()}\n```"


def scenarios() -> str:
    rows = [
        [s.name, f"{s.input_length} -> {s.output_length}", s.stresses, s.use_case]
        for s in SCENARIOS.values()
    ]
    return markdown(["scenario", "tokens", "stresses", "use case"], rows)


def models() -> str:
    bf16 = Precision.of("bf16")
    rows = [
        [
            model.name,
            count(model.parameters),
            count(model.active_parameters),
            str(model.num_layers),
            gigabytes(model.weight_bytes(bf16)),
            f"{model.kv_bytes_per_token(bf16) / 1024:,.0f}",
            f"{model.context_length:,}",
        ]
        for model in MODELS.values()
    ]
    headers = ["model", "parameters", "active", "layers", "GB in bf16", "KV KiB/token", "context"]
    return markdown(headers, rows)


def weight_formats() -> str:
    """The formats of --quantize, with what they store of a model."""
    model, bf16 = MODELS["llama3.1-8b"], Precision.of("bf16")
    stored = [(entry, Precision.quantized("bf16", entry.name)) for entry in QUANTIZED.values()]
    rows = [
        [
            entry.name,
            entry.description,
            entry.compute if entry.compute != "base" else "--precision",
            f"{8 * model.linear_bytes(precision) / model.linear_parameters:.3f}",
            gigabytes(model.step_weight_bytes(precision, 1)),
        ]
        for entry, precision in stored
    ]
    rows.insert(0, ["none", "", "--precision", "16", gigabytes(model.step_weight_bytes(bf16, 1))])
    headers = ["format", "weights", "products in", "bits a weight", "GB a step of llama3.1-8b"]
    return markdown(headers, rows)


def modes() -> str:
    rows = [
        [entry.name, "on" if entry.graphs_by_default else "off", entry.description]
        for entry in map(ENGINES.get, listed())
    ]
    return markdown(["mode", "CUDA graphs by default", "what it is"], rows)


def foreign_engines() -> str:
    """Engines with a loop of their own: how each is installed, where it runs, by what name."""
    rows = [
        [
            entry.name,
            ", ".join(f"+{suffix}" for suffix in entry.suffixes) or UNKNOWN,
            "a worker" if entry.in_worker else "this",
            entry.install,
        ]
        for entry in map(ENGINES.get, listed())
        if entry.has_own_loop and not entry.server_check and not entry.note
    ]
    return markdown(["mode", "suffixes", "process", "install"], rows)


def engines_measured() -> str:
    """Engines of other projects beside ours, from results/published/engines."""
    results = _results("engines")
    if not results:
        return NOTHING_PUBLISHED
    notes = dict.fromkeys(_environment_line(result) for result in results)
    return "\n\n".join([measured_engines(results), "\n".join(notes)])


def formats_measured() -> str:
    """Weights in 8 and 4 bits, from results/published/formats."""
    results = _results("formats")
    if not results:
        return NOTHING_PUBLISHED
    notes = dict.fromkeys(_environment_line(result) for result in results)
    return "\n\n".join([measured_formats(results), "\n".join(notes)])


def package_file(name: str) -> str:
    """A file of the package, whole."""
    path = ROOT / "inference_benchmark" / name
    return f"```python\n{path.read_text().rstrip()}\n```"


def executors() -> str:
    rows = [
        [each.name, each.thunder_name or "thunderfx", each.install or "comes with thunder"]
        for each in EXECUTORS.values()
    ]
    return markdown(["name here", "in thunder", "install"], rows)


def published(*folders: str) -> str:
    """A row per cell of the files in these folders of results/published, with what they ran on; a
    table for each workload."""
    results = [result for folder in folders for result in _results(folder)]
    if not results:
        return NOTHING_PUBLISHED
    columns = dict.fromkeys(map(_columns, results))
    tables = [_table([r for r in results if _columns(r) == alike]) for alike in columns]
    notes = dict.fromkeys(_environment_line(result) for result in results)
    notes |= dict.fromkeys(note for result in results for note in _disagreements(result))
    return "\n\n".join([*tables, "\n".join(notes)])


def _columns(result: dict) -> tuple:
    """Results with the same ones share a table."""
    workload = result["workload"]
    return workload["name"], tuple(metric["name"] for metric in workload["metrics"])


def _results(folder: str) -> list[dict]:
    return [read_result(path) for path in sorted((PUBLISHED / folder).glob("*.json"))]


def _table(results: list[dict]) -> str:
    """Of results of one workload."""
    workload = results[0]["workload"]
    cells = [cell for result in results for cell in result["cells"]]
    main = main_metric(workload, cells)
    rows = [_measured_row(result, cell, main) for result in results for cell in result["cells"]]
    headers = ["model", "GPUs", "scenario", "mode", "batch"]
    has_depths = any(context_depth(cell) is not None for cell in cells)
    headers += ["depth"] if has_depths else []
    headers += [f"{metric['title']} ms" for metric in headlines(workload)]
    headers += ["of the limit", *(each["title"] for each in headline_rates(workload))]
    headers += [f"speed-up of {main['title']} [95 %]", "n", "verdict"]
    return markdown(headers, rows)


def _measured_row(result: dict, cell: dict, main: dict | None = None) -> list[str]:
    config, workload, gpu = result["config"], result["workload"], result["environment"]["gpu"]
    main = main or main_metric(workload, result["cells"])
    mode = variant(cell)
    scope = config.get("compile_scope")
    mode += f", {scope} scope" if scope in ("model", "step") else ""
    gpus = str(gpu["count"]) if gpu else UNKNOWN
    return [
        model_label(config, cell),
        gpus,
        ", ".join([_scenario(config), *workload.get("conditions", ())]),
        mode,
        str(cell["batch_size"]),
        *([] if context_depth(cell) is None else [f"{context_depth(cell):,}"]),
        *(_with_interval(cell, metric) for metric in headlines(workload)),
        percent(reached(cell, main)),
        *(rate(rate_of(cell, each["name"])) for each in headline_rates(workload)),
        _speedup(result, cell, main),
        str(runs(cell)),
        ", ".join(verdict_words(cell, is_smoke(result))),
    ]


def _disagreements(result: dict) -> list[str]:
    """Where a speed-up is not the ratio of the medians in its row and in the baseline's."""
    cells = result["cells"]
    main = main_metric(result["workload"], cells)
    return [
        f"{model_label(result['config'], cell)}, {cell['label']}: the speed-up is the mean over "
        f"rounds, each with itself; the medians' own ratio is {ratio:.3f}."
        for cell in cells
        if (ratio := medians_ratio(cell, cells, main, _RATIO_ROUNDING)) is not None
    ]


def _scenario(config: dict) -> str:
    if config["output_length"] is None:
        return f"{config['workload']} of {config['input_length']}"
    return config["scenario"] or f"{config['input_length']} -> {config['output_length']}"


def extrapolation_check() -> str:
    """Estimates from two depths beside measurements of the whole model in the same modes."""
    estimates, measured = (
        {
            (result["config"]["model_name"], variant(cell), cell["batch_size"]): (result, cell)
            for result in reversed(_results(folder))  # of several sessions the first
            for cell in result["cells"]
            if cell["num_layers"] == result["config"]["full_num_layers"]
        }
        for folder in ("extrapolation", "session")
    )
    rows = [
        [*key[:2], metric["title"], *_estimate_and_truth(cell, measured[key][1], metric)]
        for key, (result, cell) in estimates.items()
        for metric in headlines(result["workload"])
    ]
    headers = ["model", "mode", "ms", "ESTIMATE", "measured", "ESTIMATE / measured"]
    return markdown(headers, rows)


def _estimate_and_truth(estimate: dict, measured: dict, metric: dict) -> list[str]:
    estimated, true = (median(cell, metric["name"]) for cell in (estimate, measured))
    return [
        _with_interval(estimate, metric),
        _with_interval(measured, metric),
        f"{estimated / true:.3f}",
    ]


def summary() -> str:
    """What a session prints first, as it prints it."""
    first, *_ = _results("three_sessions")
    return f"```text\n{summary_table(first)}\n```"


def between_sessions(folder: str) -> str:
    """By how much the sessions of a set differ."""
    results = _results(folder)
    if len(results) < 2:
        return "One session so far: nothing is known here of what differs between sessions."
    return f"```text\n{set_table(results)}\n```"


def _with_interval(cell: dict, metric: dict) -> str:
    """22.01 [21.99, 22.37]"""
    found = summary_of(cell, metric["name"])
    text, interval = value_text(found.get("median"), metric), found.get("median_ci95")
    if interval is None:
        return text
    return f"{text} [{', '.join(value_text(bound, metric) for bound in interval)}]"


def _speedup(result: dict, cell: dict, main: dict) -> str:
    found = speedup_of(cell, main["name"])
    if found is None:
        return UNKNOWN
    interval = found["ci95"] or []
    bounds = f" [{', '.join(f'{bound:.3f}' for bound in interval)}]" if interval else ""
    baseline = named(result["cells"], cell["speedup"]["baseline"])
    name = variant(baseline) if baseline else cell["speedup"]["baseline"]
    return f"{found['ratio']:.3f}{bounds} {found['verdict']} than {name}".replace(
        "same than", "same as"
    )


def _environment_line(result: dict) -> str:
    environment = result["environment"]
    names = ("torch", "thunder", "nvfuser", "transformer_engine", "triton", "driver", "cuda")
    versions = ", ".join(f"{name} {environment[name]}" for name in names if environment[name])
    gpu = environment["gpu"]
    where = f"{gpu['count']} x {gpu['name']}" if gpu else "CPU"
    precision, basis = result["config"]["precision"], ", ".join(bases(result["cells"]))
    return f"{result['created'][:10]}, {where}, {precision}; limit: {basis}; {versions}."


def cold_starts(folder: str) -> str:
    """Start-up of the first cell of each file, in seconds."""
    stages = ("build_s", "setup_s", "compile_prefill_s", "compile_decode_s", "first_token_s")
    rows = []
    for path in sorted((PUBLISHED / folder).glob("*.json")):
        result = read_result(path)
        cold_start = result["cells"][0]["cold_start"]
        times = [*(cold_start[stage] for stage in stages), result["config"]["ready_s"]]
        rows.append([path.stem.replace("_", " "), *(f"{time:.2f}" for time in times)])
    headers = ["session", "build", "setup", "prefill", "decode", "token 1", "to the first run"]
    return markdown(headers, rows)


RESULT_FOLDERS = (
    "three_sessions",
    "as_shipped",
    "attention_as_shipped",
    "before_the_rebuild",
    "batch_sizes",
    "session",
    "main_job",
    "limits",
    "models",
    "extrapolation",
    "same_twice",
    "compile_scope",
    "training_options",
    "two_gpus",
    "four_gpus",
)
# Of the output check, not results of the benchmark; by device.
AUDITS = (("cpu",), ("h200_faults", "h200_valid"))


def audits() -> list[Audit]:
    folder = PUBLISHED / "audit"
    return [Audit.read(*(folder / f"{name}.json" for name in names)) for names in AUDITS]


FILES = {
    ROOT / "README.md": {
        "measured": lambda: published(*HEADLINES),
        "summary": summary,
        "scenarios": scenarios,
        "models": models,
        "modes": modes,
        "weight formats": weight_formats,
        "formats_measured": formats_measured,
        "executors": executors,
        "parts": lambda: parts_section(_results("parts"), _environment_line),
        "whole_step": lambda: published("whole_step"),
        "foreign_engines": foreign_engines,
        "engines_measured": engines_measured,
        "example_worker_engine": lambda: package_file("engines/llama_cpp.py"),
        "extrapolation_check": extrapolation_check,
        "forward": lambda: published("forward"),
        "training": lambda: published("training"),
        "training_costs": lambda: training_costs(_results("training")),
        "own_model": lambda: gains(_results("own_model")),
        "example_engine": lambda: example("engine_aot_eager"),
        "example_workload": lambda: example("workload_prefill"),
        "example_model_family": lambda: example("model_family"),
        "example_weight_format": lambda: example("weight_format_int8"),
    },
    ROOT / "results" / "README.md": {
        folder: lambda folder=folder: published(folder) for folder in RESULT_FOLDERS
    }
    | {
        "extrapolation_check": extrapolation_check,
        "own_model": lambda: f"{published('own_model')}\n\n{gains(_results('own_model'))}",
        "training_errors": lambda: training_errors(
            _results("training") + _results("training_options")
        ),
        "between_sessions": lambda: between_sessions("three_sessions"),
        "cold_start": lambda: cold_starts("cold_start"),
        "audit_summary": lambda: audit_summary(audits()),
        "audit_faults": lambda: audit_faults(audits()),
        "audit_limits": lambda: audit_limits(audits()),
        "audit_cannot_see": lambda: audit_cannot_see(audits()),
    },
}

if __name__ == "__main__":
    main()
