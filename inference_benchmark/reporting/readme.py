"""Fills the tables of README.md and results/README.md from presets and published result files.

`python -m inference_benchmark.reporting.readme` rewrites both between their markers; a test holds them against what
this would write, so that they can't disagree.
"""

import json
import re
from pathlib import Path

from inference_benchmark.engines import MODES
from inference_benchmark.engines.spec import EXECUTORS
from inference_benchmark.models import MODELS, Precision
from inference_benchmark.reporting.labels import model_label, num_layers, variant, variant_of
from inference_benchmark.reporting.tables import summary_table
from inference_benchmark.reporting.units import (
    UNKNOWN,
    count,
    gigabytes,
    milliseconds,
    percent,
    rate,
)
from inference_benchmark.scenarios import SCENARIOS

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "results" / "published"
HEADLINES = ("session", "models", "four_gpus")  # what the README itself shows


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


def markdown(headers: list[str], rows: list[list[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


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


def modes() -> str:
    rows = [
        [entry.name, "on" if entry.graphs_by_default else "off", entry.description]
        for entry in MODES.values()
    ]
    return markdown(["mode", "CUDA graphs by default", "what it is"], rows)


def executors() -> str:
    rows = [
        [each.name, each.thunder_name or "thunderfx", each.install or "comes with thunder"]
        for each in EXECUTORS.values()
    ]
    return markdown(["name here", "in thunder", "install"], rows)


def published(*folders: str) -> str:
    """A row per cell of the files in these folders of results/published, with what they ran on."""
    results = [result for folder in folders for result in _results(folder)]
    if not results:
        return "No published measurements yet."
    rows = [_measured_row(result, cell) for result in results for cell in result["cells"]]
    headers = ["model", "GPUs", "scenario", "mode", "batch", "TTFT ms", "TBOT ms", "of the limit"]
    headers += ["tok/s", "speed-up of TBOT [95 %]", "n", "verdict"]
    environments = dict.fromkeys(_environment_line(result) for result in results)
    return markdown(headers, rows) + "\n\n" + "\n".join(environments)


def _results(folder: str) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((PUBLISHED / folder).glob("*.json"))]


def _measured_row(result: dict, cell: dict) -> list[str]:
    config, summary = result["config"], cell["summary"]
    scenario = config["scenario"] or f"{config['input_length']} -> {config['output_length']}"
    mode = variant(cell)
    mode += ", model scope" if config["compile_scope"] == "model" else ""
    gpu = result["environment"]["gpu"]
    gpus = str(gpu["count"]) if gpu else UNKNOWN
    head = [model_label(config, cell), gpus, scenario, mode, str(cell["batch_size"])]
    n, verdict = str(summary["ttft_s"]["n"]), cell["validity"]["verdict"]
    if cell["status"] != "ok":
        return [*head, cell["status"].replace("_", " "), *[UNKNOWN] * 4, n, verdict]
    return [
        *head,
        _with_interval(summary["ttft_s"]),
        _with_interval(summary["tbot_s"]),
        _of_limit(cell),
        rate(summary["output_tokens_per_s"]),
        _speedup(cell),
        n,
        verdict,
    ]


def extrapolation_check() -> str:
    """Estimates from two depths beside measurements of the whole model in the same modes."""
    estimates, measured = (
        {
            (result["config"]["model_name"], variant(cell), cell["batch_size"]): cell
            for result in _results(folder)
            for cell in result["cells"]
            if num_layers(result["config"], cell) == result["config"]["full_num_layers"]
        }
        for folder in ("extrapolation", "session")
    )
    rows = [
        [*key[:2], name, *_estimate_and_truth(cell, measured[key], metric)]
        for key, cell in estimates.items()
        for name, metric in (("TTFT", "ttft_s"), ("TBOT", "tbot_s"))
    ]
    headers = ["model", "mode", "ms", "estimated", "measured", "estimate / measured"]
    return markdown(headers, rows)


def _estimate_and_truth(estimate: dict, measured: dict, metric: str) -> list[str]:
    found, truth = estimate["summary"][metric], measured["summary"][metric]
    return [
        _with_interval(found),
        _with_interval(truth),
        f"{found['median'] / truth['median']:.3f}",
    ]


def summary() -> str:
    """What a session prints first, as it prints it."""
    (result,) = _results("session")
    return f"```text\n{summary_table(result)}\n```"


def _with_interval(values: dict) -> str:
    interval = values["median_ci95"]
    if interval is None:
        return milliseconds(values["median"])
    low, high = map(milliseconds, interval)
    return f"{milliseconds(values['median'])} [{low}, {high}]"


def _of_limit(cell: dict) -> str:
    limit = cell["limit"]
    if limit is None or limit["tbot_s"] is None:
        return UNKNOWN
    return percent(limit["tbot_s"] / cell["summary"]["tbot_s"]["median"])


def _speedup(cell: dict) -> str:
    found = (cell["speedup"] or {}).get("tbot")
    if found is None:
        return UNKNOWN
    interval = found["ci95"] or []
    bounds = f" [{', '.join(f'{bound:.3f}' for bound in interval)}]" if interval else ""
    baseline = variant_of(cell["speedup"]["baseline"], cell["batch_size"])
    return f"{found['ratio']:.3f}{bounds} {found['verdict']} than {baseline}".replace(
        "same than", "same as"
    )


def _environment_line(result: dict) -> str:
    environment = result["environment"]
    names = ("torch", "thunder", "nvfuser", "transformer_engine", "triton", "driver", "cuda")
    versions = ", ".join(f"{name} {environment[name]}" for name in names if environment[name])
    gpu = environment["gpu"]
    where = f"{gpu['count']} x {gpu['name']}" if gpu else "CPU"
    precision, basis = result["config"]["precision"], _basis(result)
    return f"{result['created'][:10]}, {where}, {precision}; limit: {basis}; {versions}."


def _basis(result: dict) -> str:
    return ", ".join(sorted({cell["limit"]["basis"] for cell in result["cells"] if cell["limit"]}))


RESULT_FOLDERS = (
    "session",
    "main_job",
    "limits",
    "models",
    "extrapolation",
    "same_twice",
    "compile_scope",
    "two_gpus",
    "four_gpus",
)
FILES = {
    ROOT / "README.md": {
        "measured": lambda: published(*HEADLINES),
        "summary": summary,
        "scenarios": scenarios,
        "models": models,
        "modes": modes,
        "executors": executors,
        "extrapolation_check": extrapolation_check,
        "example_model_family": lambda: example("model_family"),
        "example_weight_format": lambda: example("weight_format_int8"),
    },
    ROOT / "results" / "README.md": {
        folder: lambda folder=folder: published(folder) for folder in RESULT_FOLDERS
    }
    | {"extrapolation_check": extrapolation_check},
}

if __name__ == "__main__":
    main()
