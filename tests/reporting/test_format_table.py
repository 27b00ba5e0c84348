"""Weight formats side by side."""

from inference_benchmark.reporting.format_table import measured_formats
from inference_benchmark.reporting.readme import files
from inference_benchmark.reporting.readme.measured import formats_measured
from inference_benchmark.reporting.units import NOTHING_PUBLISHED


def cell(weights: str, tbot_ms: float, batch_size: int = 1, accuracy: dict | None = None) -> dict:
    metrics = {"ttft_s": 0.02, "tbot_s": tbot_ms / 1e3}
    return {
        "name": {"kernels": True},
        "mode": "inductor",
        "batch_size": batch_size,
        "num_layers": 32,
        "options": {"cuda_graphs": True},
        "weights": {"format": weights},
        "accuracy": accuracy,
        "status": "ok",
        "output_check": {"passed": True},
        "estimated": False,
        "validity": {"verdict": "suspect", "reasons": []},
        "extrapolation": None,
        "limit": {"basis": "datasheet", "metrics": {"ttft_s": 0.01, "tbot_s": 0.001}},
        "samples": {"round": [*range(10)]},
        "summary": {
            "n": 10,
            "metrics": {
                name: {"median": median, "median_ci95": None} for name, median in metrics.items()
            },
        },
    }


def test_each_format_stands_beside_the_weights_as_they_are():
    accuracy = {"kl_mean": 0.0123, "top1_agreement": 0.875}
    cells = [cell("bf16", 4.0), cell("int4", 1.8, accuracy=accuracy), cell("int4", 9.0, 32)]
    metrics = [
        {"name": "ttft_s", "title": "TTFT", "unit": "s", "better": "lower", "headline": True},
        {"name": "tbot_s", "title": "TBOT", "unit": "s", "better": "lower", "headline": True},
    ]
    config = {
        "model_name": "llama3.1-8b",
        "num_layers": 32,
        "full_num_layers": 32,
        "input_length": 1000,
        "output_length": 200,
    }
    result = {
        "config": config,
        "environment": {"gpu": {"count": 1}},
        "workload": {"name": "generation", "metrics": metrics, "rates": []},
        "cells": cells,
    }
    lines = measured_formats([result]).splitlines()
    rows = [[text.strip() for text in line.strip("|").split("|")] for line in lines[2:]]
    assert rows[0][3:5] == ["inductor+kernels", "1"]
    assert [row[5] for row in rows] == ["bf16", "int4", "int4"]
    assert [row[8] for row in rows] == ["1.00", "0.45", "-"]  # no bf16 at batch 32
    assert rows[1][10:] == ["0.012", "87.5%", "10", "suspect"]
    assert rows[0][10:12] == ["-", "-"]


def test_without_published_files_nothing_is_claimed(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PUBLISHED", tmp_path)
    assert formats_measured() == NOTHING_PUBLISHED
