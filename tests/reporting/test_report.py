"""The report of a result, from fake ones: what it shows, of which workload, and what it hides."""

import json

import pytest
from conftest import PUBLISHED, ROOT
from fake_results import (
    FORWARD,
    fake_cell,
    fake_forward_cell,
    fake_result,
    fake_speedup,
    with_wrong_output,
)
from report_tables import REASON, summary_rows

from inference_benchmark.reporting.explanation import costliest, explain
from inference_benchmark.reporting.figures import (
    main_metric,
    median,
    named,
    speedup_of,
)
from inference_benchmark.reporting.layout import encodable
from inference_benchmark.reporting.reading import read_result
from inference_benchmark.reporting.summary import group_rows
from inference_benchmark.reporting.tables import report
from inference_benchmark.reporting.units import with_interval
from inference_benchmark.reporting.version_1 import GENERATION

PROFILE = {
    "kernel_s": 0.005,
    "kernels": 360.0,
    "by_kind": {"matmul": 0.004, "attention": 0.001},
    "costliest": [{"name": "nvjet", "kind": "matmul", "calls": 32.0, "s": 0.002}],
}


def with_samples(cell: dict, name: str, values: list[float]) -> dict:
    """The cell with another median and interval of one metric."""
    summary = cell["summary"]["metrics"][name]
    summary |= {"median": values[1], "median_ci95": [values[0], values[2]]}
    return cell


class TestSummary:
    def test_an_interval_stands_beside_every_headline_median(self):
        cell = with_samples(fake_cell("eager"), "tbot_s", [3.9224e-3, 3.9228e-3, 3.9236e-3])
        cell = with_samples(cell, "ttft_s", [0.02199, 0.02201, 0.02237])
        text = report(fake_result([cell]))
        # rounded up: 0.8 us are not within 0
        assert summary_rows(text)[0].split()[2:4] == ["22.01±0.36", "3.923±0.001"]
        assert "summary (medians ±95% of 10 runs), TTFT, TBOT in ms" in text

    @pytest.mark.parametrize(
        ("value", "interval", "text"),
        [
            (22.01, [21.99, 22.37], "22.01±0.36"),
            (3.923, [3.9229, 3.9231], "3.923±0.001"),
            (5.0, [5.0, 5.0], "5.000±0.000"),
            (12345.6, [12300.0, 12350.0], "12,346±46"),
            (1.0, None, "1.000"),
            (None, None, "-"),
        ],
    )
    def test_the_interval_has_the_digits_of_the_value(self, value, interval, text):
        assert with_interval(value, interval) == text

    def test_three_cells_fit_a_terminal_a_line_each(self):
        cells = [
            fake_cell("thunder+graphs", speedup=fake_speedup("eager+graphs b1", tbot_s=1.1)),
            fake_cell("inductor+graphs", speedup=fake_speedup("eager+graphs b1", tbot_s=1.1)),
            fake_cell("eager+graphs", tbot_s=0.0066),
        ]
        rows = summary_rows(report(fake_result(cells)))
        assert [row.split()[0] for row in rows[:3]] == [cell["name"]["variant"] for cell in cells]
        assert rows[0].endswith("1.10x faster    valid")
        assert max(map(len, rows)) <= 80

    def test_runs_are_a_column_only_where_they_differ(self):
        same = report(fake_result([fake_cell("eager"), fake_cell("thunder")]))
        assert "of 10 runs)" in same
        other = report(fake_result([fake_cell("eager"), fake_cell("thunder", runs=12)]))
        assert "±95%), TTFT" in other
        assert [row.split()[-2] for row in summary_rows(other)[:2]] == ["10", "12"]

    def test_a_single_run_has_no_interval_and_that_is_said(self):
        text = report(fake_result([fake_cell("eager", runs=1)]))
        assert summary_rows(text)[0].split()[2:4] == ["20.00", "6.000"]
        assert "too few runs for a 95% interval of the median: eager b1" in text

    def test_the_limit_says_where_it_comes_from_and_of_what_it_is(self):
        text = report(fake_result([fake_cell()]))
        assert "limit: datasheet, of TBOT" in text
        assert "limit: measured, of forward" in report(forward_result([fake_forward_cell()]))
        unknown = report(fake_result([fake_cell(limit=None)]))
        assert "limit" not in unknown.split("verdict: ")[0]

    def test_what_was_checked_is_said(self):
        assert "\nchecked: tokens, logits, cache\n" in report(fake_result([fake_cell()]))
        other = fake_cell("eager")
        other["output_check"] |= {"checked": ["logits"]}
        text = report(fake_result([fake_cell(), other, fake_cell("inductor", output_check=None)]))
        assert "checked: tokens, logits, cache (thunder b1)\nchecked: logits (eager b1)" in text
        assert "output not checked: inductor b1" in text

    def test_the_columns_are_explained_where_asked_for(self):
        result = fake_result([fake_cell()])
        words = " ".join(report(result).split())
        assert "TTFT: time to 1st token; TBOT: per next one" in words
        assert "limit: % reached; verdict: trust?" in words
        assert "time to 1st token" not in report(result, legend=False)

    def test_cells_that_were_not_interleaved_are_named(self):
        group = {"batch_size": 1, "interleaved": False}
        speedup = fake_speedup("eager b1", tbot_s=1.1)
        cells = [fake_cell(group=group, speedup=speedup), fake_cell("eager", tbot_s=0.0066)]
        words = " ".join(report(fake_result(cells)).split())
        assert "not interleaved with others, measured one after the other: thunder b1" in words
        assert "paired by round" not in words


