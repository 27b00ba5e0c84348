"""From what a session saw to the result object of version 2, whole or as far as it got. No torch.

Everything that judges is in this folder: summaries, speed-ups, payback, validity, estimates. What
writes and renders the result judges nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from inference_benchmark.analysis.cells import cell_result, samples_of
from inference_benchmark.analysis.cold_start import payback_tokens
from inference_benchmark.analysis.estimates import estimated_cells, is_source
from inference_benchmark.analysis.evidence import evidence_of
from inference_benchmark.analysis.speedups import speedups
from inference_benchmark.analysis.summaries import summarize_cell
from inference_benchmark.analysis.validity import judge, judge_estimate
from inference_benchmark.hardware import PRICE_COLUMNS, PRICE_DATE, PRICE_SOURCE, Ceilings
from inference_benchmark.options.request import Request
from inference_benchmark.session.record import MeasuredCell
from inference_benchmark.workloads.base import Workload

SCHEMA_VERSION = 2


@dataclass
class SessionFacts:
    """What a result says of its session as a whole.

    Args:
        environment: system.environment.describe().
        ceilings: by precision name, what limits refer to.
        prices: $ per GPU-hour as {"min", "median", "max"}, or None.
        command: the command line, for the record.
    """

    request: Request
    workload: Workload
    environment: dict
    ceilings: dict[str, Ceilings | None]
    prices: dict | None
    command: list[str]
    created: str = field(default_factory=lambda: utc_now())
    ended: str | None = None
    state: str = "running"
    session_set: dict | None = None
    ready_s: float | None = None  # from the command to the first warm-up run
    warnings: list[str] = field(default_factory=list)

    def end(self, state: str) -> None:
        self.state, self.ended = state, utc_now()


def utc_now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def make_result(facts: SessionFacts, cells: Sequence[MeasuredCell]) -> dict:
    """Everything that is known of these cells, judged. Estimates stand before their sources."""
    request = facts.request
    estimates = []
    if request.extrapolation is not None:
        estimates = estimated_cells(cells, request.extrapolation, request.model)
    everything = [*estimates, *cells]
    results = [cell_result(cell, facts) for cell in everything]
    found = speedups(everything, request.baseline)
    for cell, result, speedup in zip(everything, results, found, strict=True):
        _add_samples(cell, result, facts)
        result["speedup"] = speedup
    measured = results[len(estimates) :]
    for cell, result in zip(cells, measured, strict=True):
        if result["cold_start"] is not None:
            result["cold_start"]["payback_tokens"] = payback_tokens(cell, cells)
        result["validity"] = judge(evidence_of(cell, result, measured, request))
    for cell, result in zip(estimates, results[: len(estimates)], strict=True):
        sources = [
            other["validity"]
            for source, other in zip(cells, measured, strict=True)
            if is_source(source, cell)
        ]
        result["validity"] = judge_estimate(evidence_of(cell, result, [], request), sources)
    return {**header(facts), "cells": results, "warnings": facts.warnings}


def _add_samples(cell: MeasuredCell, result: dict, facts: SessionFacts) -> None:
    """The raw samples, under a name that says so where they are of wrong outputs, and a summary
    where they are not."""
    samples = samples_of(cell)
    if cell.record.status == "wrong_output":
        result["wrong_output_samples"] = samples
        return
    result["samples"] = samples
    result["summary"] = summarize_cell(cell, samples, facts)


def header(facts: SessionFacts) -> dict:
    """All of a result but its cells and warnings."""
    return {
        "schema_version": SCHEMA_VERSION,
        "state": facts.state,
        "created": facts.created,
        "ended": facts.ended,
        "command": facts.command,
        "session_set": facts.session_set,
        "environment": facts.environment,
        "config": _config(facts),
        "model": _model(facts.request),
        "workload": facts.workload.record(),
    }


def _config(facts: SessionFacts) -> dict:
    request, extrapolation = facts.request, facts.request.extrapolation
    return {
        "workload": request.workload,
        "model_name": request.model.name,
        "model_path": request.model_path and str(request.model_path),
        "num_layers": request.model.num_layers,
        "full_num_layers": request.model.full_num_layers or request.model.num_layers,
        "extrapolated_from": extrapolation and list(extrapolation.from_layers),
        "scenario": request.scenario,
        "input_length": request.input_length,
        "output_length": request.output_length or None,  # nothing is generated
        "precision": request.precision,
        "seed": request.seed,
        "tensor_parallel": request.tensor_parallel,
        "all_reduce": None if request.tensor_parallel == 1 else request.all_reduce,
        "attention": request.attention,
        "linear": request.linear,
        "compile_mode": request.compile_mode,
        "compile_scope": request.compile_scope,
        "num_iterations": request.num_iterations,
        "warmup_iterations": request.warmup_iterations,
        "target_ci": request.target_ci,
        "max_seconds": request.max_seconds,
        "device": request.device,
        "ready_s": facts.ready_s,
        "price_source": _price_source(facts),
    }


def _price_source(facts: SessionFacts) -> str | None:
    if facts.prices is None:
        return None
    if facts.request.gpu_price is not None:
        return "given"
    return f"{PRICE_SOURCE} of {PRICE_DATE}, {', '.join(PRICE_COLUMNS)}"


def _model(request: Request) -> dict:
    model, precision = request.model, request.precision_of(request.specs[0])
    return {
        "parameters": model.parameters,
        "active_parameters": model.active_parameters,
        "weight_bytes": model.weight_bytes(precision),
        "weight_bytes_per_gpu": request.share.weight_bytes(precision),
        "kv_bytes_per_token": model.kv_bytes_per_token(precision),
        "kv_bytes_per_token_per_gpu": request.share.kv_bytes_per_token(precision),
        "context_length": model.context_length,
        "tied_embeddings": model.tied_embeddings,
    }
