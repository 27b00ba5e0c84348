"""From what a session saw to the result object of version 2. No torch.

Everything that judges is in this folder: summaries, speed-ups, payback, validity, estimates. What
writes and renders the result judges nothing.
"""

from collections.abc import Mapping, Sequence

from inference_benchmark.analysis.cells import cell_result
from inference_benchmark.analysis.cold_start import payback_tokens
from inference_benchmark.analysis.estimates import estimated_cells, is_source
from inference_benchmark.analysis.evidence import evidence_of
from inference_benchmark.analysis.facts import SessionFacts
from inference_benchmark.analysis.speedups import speedups
from inference_benchmark.analysis.summaries import summarize_cell
from inference_benchmark.analysis.validity import judge, judge_estimate
from inference_benchmark.hardware import PRICE_COLUMNS, PRICE_DATE, PRICE_SOURCE
from inference_benchmark.options.identity import identity_config
from inference_benchmark.options.request import Request
from inference_benchmark.session.record import MeasuredCell

SCHEMA_VERSION = 2


def make_result(facts: SessionFacts, cells: Sequence[MeasuredCell]) -> dict:
    """Everything that is known of these cells, judged. Estimates stand before their sources."""
    request = facts.request
    estimates = []
    if request.extrapolation is not None:
        estimates = estimated_cells(cells, request.extrapolation, request.model)
    everything = [*estimates, *cells]
    results = [cell_result(cell, facts) for cell in everything]
    ratios = speedups(everything, request.baseline)
    for cell, result, speedup in zip(everything, results, ratios, strict=True):
        _add_samples(cell, result, facts)
        result["speedup"] = speedup
    measured = results[len(estimates) :]
    for cell, result in zip(cells, measured, strict=True):
        if result["cold_start"] is not None:
            result["cold_start"]["payback_tokens"] = payback_tokens(cell, cells)
        alike = [
            other_result
            for other, other_result in zip(cells, measured, strict=True)
            if other is not cell and other.plan.like(cell.plan)
        ]
        others = [other.plan for other in cells if other is not cell]
        takes_turns = any(map(cell.plan.takes_turns_with, others))
        result["validity"] = judge(evidence_of(cell, result, alike, facts, takes_turns))
    for cell, result in zip(estimates, results[: len(estimates)], strict=True):
        sources = [
            other["validity"]
            for source, other in zip(cells, measured, strict=True)
            if is_source(source, cell)
        ]
        result["validity"] = judge_estimate(evidence_of(cell, result, [], facts), sources)
    return {**header(facts), "cells": results, "warnings": facts.warnings}


def running_result(
    facts: SessionFacts, cells: Sequence[MeasuredCell], settled: Mapping[str, dict]
) -> dict:
    """What is known while a session runs, in milliseconds: cells that still run are raw.

    settled: by label, cells of groups that are done, as make_result had them.
    """
    results = [settled.get(cell.label) or _raw_result(cell, facts) for cell in cells]
    return {**header(facts), "cells": results, "warnings": facts.warnings}


def _raw_result(cell: MeasuredCell, facts: SessionFacts) -> dict:
    is_wrong = cell.record.status == "wrong_output"
    field_name = "wrong_output_samples" if is_wrong else "samples"
    return cell_result(cell, facts, with_state=False) | {field_name: cell.samples()}


def _add_samples(cell: MeasuredCell, result: dict, facts: SessionFacts) -> None:
    """The raw samples, under a name that says so where they are of wrong outputs, and a summary
    where they are not."""
    samples = cell.samples()
    if cell.record.status == "wrong_output":
        result["wrong_output_samples"] = samples
        return
    result["samples"] = samples
    result["summary"] = summarize_cell(cell, samples, facts)


def header(facts: SessionFacts) -> dict:
    """All of a result but its cells and warnings."""
    return {
        "schema_version": SCHEMA_VERSION,
        "state": "running",
        "created": facts.created,
        "ended": None,
        "command": facts.command,
        "session_set": facts.session_set,
        "environment": facts.environment,
        "config": _config(facts),
        "model": _model(facts.request),
        "workload": facts.workload.record(),
    }


def _config(facts: SessionFacts) -> dict:
    config = identity_config(facts.request)
    # A forward generates nothing.
    config["output_length"] = config["output_length"] or None
    if facts.cache_state is not None:
        config["cache_state"] = facts.cache_state
    return config | {"ready_s": facts.ready_s, "price_source": _price_source(facts)}


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
