"""Which table stands in which README under which marker."""

from inference_benchmark.reporting.audit_tables import (
    Audit,
    audit_cannot_see,
    audit_faults,
    audit_limits,
    audit_summary,
)
from inference_benchmark.reporting.kinds_table import decode_by_kind, time_by_kind
from inference_benchmark.reporting.readme.files import (
    PUBLISHED,
    ROOT,
    example,
    package_file,
    results_in,
)
from inference_benchmark.reporting.readme.measured import (
    engines_bare,
    engines_measured,
    environment_line,
    formats_measured,
    peer_formats,
    peers,
    published,
)
from inference_benchmark.reporting.readme.parts import parts_section
from inference_benchmark.reporting.readme.presets import (
    executors,
    foreign_engines,
    models,
    modes,
    scenarios,
    weight_formats,
)
from inference_benchmark.reporting.readme.sessions import (
    all_reduces,
    attention_ahead,
    between_sessions,
    cold_starts,
    extrapolation_check,
    few_rows,
    few_rows_cuts,
    one_row_ways,
    packed_rows,
    persistent_layers,
    power,
    summary,
)
from inference_benchmark.reporting.workload_tables import (
    gains,
    training_costs,
    training_errors,
    whole_steps,
)

HEADLINES = ("as_shipped", "models", "four_gpus")  # what the README itself shows
RESULT_FOLDERS = (
    "three_sessions",
    "as_shipped",
    "as_shipped_earlier",
    "attention_as_shipped",
    "before_the_rebuild",
    "first_token_before",
    "first_token_after",
    "captured_prompts",
    "batch_sizes",
    "depth",
    "session",
    "main_job",
    "limits",
    "models",
    "extrapolation",
    "same_twice",
    "compile_scope",
    "training_options",
    "engines",
    "two_gpus",
    "four_gpus",
)
# Of the output check, not results of the benchmark; by device.
AUDITS = (("cpu",), ("h200_faults", "h200_valid"))


def audits() -> list[Audit]:
    folder = PUBLISHED / "audit"
    return [Audit.read(*(folder / f"{name}.json" for name in names)) for names in AUDITS]


def larger_batches(folder: str) -> list[dict]:
    """The files of a folder without batch 1."""
    results = results_in(folder)
    return [r for r in results if all(cell["batch_size"] > 1 for cell in r["cells"])]


FILES = {
    ROOT / "README.md": {
        "measured": lambda: published(*HEADLINES),
        "peers": lambda: peers((*HEADLINES, "engines")),
        "summary": summary,
        "scenarios": scenarios,
        "models": models,
        "modes": modes,
        "weight formats": weight_formats,
        "formats_measured": formats_measured,
        "formats_of_others": peer_formats,
        "executors": executors,
        "parts": lambda: parts_section(results_in("parts"), environment_line),
        "whole_step": lambda: (
            f"{published('whole_step')}\n\n{whole_steps(results_in('whole_step'))}"
        ),
        "foreign_engines": foreign_engines,
        "engines_measured": engines_measured,
        "engines_bare": engines_bare,
        "example_worker_engine": lambda: package_file("engines/tinygrad.py"),
        "extrapolation_check": extrapolation_check,
        "forward": lambda: published("forward"),
        "training": lambda: published("training"),
        "forward_kinds": lambda: time_by_kind(results_in("forward")),
        "training_kinds": lambda: time_by_kind(results_in("training")),
        "training_costs": lambda: training_costs(results_in("training")),
        "own_model": lambda: gains(results_in("own_model")),
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
        "own_model": lambda: f"{published('own_model')}\n\n{gains(results_in('own_model'))}",
        "training_errors": lambda: training_errors(
            results_in("training") + results_in("training_options")
        ),
        "between_sessions": lambda: between_sessions("three_sessions"),
        "cold_start": lambda: cold_starts("cold_start"),
        "power": lambda: power("power_limit"),
        "power_of_modes": lambda: power("as_shipped"),
        "attention_ahead": attention_ahead,
        "one_row_ways": one_row_ways,
        "persistent_layers": persistent_layers,
        "packed_rows": packed_rows,
        "few_rows": few_rows,
        "few_rows_cuts": few_rows_cuts,
        "decode_kinds": lambda: decode_by_kind(
            [*results_in("as_shipped"), *results_in("models"), *larger_batches("engines")]
        ),
        "all_reduces": all_reduces,
        "audit_summary": lambda: audit_summary(audits()),
        "audit_faults": lambda: audit_faults(audits()),
        "audit_limits": lambda: audit_limits(audits()),
        "audit_cannot_see": lambda: audit_cannot_see(audits()),
    },
}
