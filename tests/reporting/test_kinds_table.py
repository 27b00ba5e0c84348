"""Where the time of a step goes, in a README's table."""

from inference_benchmark.reporting.kinds_table import time_by_kind
from inference_benchmark.reporting.units import NOTHING_PUBLISHED


def cell(variant: str, median_s: float, by_kind: dict, passed: bool = True) -> dict:
    return {
        "label": f"{variant} b1",
        "name": {"mode": variant, "variant": variant, "batch_size": 1},
        "status": "ok",
        "num_layers": 2,
        "estimated": False,
        "output_check": {"passed": passed},
        "summary": {"n": 10, "metrics": {"forward_s": {"median": median_s}}},
        "profile": {
            "forward": {
                "kernel_s": sum(by_kind.values()),
                "kernels": 12.0,
                "by_kind": by_kind,
                "metric": "forward_s",
                "limit_by_kind": {"matmul": 0.004, "attention": None},
            }
        },
    }


def table(*cells: dict) -> list[list[str]]:
    config = {"model_name": "m", "num_layers": 2, "full_num_layers": 2}
    lines = time_by_kind([{"config": config, "cells": list(cells)}]).splitlines()
    return [[entry.strip() for entry in line.strip("|").split("|")] for line in lines]


def test_kinds_shares_limits_and_what_no_kernel_takes():
    headers, _, first, second = table(
        cell("eager", 0.010, {"attention": 0.001, "matmul": 0.006}),
        cell("inductor", 0.006, {"matmul": 0.0061}),
    )
    assert headers == ["model", "mode", "matmul ms", "attention ms", "idle ms", "kernels"]
    assert first == ["m", "eager", "6.000, 60% [4.000]", "1.000, 10%", "3.000", "12"]
    assert second == ["m", "inductor", "6.100, 102% [4.000]", "-", "0", "12"]


def test_a_wrong_output_has_no_times():
    assert table(cell("eager", 0.01, {"matmul": 0.006}, passed=False)) == [[NOTHING_PUBLISHED]]
