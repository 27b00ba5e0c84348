"""Other forms of the report: Markdown for people, CSV and JSON for programs."""

import csv
import io
import json

import pytest
from conftest import ROOT
from fake_results import (
    fake_cell,
    fake_forward_cell,
    fake_result,
    fake_speedup,
    with_wrong_output,
)

from inference_benchmark.reporting.formats import markdown, report_as
from inference_benchmark.reporting.tables import report


def result() -> dict:
    cells = [
        fake_cell("thunder", noise=0.0, speedup=fake_speedup("eager b1", tbot_s=1.5)),
        fake_cell("eager", noise=0.0, tbot_s=0.009),
        with_wrong_output(fake_cell("inductor")),
    ]
    return fake_result(cells)


def rows(document: dict) -> list[dict]:
    return list(csv.DictReader(io.StringIO(report_as(document, "csv"))))


def test_a_table_is_the_report():
    assert report_as(result(), "table") == report(result())
    assert report_as(result(), "table", details=True) == report(result(), details=True)


def test_markdown_has_the_summary_and_what_is_said_of_it():
    text = report_as(result(), "markdown")
    lines = text.splitlines()
    assert lines[0] == "llama3.1-8b, own lengths 8 -> 5, bf16, NVIDIA H200"
    assert lines[2:5] == [
        "| cell | TTFT ms | TBOT ms | limit, of TBOT | tok/s | speed-up | n | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| thunder b1 | 20.00±0.00 | 6.000±0.000 | 60% | 114 | 1.50x faster | 10 | valid |",
    ]
    assert lines[6] == "| inductor b1 | - | - | - | - | - | 10 | WRONG OUTPUT |"
    assert "- checked: tokens, logits, cache" in lines
    assert "- inductor b1: WRONG OUTPUT: decode error 0.5 over 0.03" in lines


def test_nothing_in_a_cell_can_end_a_markdown_table():
    assert markdown(["a"], [["x|y\nz"]]).splitlines()[2] == "| x\\|y z |"
    document = result()
    document["cells"][0]["label"] = "a|b\x1b[2J\nc"
    assert "| a\\|b\\x1b[2J c |" in report_as(document, "markdown")


def test_csv_has_si_units_and_full_precision():
    first, second, wrong = rows(result())
    assert float(first["tbot_s"]) == result()["cells"][0]["summary"]["metrics"]["tbot_s"]["median"]
    assert (first["tbot_s_speedup"], first["tbot_s_speedup_verdict"]) == ("1.5", "faster")
    assert (first["baseline"], second["baseline"]) == ("eager b1", "")
    assert (first["limit_basis"], first["tbot_s_limit"]) == ("datasheet", "0.0036")
    assert (wrong["verdict"], wrong["runs"]) == ("WRONG OUTPUT", "10")
    timed = [name for name in wrong if name.endswith("_s") or "_ci95" in name]
    assert all(wrong[name] == "" for name in timed)


def test_csv_has_the_metrics_of_its_workload():
    document = fake_result([fake_forward_cell()], workload="forward", output_length=None)
    (row,) = rows(document)
    assert float(row["forward_s"]) > 0
    assert float(row["tokens_per_s"]) > 0
    assert not any(name.startswith(("ttft", "tbot")) for name in row)


def test_json_is_the_result():
    assert json.loads(report_as(result(), "json")) == result()
    old = json.loads((ROOT / "tests" / "reporting" / "version_1.json").read_text())
    assert json.loads(report_as(old, "json"))["schema_version"] == 2


def test_no_other_format():
    with pytest.raises(ValueError, match="table, markdown, csv, json"):
        report_as(result(), "xml")


@pytest.mark.parametrize("format", ["table", "markdown", "csv", "json"])
def test_a_session_without_cells_has_every_form(format):
    assert report_as(fake_result([]), format)


def test_a_number_that_json_does_not_have_is_null_and_loses_no_report():
    document = result()
    document["cells"][0]["gpu_state"] = {"power_w": float("nan")}
    assert json.loads(report_as(document, "json"))["cells"][0]["gpu_state"] == {"power_w": None}
