"""Result files of version 1, as version 2 has them: a pure function from dict to dict.

Version 1 knew one workload, generation, and named its metrics ttft_s, decode_s and step_s; TBOT and
total time were derived by each reader. Nothing is lost and no number is computed anew but those two
per run, and the intervals of estimates, which did not hold the error of the estimate itself. What
version 1 did not say is null.
"""

from typing import Any

GENERATION = {
    "name": "generation",
    "metrics": [
        {
            "name": name,
            "title": title,
            "unit": "s",
            "better": "lower",
            "headline": is_headline,
            "watched": is_headline,
        }
        for name, title, is_headline in (
            ("ttft_s", "TTFT", True),
            ("tbot_s", "TBOT", True),
            ("decode_s", "decode", False),
            ("total_s", "total", False),
        )
    ],
    "rates": [
        {"name": name, "title": title, "over": over, "headline": title == "tok/s"}
        for name, title, over in (
            ("overall_tokens_per_s", "overall tok/s", "total_s"),
            ("output_tokens_per_s", "tok/s", "total_s"),
            ("prefill_tokens_per_s", "prefill tok/s", "ttft_s"),
            ("decode_tokens_per_s", "decode tok/s", "tbot_s"),
            ("per_user_tokens_per_s", "tok/s/user", "tbot_s"),
            ("per_gpu_tokens_per_s", "tok/s/GPU", "total_s"),
        )
    ],
}

_METRICS = tuple(metric["name"] for metric in GENERATION["metrics"])
_RATES = tuple(rate["name"] for rate in GENERATION["rates"])
_CHECKED = ["logits", "cache"]
_STORAGE_BITS = {"fp32": 32, "fp16": 16, "bf16": 16, "fp8": 8}
_ALWAYS_INVALID = ("wrong_output",)
_SMOKE = "cpu_smoke"  # now a label of the session instead of a reason to distrust it
_NEW_IN_ENVIRONMENT = ("ranks", "cpu", "preloaded", "benchmark_version")
_NEW_OF_A_GPU = ("uuid", "power_limit_w", "default_power_limit_w", "max_sm_clock_hz")
_SAME_IN_BOTH = (
    "label",
    "mode",
    "batch_size",
    "options",
    "timer",
    "estimated",
    "cold_start",
    "memory",
    "gpu_state",
    "stop_reason",
    "status",
    "error",
)


def from_version_1(document: dict) -> dict:
    """The same result as version 2 has it.

    Raises:
        KeyError, TypeError, AttributeError, ValueError: it is not a whole result of version 1.
    """
    cells = document["cells"]
    return {
        "schema_version": 2,
        "state": _state(cells),
        "created": document["created"],
        "ended": None,
        "command": document["command"],
        "session_set": None,
        "environment": _environment(document["environment"], cells),
        "config": _config(document["config"]),
        "model": document["model"],
        "workload": GENERATION,
        "cells": [_cell(document["config"], cell) for cell in cells],
        "warnings": document["warnings"],
    }


def _state(cells: list[dict]) -> str:
    """Version 1 said of each cell how it ended, and of the session only by that."""
    measured = [cell for cell in cells if not cell["estimated"]]
    if any(
        cell["stop_reason"] == "interrupted" or cell["status"] == "partial" for cell in measured
    ):
        return "interrupted"
    sound = [cell for cell in measured if cell["status"] in ("ok", "wrong_output")]
    if not sound:
        return "failed"
    return "complete" if any(cell["stop_reason"] for cell in sound) else "running"


def _environment(environment: dict, cells: list[dict]) -> dict:
    gpu = environment["gpu"]
    if gpu is not None:
        limits = {(cell["gpu_state"] or {}).get("default_power_limit_w") for cell in cells}
        limits -= {None}
        seen = {"default_power_limit_w": limits.pop()} if len(limits) == 1 else {}
        gpu = dict.fromkeys(_NEW_OF_A_GPU) | seen | gpu
    return dict.fromkeys(_NEW_IN_ENVIRONMENT) | environment | {"gpu": gpu}


def _config(config: dict) -> dict:
    defaults = {"full_num_layers": config["num_layers"], "extrapolated_from": None}
    ranks = config["tensor_parallel"]
    known = {"workload": "generation", "tensor_parallel": 1 if ranks is None else ranks}
    return defaults | config | known


def _cell(config: dict, cell: dict) -> dict:
    check = cell["agreement"]
    wrong = cell["status"] == "wrong_output" or (check is not None and not check["passed"])
    samples = _samples(cell["samples"], config["output_length"])
    new = {name: cell[name] for name in _SAME_IN_BOTH} | {
        "name": _name(cell),
        "num_layers": cell.get("num_layers", config["num_layers"]),
        "extrapolation": _extrapolation(cell.get("extrapolation")),
        "group": {"batch_size": cell["batch_size"], "interleaved": True},
        "engine": {
            "name": cell["mode"],
            "clock": cell["timer"],
            "granularity": "steps",
            "process": "own",
            "weights": "session",
            "evidence": ["cache", "logits"],
        },
        "weights": _weights(config, cell),
        "cost": {name: cell[name] for name in ("prefill_flops", "decode_bytes_per_step")},
        "limit": _limit(cell["limit"]),
        "bound": _bound(cell.get("bound")),
        "samples": None if wrong else samples,
        "wrong_output_samples": samples if wrong else None,
        "summary": None if wrong else _summary(cell["summary"]),
        "speedup": None if wrong else _speedup(cell["speedup"]),
        "host": cell.get("host"),
        "profile": _profile(cell.get("profile")),
        "output_check": check and _output_check(check),
        "validity": cell["validity"] and _validity(cell["validity"]),
    }
    return _with_error(new) if cell["estimated"] else new


