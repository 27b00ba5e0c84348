"""Result objects without a benchmark: valid by the schema, with samples from a fixed seed."""

import json
from pathlib import Path

import numpy as np

from inference_benchmark.reporting.version_1 import GENERATION
from inference_benchmark.statistics.summaries import step_percentiles, summarize

INPUT_LENGTH, OUTPUT_LENGTH = 8, 5

CONFIG = {
    "workload": "generation",
    "model_name": "llama3.1-8b",
    "num_layers": 32,
    "full_num_layers": 32,
    "extrapolated_from": None,
    "scenario": None,
    "input_length": INPUT_LENGTH,
    "output_length": OUTPUT_LENGTH,
    "precision": "bf16",
    "seed": 0,
    "tensor_parallel": 1,
    "attention": "sdpa",
}

ENVIRONMENT = {
    "gpu": {
        "name": "NVIDIA H200",
        "count": 1,
        "memory_bytes": 150_754_820_096,
        "uuid": "GPU-0",
        "power_limit_w": 700.0,
        "default_power_limit_w": 700.0,
        "max_sm_clock_hz": 1.98e9,
    },
    "nodes": 1,
    "ranks": None,
    "driver": "580.1",
    "cuda": "13.0",
    "torch": "2.11.0",
    "thunder": "0.2.6",
    "nvfuser": None,
    "transformers": "5.17",
    "transformer_engine": None,
    "triton": "3.6",
    "python": "3.12.1",
    "platform": "Linux",
    "cpu": "x86_64",
    "preloaded": None,
    "git_commit": "0" * 40,
    "git_dirty": False,
    "benchmark_version": "0.1.0",
}

MODEL = {
    "parameters": 8_030_261_248,
    "active_parameters": 8_030_261_248,
    "weight_bytes": 16_060_522_496,
    "kv_bytes_per_token": 131_072,
}

FORWARD = {
    "name": "forward",
    "metrics": [
        {
            "name": "forward_s",
            "title": "forward",
            "unit": "s",
            "better": "lower",
            "headline": True,
            "watched": True,
        }
    ],
    "rates": [{"name": "tokens_per_s", "title": "tok/s", "over": "forward_s", "headline": True}],
}


def fake_result(cells: list[dict], environment: dict | None = None, **config) -> dict:
    """A session of these cells; environment and config override single fields."""
    return {
        "schema_version": 2,
        "state": "complete",
        "created": "2026-01-02T03:04:05Z",
        "ended": "2026-01-02T03:14:05Z",
        "command": ["benchmark_inference.py"],
        "session_set": None,
        "environment": ENVIRONMENT | (environment or {}),
        "config": CONFIG | config,
        "model": dict(MODEL),
        "workload": FORWARD if config.get("workload") == "forward" else GENERATION,
        "cells": cells,
        "warnings": [],
    }


def fake_gpu(name: str) -> dict:
    """An environment with another GPU."""
    return {"gpu": ENVIRONMENT["gpu"] | {"name": name}}


def fake_cell(
    variant: str = "thunder",
    *,
    batch_size: int = 1,
    ttft_s: float = 0.020,
    tbot_s: float = 0.006,
    noise: float = 0.0005,
    drift: float = 0.0,
    runs: int = 10,
    seed: int = 0,
    **fields,
) -> dict:
    """A cell whose times scatter log-normally by `noise` and rise by `drift` from first to last."""
    factors = _factors(runs, OUTPUT_LENGTH, noise, drift, seed)
    steps = tbot_s * factors[:, 1:]  # [run, decode step]
    ttft, decode = ttft_s * factors[:, 0], steps.sum(axis=1)
    times = {
        "ttft_s": ttft.tolist(),
        "tbot_s": (decode / (OUTPUT_LENGTH - 1)).tolist(),
        "decode_s": decode.tolist(),
        "total_s": (ttft + decode).tolist(),
    }
    rates = {
        "overall_tokens_per_s": batch_size * (INPUT_LENGTH + OUTPUT_LENGTH),
        "output_tokens_per_s": batch_size * OUTPUT_LENGTH,
        "prefill_tokens_per_s": batch_size * INPUT_LENGTH,
        "decode_tokens_per_s": batch_size,
        "per_user_tokens_per_s": 1,
        "per_gpu_tokens_per_s": batch_size * OUTPUT_LENGTH,
    }
    cell = _cell(variant, batch_size, times, {"step_s": steps.tolist()}, GENERATION, rates) | {
        "cost": {"prefill_flops": 1.2e11, "decode_bytes_per_step": 1.5e10},
        "limit": {
            "basis": "datasheet",
            "metrics": {"ttft_s": 0.01, "tbot_s": 0.0036, "total_s": 0.0244},
            "by_kind": {},
        },
        "bound": {"ttft_s": "compute", "tbot_s": "bandwidth"},
    }
    return cell | fields


def fake_forward_cell(
    variant: str = "eager",
    *,
    batch_size: int = 1,
    forward_s: float = 0.040,
    noise: float = 0.0005,
    runs: int = 10,
    seed: int = 0,
    **fields,
) -> dict:
    """A cell of the workload that times one forward over batch x input length."""
    times = {"forward_s": (forward_s * _factors(runs, 1, noise, 0.0, seed)[:, 0]).tolist()}
    rates = {"tokens_per_s": batch_size * INPUT_LENGTH}
    cell = _cell(variant, batch_size, times, {}, FORWARD, rates)
    cell |= {
        "cost": {"forward_flops": 1.2e11},
        "limit": {"basis": "measured", "metrics": {"forward_s": 0.03}, "by_kind": {}},
        "bound": {"forward_s": "compute"},
        "cold_start": {"build_s": 1.5, "compile_forward_s": 2.5},
        "output_check": cell["output_check"] | {"checked": ["logits"]},
    }
    del cell["summary"]["cost_per_million_tokens"]["output"]
    return cell | fields