class TestSpeedups:
    def test_the_printed_speedup_agrees_with_the_printed_medians(self):
        cells = [
            fake_cell("thunder", noise=0.0, tbot_s=0.006),
            fake_cell("eager", noise=0.0, tbot_s=0.009),
        ]
        cells[0]["speedup"] = fake_speedup("eager b1", tbot_s=1.504)
        assert "medians' own ratio" not in report(fake_result(cells))

    def test_nor_is_it_where_both_are_printed_alike(self):
        cells = [
            fake_cell("thunder", noise=0.0, tbot_s=1.0),
            fake_cell("eager", noise=0.0, tbot_s=0.8847),
        ]
        cells[0]["speedup"] = fake_speedup("eager b1", tbot_s=0.8755)  # 0.88x, too
        assert "medians' own ratio" not in report(fake_result(cells))

    def test_or_it_is_said_why_not(self):
        cells = [
            fake_cell("thunder", noise=0.0, tbot_s=0.006),
            fake_cell("eager", noise=0.0, tbot_s=0.009),
        ]
        cells[0]["speedup"] = fake_speedup("eager b1", tbot_s=1.45)
        words = " ".join(report(fake_result(cells)).split())
        assert "1.45x faster" in words
        assert "times moved between rounds, so the medians' own ratio differs" in words
        assert "the medians' own ratio differs: thunder b1 1.50x" in words

    @pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
    def test_every_published_one_agrees_or_is_explained(self, path):
        result = read_result(path)
        main = main_metric(result["workload"], result["cells"])
        words = " ".join(report(result).split())
        explained = words.partition("the medians' own ratio differs: ")[2]
        for cell in result["cells"]:
            speedup = speedup_of(cell, main["name"])
            if speedup is None:
                continue
            baseline = named(result["cells"], cell["speedup"]["baseline"])
            ratio = median(baseline, main["name"]) / median(cell, main["name"])
            agrees = speedup["ratio"] == pytest.approx(ratio, abs=0.005)
            agrees |= f"{speedup['ratio']:.2f}" == f"{ratio:.2f}"
            assert agrees or f"{cell['label']} {ratio:.2f}x" in explained

    def test_many_comparisons_are_allowed_for_and_that_is_said(self):
        cell = fake_cell(speedup=fake_speedup("eager b1", tbot_s=1.1))
        assert "(Benjamini-Hochberg: p_adjusted)" in report(fake_result([cell]))
        cell["speedup"]["metrics"]["tbot_s"]["p_adjusted"] = None
        assert "Benjamini-Hochberg" not in report(fake_result([cell]))


