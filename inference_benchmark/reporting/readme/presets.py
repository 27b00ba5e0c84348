"""Tables of what can be asked for: scenarios, models, weight formats, modes, executors."""

from inference_benchmark.engines import ENGINES, listed
from inference_benchmark.engines.spec import EXECUTORS
from inference_benchmark.model.config import Precision
from inference_benchmark.model.weight_format import QUANTIZED
from inference_benchmark.models import MODELS
from inference_benchmark.reporting.formats import markdown
from inference_benchmark.reporting.units import UNKNOWN, count, gigabytes
from inference_benchmark.scenarios import SCENARIOS


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


def executors() -> str:
    rows = [
        [
            executor.name,
            executor.thunder_name or "thunderfx",
            executor.install or "comes with thunder",
        ]
        for executor in EXECUTORS.values()
    ]
    return markdown(["name here", "in thunder", "install"], rows)
