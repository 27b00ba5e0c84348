"""The output check in --details: floor, tolerance, cost, and what came nearest to its limit."""

from fake_results import fake_cell, fake_result

from inference_benchmark.reporting.tables import report

MEASURED = {
    "prompt: logits": {"error": 0.004, "limit": 0.01, "floor": 0.006, "at": ""},
    "decode: a cache slot": {"error": 0.02, "limit": 0.03, "floor": 0.009, "at": "layer 3, keys"},
}


def cell(**check):
    checked = fake_cell(ttft_s=0.2, tbot_s=0.2, noise=0.0, runs=10)  # 5 tokens: 1 s a run
    return checked | {"output_check": checked["output_check"] | {"measured": MEASURED} | check}


def test_details_say_what_was_allowed_found_and_spent():
    text = report(fake_result([cell(seconds=1.5, floor=0.006, tolerance=0.02)]), details=True)
    (row,) = (line for line in text.splitlines() if line.split()[2:3] == ["0.006"])
    assert row.split() == ["thunder", "b1", "0.006", "0.02", "1.50", "15%"]
    words = " ".join(text.split())
    assert "nearest to its limit of 2 measures: decode: a cache slot (layer 3, keys)" in words
    assert "0.02 of 0.03; floor 0.009" in words


def test_without_details_there_is_none():
    assert "floor" not in report(fake_result([cell()]))


def test_files_without_these_figures_are_shown():
    unchecked = fake_cell(output_check=None)
    assert "output check," not in report(fake_result([unchecked]), details=True)
    old = fake_cell()
    old["output_check"] |= {"tolerance": None, "floor": None, "seconds": None}
    assert "output check," not in report(fake_result([old]), details=True)