class TestWrongOutput:
    """Cells with wrong output show no time anywhere."""

    SECRET = 0.0123456

    def wrong(self) -> dict:
        cell = fake_cell("thunder", ttft_s=self.SECRET, tbot_s=self.SECRET, noise=0.0)
        cell["profile"] = {"decode": PROFILE | {"kernel_s": self.SECRET}}
        return cell

    @pytest.mark.parametrize("details", [False, True])
    @pytest.mark.parametrize("with_summary", [False, True])
    def test_no_table_shows_its_times(self, details, with_summary):
        cell = with_wrong_output(self.wrong())
        if with_summary:  # a writer that forgot to take it away
            cell |= {name: self.wrong()[name] for name in ("summary", "samples")}
            cell["speedup"] = fake_speedup("eager b1", tbot_s=1.2345)
        result = fake_result([cell, fake_cell("eager")])
        text = report(result, details=details)
        assert "thunder b1: WRONG OUTPUT: decode error 0.5 over 0.03" in text
        row = next(row for row in summary_rows(text) if row.startswith("thunder"))
        assert row.split() == ["thunder", "b1", "-", "-", "-", "-", "WRONG", "OUTPUT"]
        for hidden in ("12.3", "1.23x"):
            assert hidden not in text + explain(cell) + costliest(cell) + group_rows([cell], result)

    def test_a_failed_check_counts_whatever_the_status_says(self):
        cell = with_wrong_output(self.wrong()) | {"status": "ok"}
        assert "WRONG OUTPUT" in summary_rows(report(fake_result([cell])))[0]


def forward_result(cells: list[dict]) -> dict:
    return fake_result(cells, workload="forward", output_length=None)


class TestWorkloads:
    def test_a_forward_has_its_own_columns_throughout(self):
        cells = [
            fake_forward_cell("inductor", forward_s=0.032, noise=0.0),
            fake_forward_cell("eager", forward_s=0.040, noise=0.0),
        ]
        cells[0]["speedup"] = fake_speedup("eager b1", forward_s=1.25)
        result = forward_result(cells)
        text = report(result)
        assert "llama3.1-8b, forward, 8 tokens, bf16, NVIDIA H200" in text
        header = text.split("summary (medians")[1].splitlines()[1]
        assert header.split() == ["cell", "forward", "limit", "tok/s", "speed-up", "verdict"]
        # 8 tokens in 32 ms; 30 of 32 ms are the limit
        assert summary_rows(text)[0].split() == [
            *("inductor", "b1", "32.00±0.00", "94%", "250", "1.25x", "faster", "valid")
        ]
        full = report(result, details=True)
        for word in ("TTFT", "TBOT", "ttft", "tbot"):
            assert word not in text + full
        assert "latency of inductor b1, limit: measured\nms " in full

    def test_a_measured_limit_stands_beside_the_datasheets(self):
        cell = fake_cell(tbot_s=0.004, noise=0.0)
        alone = report(fake_result([cell]), details=True)
        assert "latency of thunder b1, limit: datasheet\n" in alone
        assert "adds the limit of what this GPU reaches" in " ".join(alone.split())
        metrics = cell["limit"]["metrics"]
        cell["limit"] |= {"basis": "measured", "datasheet": metrics}
        cell["limit"]["metrics"] = metrics | {"tbot_s": 0.0038}
        both = report(fake_result([cell]), details=True)
        assert "limit: measured; sheet: that of the datasheet" in " ".join(both.split())
        (row,) = (line for line in both.splitlines() if line.startswith("TBOT "))
        assert row.split()[-4:] == ["3.800", "95%", "3.600", "90%"]
        assert "adds the limit" not in both
        assert max(map(len, both.splitlines())) <= 80

    def test_the_main_metric_is_the_last_headline_that_was_measured(self):
        one_token = fake_cell()
        one_token["summary"]["metrics"]["tbot_s"] = None
        assert main_metric(GENERATION, [fake_cell()])["name"] == "tbot_s"
        assert main_metric(GENERATION, [one_token])["name"] == "ttft_s"
        assert main_metric(FORWARD, [fake_forward_cell()])["name"] == "forward_s"
        assert "limit: datasheet, of TTFT" in report(fake_result([one_token], output_length=1))

    def test_rows_of_a_group_are_printed_as_soon_as_it_is_done(self):
        cells = [fake_cell("thunder", noise=0.0), fake_cell("eager", runs=0, status="oom")]
        assert group_rows(cells).splitlines() == [
            "thunder b1: TTFT 20.00±0.00, TBOT 6.000±0.000 ms, 114 tok/s, valid",
            "eager b1: OOM",
        ]
        result = forward_result([fake_forward_cell(noise=0.0)]) | {"environment": {"gpu": None}}
        assert group_rows(result["cells"], result) == (
            "eager b1: forward 40.00±0.00 ms, 200 tok/s, smoke"
        )