def _factors(runs: int, columns: int, noise: float, drift: float, seed: int) -> np.ndarray:
    """[run, column], around 1."""
    generator = np.random.default_rng(seed)
    factors = np.exp(noise * generator.normal(size=(runs, columns)))
    return factors * (1 + drift * np.linspace(0, 1, runs)[:, None])


def _cell(
    variant: str, batch_size: int, times: dict, steps: dict, workload: dict, amounts: dict
) -> dict:
    mode = variant.partition(":")[0].partition("+")[0]
    runs = len(next(iter(times.values())))
    return {
        "label": f"{variant} b{batch_size}",
        "name": {
            "mode": mode,
            "variant": variant,
            "kernels": "+kernels" in variant,
            "batch_size": batch_size,
            "depth": None,
        },
        "mode": mode,
        "batch_size": batch_size,
        "num_layers": CONFIG["num_layers"],
        "options": {"cuda_graphs": "+graphs" in variant, "precision": None},
        "timer": "cuda_event",
        "estimated": False,
        "extrapolation": None,
        "group": {"batch_size": batch_size, "interleaved": True},
        "engine": {
            "name": mode,
            "clock": "cuda_event",
            "granularity": "steps",
            "process": "own",
            "weights": "session",
            "evidence": ["cache", "logits", "tokens"],
        },
        "weights": {"format": "bf16", "storage_bits": 16, "group_size": None, "compute": "bf16"},
        "samples": {
            "round": list(range(runs)),
            "started": [f"2026-01-02T03:05:{number % 60:02d}+00:00" for number in range(runs)],
            "metrics": times,
            "steps": steps,
        },
        "wrong_output_samples": None,
        "summary": _summary(times, steps, workload, amounts),
        "speedup": None,
        "cold_start": dict.fromkeys(
            ("build_s", "compile_prefill_s", "compile_decode_s", "capture_s"), 1.5
        ),
        "memory": {
            "weights_bytes": 16_060_522_496,
            "kv_cache_bytes": 268_435_456,
            "current_allocated_bytes": 16_400_000_000,
            "peak_allocated_bytes": 17_000_000_000,
            "peak_reserved_bytes": None,
            "predicted_bytes": 16_900_000_000,
        },
        "gpu_state": None,
        "host": None,
        "profile": None,
        "output_check": {
            "passed": True,
            "checked": ["tokens", "logits", "cache"],
            "tolerance": 0.03,
            "floor": 0.01,
            "failures": [],
            "seconds": 1.5,
        },
        "stop_reason": "fixed",
        "validity": {"verdict": "valid", "reasons": []},
        "status": "ok",
        "error": None,
    }


def _summary(times: dict, steps: dict, workload: dict, amounts: dict) -> dict:
    """Rates are amounts over the median of the metric that the workload names."""
    metrics = {name: summarize(values) for name, values in times.items()}
    over = {rate["name"]: metrics[rate["over"]]["median"] for rate in workload["rates"]}
    cost = {"min": 1.0, "median": 2.0, "max": 4.0}
    return {
        "n": len(next(iter(times.values()))),
        "metrics": metrics,
        "steps": {name: step_percentiles(values) for name, values in steps.items()},
        "rates": {
            name: None if over[name] is None else amount / over[name]
            for name, amount in amounts.items()
        },
        "rate_std": {},
        "s_per_token": None,
        "mfu": 0.4,
        "mbu": 0.6,
        "energy_per_token_j": None,
        "cost_per_million_tokens": {"output": cost, "total": cost},
    }


def with_wrong_output(cell: dict, failure: str = "decode error 0.5 over 0.03") -> dict:
    """The same cell after a failed check: its samples under the other name, no summary."""
    return cell | {
        "status": "wrong_output",
        "samples": None,
        "wrong_output_samples": cell["samples"],
        "summary": None,
        "speedup": None,
        "output_check": cell["output_check"] | {"passed": False, "failures": [failure]},
        "validity": {
            "verdict": "invalid",
            "reasons": [
                {
                    "code": "wrong_output",
                    "severity": "invalid",
                    "message": "The output differs from the reference.",
                    "remedy": "Look at the check's figures.",
                }
            ],
        },
    }


def fake_speedup(baseline: str, **ratios: float) -> dict:
    """fake_speedup("eager b1", tbot_s=1.1): faster or slower, with an interval of +-1 %."""
    metrics = {
        name: {
            "ratio": ratio,
            "ci95": [ratio * 0.99, ratio * 1.01],
            "verdict": "faster" if ratio > 1 else "slower",
            "p_value": 0.001,
            "p_adjusted": 0.002,
        }
        for name, ratio in ratios.items()
    }
    return {
        "baseline": baseline,
        "metrics": metrics,
        "plain_eager": None,
        "eager_kernels": None,
    }


def save(path: Path, *cells: dict, environment: dict | None = None, **config) -> str:
    """Write a session of these cells and return its path as a string."""
    path.write_text(json.dumps(fake_result(list(cells), environment, **config)))
    return str(path)
