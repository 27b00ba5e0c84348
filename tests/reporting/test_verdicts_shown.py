"""What a report says of cells that are not simply valid, and why."""

import pytest
from fake_results import fake_cell, fake_result
from report_tables import REASON, summary_rows

from inference_benchmark.reporting.notes import reasons
from inference_benchmark.reporting.tables import report


def estimate(error: dict | None = None, **fields) -> dict:
    cell = fake_cell(
        "thunder+graphs",
        estimated=True,
        extrapolation={"from_layers": [4, 8], "to_layers": 32, "weight": 7.0, "error": error},
        **dict.fromkeys(("cold_start", "gpu_state", "output_check")) | fields,
    )
    cell["label"], cell["name"]["depth"] = "thunder+graphs b1 EST", "EST"
    return fake_result([cell], extrapolated_from=[4, 8])


class TestVerdicts:
    @pytest.mark.parametrize(
        ("verdict", "shown"),
        [
            ("valid", "valid"),
            ("unverified", "UNVERIFIED"),
            ("suspect", "SUSPECT"),
            ("invalid", "INVALID"),
        ],
    )
    def test_all_but_valid_is_loud(self, verdict, shown):
        cell = fake_cell(validity={"verdict": verdict, "reasons": [REASON]})
        text = report(fake_result([cell]))
        assert summary_rows(text)[0].split()[-1] == shown
        assert "thunder b1: It drifts. Wait." in text

    @pytest.mark.parametrize(
        ("verdict", "shown"),
        [("valid", "smoke"), ("unverified", "smoke"), ("suspect", "SUSPECT")],
    )
    def test_a_cpu_run_is_a_smoke_run(self, verdict, shown):
        cell = fake_cell(validity={"verdict": verdict, "reasons": []})
        text = report(fake_result([cell], {"gpu": None}))
        assert summary_rows(text)[0].split()[-1] == shown
        assert "CPU smoke run: says nothing about GPUs" in text

    def test_an_estimate_is_never_simply_valid(self):
        assert summary_rows(report(estimate()))[0].split()[-1] == "ESTIMATE"
        suspect = estimate(validity={"verdict": "suspect", "reasons": [REASON]})
        assert " ESTIMATE, SUSPECT" in summary_rows(report(suspect))[0]

    @pytest.mark.parametrize(
        ("error", "words"),
        [
            (None, "noise, not departures from that straight line"),
            (
                {"ttft_s": 0.012, "tbot_s": 0.017},
                "noise and what such estimates were off by, at most TTFT 1.2%, TBOT 1.7%",
            ),
        ],
    )
    def test_it_is_said_how_an_estimate_came_about_and_what_its_interval_holds(self, error, words):
        text = " ".join(report(estimate(error)).split())
        assert "EST: estimated from 4 and 8 of 32 layers (4L, 8L), round by round: t(4) + 7" in text
        assert f"intervals hold run-to-run {words}" in text

    def test_cells_that_failed_say_how(self):
        failed = {"runs": 0, "samples": None, "summary": None, "stop_reason": None}
        cells = [
            fake_cell("eager", status="oom", error="out of\nmemory", **failed),
            fake_cell("inductor", status="partial", **failed),
            fake_cell("thunder", status="ok", **failed),
        ]
        text = report(fake_result(cells))
        assert [row.split()[2:] for row in summary_rows(text)[:3]] == [
            ["OOM"],
            ["no", "runs"],
            ["no", "runs"],
        ]
        assert "eager b1: out of memory" in text

    def test_a_remedy_is_said_once(self):
        cells = [
            fake_cell(
                mode, validity={"verdict": "suspect", "reasons": [REASON | {"message": mode}]}
            )
            for mode in ("eager", "thunder")
        ]
        text = report(fake_result(cells))
        assert "eager b1: eager\nthunder b1: thunder Wait." in text

    def test_of_many_reasons_with_one_remedy_some_are_told_and_all_who_have_them(self):
        def cells(remedy):
            reason = REASON | {"remedy": remedy}
            return [
                fake_cell(
                    batch_size=size,
                    validity={
                        "verdict": "suspect",
                        "reasons": [reason | {"message": f"No. {size}."}],
                    },
                )
                for size in (1, 2, 4, 8, 16)
            ]

        lines = reasons(cells("Wait."))
        assert [line.partition(": ")[2] for line in lines[:3]] == ["No. 1.", "No. 2.", "No. 4."]
        assert lines[3:] == ["likewise, see the file: thunder b8, thunder b16. Wait."]
        assert len(reasons(cells(""))) == 5  # what nothing can be done about is all told