class TestDetails:
    def test_they_are_left_out_unless_asked_for(self):
        cells = [fake_cell("eager"), fake_cell("eager", batch_size=8)]
        result = fake_result(cells, ready_s=12.5)
        titles = ("operating points", "throughput, tokens", "latency of", "resources", "variance")
        titles += ("cold start, s", "from the command to the first warm-up run: 12.50 s")
        short, full = report(result), report(result, details=True)
        assert all(title in full and title not in short for title in titles)
        assert "--details adds" in short
        assert "--details adds" not in full
        assert len(short.splitlines()) <= 15

    @pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
    def test_everything_fits_80_columns(self, path):
        result = read_result(path)
        for text in (report(result), report(result, details=True)):
            assert max(map(len, text.splitlines())) <= 80, max(text.splitlines(), key=len)

    def test_long_labels_and_large_numbers_fit_80_columns(self):
        cells = [
            fake_cell(name, batch_size=256, ttft_s=12.3456, tbot_s=1.23456, runs=runs, noise=0.01)
            for name, runs in (("thunder[no nvfuser]:dynamo,inductor_cat+graphs", 9), ("eager", 12))
        ]
        cells[0]["speedup"] = fake_speedup("eager b256", tbot_s=1.0)
        cells[0]["speedup"]["metrics"]["tbot_s"]["verdict"] = "inconclusive"
        cells.append(with_wrong_output(fake_cell("inductor+graphs", batch_size=256)))
        result = fake_result(cells)
        for text in (report(result), report(result, details=True)):
            assert max(map(len, text.splitlines())) <= 80, max(text.splitlines(), key=len)

    def test_an_object_of_version_1_is_rendered_as_well(self):
        old = json.loads((ROOT / "tests" / "reporting" / "version_1.json").read_text())
        assert "inductor+graphs b1" in report(old)


def test_control_characters_reach_no_terminal():
    cell = fake_cell(error="bad\x1b[31m", validity={"verdict": "suspect", "reasons": [REASON]})
    cell["label"] = "evil\x1b[2J\nb1"
    result = fake_result([cell], model_name="m\x07\n\x9b31m")
    texts = report(result), report(result, details=True), group_rows([cell], result)
    for text in (*texts, explain(cell)):
        assert text.replace("\n", "").isprintable()
        assert "evil\\x1b[2J b1" in text


def test_a_stream_that_knows_no_plus_minus_gets_ascii():
    assert encodable("3.9±0.1 é", "ascii") == "3.9+-0.1 ?"
    assert encodable("3.9±0.1", "latin-1") == "3.9±0.1"
    assert encodable("3.9±0.1", None) == "3.9±0.1"
