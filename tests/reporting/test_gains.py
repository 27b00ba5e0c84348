"""What another implementation gains, in time and memory, against the first one."""

from inference_benchmark.reporting.gains import gains_table

WORKLOAD = {
    "metrics": [
        {"name": "ttft_s", "title": "TTFT", "unit": "s", "better": "lower", "headline": True},
        {"name": "tbot_s", "title": "TBOT", "unit": "s", "better": "lower", "headline": True},
        {"name": "total_s", "title": "total", "unit": "s", "better": "lower", "headline": False},
    ]
}


def cell(label: str, implementation: str | None, peak: int | None, **ratios: float) -> dict:
    metrics = {
        name: {"ratio": ratio, "ci95": [ratio - 0.01, ratio + 0.01], "verdict": "faster"}
        for name, ratio in ratios.items()
    }
    return {
        "label": label,
        "options": {"implementation": implementation},
        "memory": {"peak_allocated_bytes": peak},
        "status": "ok",
        "output_check": {"passed": True},
        "speedup": {"baseline": "eager b1", "metrics": metrics} if ratios else None,
    }


def table(*cells: dict) -> list[str]:
    return gains_table([{"workload": WORKLOAD, "cells": list(cells)}]).splitlines()


def test_time_and_memory_saved_by_hand():
    ours = cell("eager b1", None, 2_000_000_000)
    theirs = cell("eager@mine b1", "mine", 1_500_000_000, ttft_s=1.25, tbot_s=1.6)
    title, _, _, first, second = table(ours, theirs)
    assert title == "against default in the same mode; saved: of the time; MB: of peak memory"
    assert first.split() == (
        [
            "eager@mine",
            "b1",
            "TTFT",
            "1.250x",
            "1.240-1.260",
            "20.0%",
            "faster",
            "500",
            "25.0%",
        ]
    )
    assert second.split()[3:4] == ["1.600x"]
    assert "37.5%" in second


def test_what_takes_more_memory_saves_less_than_nothing():
    ours = cell("eager b1", None, 1_000_000_000)
    theirs = cell("eager@mine b1", "mine", 1_100_000_000, ttft_s=1.0)
    assert table(ours, theirs)[-1].split()[-2:] == ["-100", "-10.0%"]
    unknown = cell("eager@mine b1", "mine", None, ttft_s=1.0)
    assert "MB saved" not in "\n".join(table(ours, unknown))


def test_one_implementation_gains_nothing_to_tell():
    assert table(cell("eager b1", None, 1), cell("inductor b1", None, 1, ttft_s=2.0)) == []
    assert table(cell("eager b1", None, 1), cell("eager@mine b1", "mine", 1)) == []