def _with_error(cell: dict) -> dict:
    """An estimate whose intervals hold what such estimates were off by, as they do today."""
    from inference_benchmark.analysis.estimates import errors_by_metric, widened
    from inference_benchmark.analysis.speedups import widened_ratio
    from inference_benchmark.statistics.verdicts import BAND_WITHIN_SESSION
    from inference_benchmark.workloads.generation import Generation

    if cell["extrapolation"] is not None:
        cell["extrapolation"] |= {"error": errors_by_metric(Generation)}
    if cell["summary"] is not None:
        metrics = cell["summary"]["metrics"]
        known = {name: estimate for name, estimate in metrics.items() if estimate}
        metrics |= {name: widened(estimate, Generation, name) for name, estimate in known.items()}
    speedup = cell["speedup"] or {}
    for against in filter(None, (speedup, speedup.get("plain_eager"))):
        for ratio in filter(None, against["metrics"].values()):
            if ratio["ci95"] is not None:
                interval, ratio["verdict"] = widened_ratio(
                    ratio["ci95"],
                    ratio["verdict"],
                    BAND_WITHIN_SESSION,
                    Generation.estimate_error,
                )
                ratio["ci95"] = list(interval)
    return cell


def _profile(profile: dict | None) -> dict | None:
    """Each phase says whose time it explains."""
    metrics = {"prefill": "ttft_s", "decode": "tbot_s"}
    return profile and {
        phase: {**profiled, "metric": metrics[phase]} for phase, profiled in profile.items()
    }


def _name(cell: dict) -> dict:
    """The parts of "thunder+graphs b1 4L". In the oldest files depths read [4 layers], ESTIMATE."""
    variant, _, rest = cell["label"].rpartition(f" b{cell['batch_size']}")
    depth: str | None = rest.strip() or None
    if depth is not None:
        layers = depth.removeprefix("[").removesuffix(" layers]").removesuffix("L")
        depth = f"{layers}L" if layers.isdecimal() else "EST"
    return {
        "mode": cell["mode"],
        "variant": variant or cell["label"],
        "batch_size": cell["batch_size"],
        "depth": depth,
    }


def _weights(config: dict, cell: dict) -> dict:
    """Only linear layers computed in FP8 made a cell's precision differ from the session's."""
    precision = cell["options"].get("precision") or config["precision"]
    bits = _STORAGE_BITS.get(precision)
    return {"format": precision, "storage_bits": bits, "group_size": None, "compute": precision}


def _limit(limit: dict | None) -> dict | None:
    if limit is None:
        return None
    metrics = {name: limit.get(name) for name in ("ttft_s", "tbot_s", "total_s")}
    return {"basis": limit["basis"], "metrics": metrics, "by_kind": limit.get("by_kind", {})}


def _bound(bound: dict | None) -> dict | None:
    return bound and {"ttft_s": bound["prefill"], "tbot_s": bound["decode"]}


def _extrapolation(extrapolation: dict | None) -> dict | None:
    return extrapolation and {"error": None} | extrapolation


def _samples(samples: dict | None, output_length: int) -> dict | None:
    """With one output token there is no decode, so there are no samples of decode_s and tbot_s."""
    if samples is None:
        return None
    ttft_s, decode_s, steps = samples["ttft_s"], samples["decode_s"], output_length - 1
    total_s = [first + rest for first, rest in zip(ttft_s, decode_s, strict=True)]
    return {
        "round": samples["round"],
        "started": samples["started"],
        "metrics": {
            "ttft_s": ttft_s,
            "tbot_s": [time / steps for time in decode_s] if steps else [],
            "decode_s": decode_s if steps else [],
            "total_s": total_s,
        },
        "steps": {"step_s": samples["step_s"]},
    }


def _summary(summary: dict | None) -> dict | None:
    if summary is None:
        return None
    return {
        "n": summary["ttft_s"]["n"],
        "metrics": {name: summary.get(name) for name in _METRICS},
        "steps": {"step_s": summary["step_s"]},
        "rates": {name: summary[name] for name in _RATES},
        "rate_std": {"output_tokens_per_s": summary["output_tokens_per_s_std"]},
        "s_per_token": summary["s_per_token"],
        "mfu": summary["mfu"],
        "mbu": summary["mbu"],
        "energy_per_token_j": summary["energy_per_token_j"],
        "cost_per_million_tokens": summary["cost_per_million_tokens"],
    }


def _speedup(speedup: dict | None) -> dict | None:
    if speedup is None:
        return None
    plain = speedup.get("plain_eager")
    return {
        "baseline": speedup["baseline"],
        "metrics": _ratios(speedup),
        "plain_eager": plain and {"baseline": plain["baseline"], "metrics": _ratios(plain)},
    }


def _ratios(times: dict) -> dict[str, Any]:
    unknown = {"p_value": None, "p_adjusted": None}
    return {
        f"{name}_s": times[name] and unknown | times[name] for name in ("ttft", "tbot", "total")
    }


def _output_check(check: dict) -> dict:
    defaults = {"checked": _CHECKED, "tolerance": None, "floor": None, "failures": []}
    return defaults | {"seconds": None} | check


def _validity(validity: dict) -> dict:
    """The verdict is that of the gravest reason; which one that was, version 1 did not say."""
    verdict = validity["verdict"]
    reasons = [reason for reason in validity["reasons"] if reason["code"] != _SMOKE]
    if verdict == "suspect" and not reasons:
        verdict = "valid"
    return {
        "verdict": verdict,
        "reasons": [_severity(reason, verdict) | reason for reason in reasons],
    }


def _severity(reason: dict, verdict: str) -> dict:
    is_grave = reason["code"] in _ALWAYS_INVALID
    return {"severity": "invalid" if is_grave else "suspect" if verdict == "valid" else verdict}
