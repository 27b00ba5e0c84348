"""Accuracy beside speed in tables; sessions without quantised weights look as before."""

from fake_results import fake_cell, fake_result

from inference_benchmark.reporting.accuracy import accuracy_notes
from inference_benchmark.reporting.formats import report_as
from inference_benchmark.reporting.tables import report

INT4 = {
    "against": "bf16",
    "text": "random tokens, seed 0",
    "tokens": 512,
    "kl_mean": 0.01234,
    "kl_max": 0.2,
    "top1_agreement": 0.875,
    "perplexity_ratio": 1.05,
    "seconds": 1.0,
    "max_kl": 0.01,
    "passed": False,
}


def cells() -> list[dict]:
    plain, stored = fake_cell("eager"), fake_cell("eager int4")
    stored["accuracy"] = INT4
    stored["weights"] = stored["weights"] | {"format": "int4"}
    return [plain, stored]


def test_columns_where_weights_are_quantised():
    text = report(fake_result(cells()))
    row = next(line for line in text.splitlines() if line.startswith("eager int4 b1"))
    assert "0.012" in row
    assert "87.5%" in row
    lines = report_as(fake_result(cells()), "markdown").splitlines()
    assert "| KL | top-1 | speed-up |" in lines[2]
    assert report_as(fake_result(cells()), "csv").splitlines()[2].count("0.01234") == 1


def test_no_columns_where_none_are():
    assert "KL" not in report(fake_result(cells()[:1]))
    assert "top-1" not in report_as(fake_result(cells()[:1]), "markdown")


def test_what_is_said_of_them():
    remark, failed = accuracy_notes(cells())
    assert "against bf16 weights over 512 random tokens, seed 0" in remark
    assert remark.endswith("perplexity times: int4 1.050")
    assert failed == "over --max-kl 0.01: eager int4 b1"
    assert accuracy_notes(cells()[:1]) == []
