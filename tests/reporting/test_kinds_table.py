"""Where the time of a step goes, in a README's table."""

from inference_benchmark.reporting.kinds_table import decode_by_kind, time_by_kind
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
    return entries(result(*cells))


def result(*cells: dict, conditions: tuple[str, ...] = ()) -> dict:
    config = {"model_name": "m", "num_layers": 2, "full_num_layers": 2}
    workload = {"name": "training", "conditions": conditions}
    return {"config": config, "workload": workload, "cells": list(cells)}


def entries(*results: dict) -> list[list[str]]:
    lines = time_by_kind(results).splitlines()
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


def test_rows_of_several_conditions_can_be_told_apart():
    eager = cell("eager", 0.010, {"matmul": 0.006})
    headers, _, *rows = entries(result(eager), result(eager, conditions=("4 lengths",)))
    assert headers[:3] == ["model", "training", "mode"]
    assert [row[:3] for row in rows] == [["m", "", "eager"], ["m", "4 lengths", "eager"]]


def test_decode_steps_are_shares_of_their_kernels_and_older_files_are_left_out():
    timed = cell("inductor", 0.010, {"attention": 0.002, "matmul": 0.006})
    timed |= {"batch_size": 8, "profile": {"decode": timed["profile"]["forward"]}}
    older = {**timed, "profile": {"decode": dict(timed["profile"]["decode"])}}
    timed["profile"]["decode"]["limit_s"] = 0.005
    text = decode_by_kind([result(timed, older, cell("eager", 0.01, {"matmul": 0.006}))])
    headers, _, *rows = [
        [e.strip() for e in line.strip("|").split("|")] for line in text.splitlines()
    ]
    assert headers == ["model", "mode", "batch", "matmul ms", "attention ms", "all ms", "kernels"]
    assert rows == [
        ["m", "inductor", "8", "6.000, 75% [4.000]", "2.000, 25%", "8.000 [5.000]", "12"]
    ]
    assert decode_by_kind([result(older)]) == NOTHING_PUBLISHED
