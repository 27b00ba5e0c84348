"""Result objects without a benchmark: valid by the schema, with samples from a fixed seed."""

import json
from pathlib import Path

import numpy as np

from inference_benchmark.statistics.summaries import step_percentiles, summarize

INPUT_LENGTH, OUTPUT_LENGTH = 8, 5

CONFIG = {
    "model_name": "llama3.1-8b",
    "num_layers": 32,
    "full_num_layers": 32,
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
        "power_limit_w": 700.0,
    },
    "nodes": 1,
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
    "preloaded": None,
    "git_commit": "0" * 40,
    "git_dirty": False,
}

MODEL = {
    "parameters": 8_030_261_248,
    "active_parameters": 8_030_261_248,
    "weight_bytes": 16_060_522_496,
    "kv_bytes_per_token": 131_072,
}


def fake_result(cells: list[dict], environment: dict | None = None, **config) -> dict:
    """A session of these cells; environment and config override single fields."""
    return {
        "schema_version": 1,
        "created": "2026-01-02T03:04:05Z",
        "command": ["benchmark_inference.py"],
        "environment": ENVIRONMENT | (environment or {}),
        "config": CONFIG | config,
        "model": dict(MODEL),
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
    generator = np.random.default_rng(seed)
    factors = np.exp(noise * generator.normal(size=(runs, OUTPUT_LENGTH)))
    factors *= 1 + drift * np.linspace(0, 1, runs)[:, None]
    steps = tbot_s * factors[:, 1:]  # [run, decode step]
    ttft = [float(x) for x in ttft_s * factors[:, 0]]
    decode = [float(x) for x in steps.sum(axis=1)]
    cell = {
        "label": f"{variant} b{batch_size}",
        "mode": variant.partition(":")[0].partition("+")[0],
        "batch_size": batch_size,
        "options": {"cuda_graphs": "+graphs" in variant, "precision": None},
        "timer": "cuda_event",
        "estimated": False,
        "prefill_flops": 1.2e11,
        "decode_bytes_per_step": 1.5e10,
        "limit": {"ttft_s": 0.01, "tbot_s": 0.0036, "basis": "datasheet"},
        "samples": {
            "round": list(range(runs)),
            "started": [f"2026-01-02T03:05:{number % 60:02d}+00:00" for number in range(runs)],
            "ttft_s": ttft,
            "decode_s": decode,
            "step_s": steps.tolist(),
        },
        "summary": _summary(ttft, decode, steps.tolist(), batch_size),
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
        "agreement": {"passed": True},
        "stop_reason": "fixed",
        "validity": {"verdict": "valid", "reasons": []},
        "status": "ok",
        "error": None,
    }
    return cell | fields


def _summary(ttft: list[float], decode: list[float], steps: list, batch_size: int) -> dict:
    total = [first + rest for first, rest in zip(ttft, decode, strict=True)]
    middle = float(np.median(total)) if total else None
    rate = None if middle is None else batch_size * OUTPUT_LENGTH / middle
    cost = {"min": 1.0, "median": 2.0, "max": 4.0}
    return {
        "ttft_s": summarize(ttft),
        "tbot_s": summarize([time / (OUTPUT_LENGTH - 1) for time in decode]),
        "total_s": summarize(total),
        "step_s": step_percentiles(steps),
        "overall_tokens_per_s": rate,
        "output_tokens_per_s": rate,
        "prefill_tokens_per_s": None,
        "decode_tokens_per_s": None,
        "output_tokens_per_s_std": None,
        "per_gpu_tokens_per_s": rate,
        "per_user_tokens_per_s": None,
        "s_per_token": None,
        "mfu": 0.4,
        "mbu": 0.6,
        "energy_per_token_j": None,
        "cost_per_million_tokens": {"output": cost, "total": cost},
    }


def save(path: Path, *cells: dict, environment: dict | None = None, **config) -> str:
    """Write a session of these cells and return its path as a string."""
    path.write_text(json.dumps(fake_result(list(cells), environment, **config)))
    return str(path)
