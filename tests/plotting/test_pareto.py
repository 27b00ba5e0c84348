"""The front of what was measured, and the hardware's curve behind it."""

import pytest
from conftest import ROOT
from drawing import column, drawn, labels, subject_of, texts, with_context_depth
from fake_results import fake_cell, fake_forward_cell, fake_result

from inference_benchmark.plotting.pareto import pareto_pictures
from inference_benchmark.plotting.subject import subjects
from inference_benchmark.reporting.reading import read_result


def cell(variant: str, batch_size: int, tbot_s: float, **fields) -> dict:
    return fake_cell(variant, batch_size=batch_size, tbot_s=tbot_s, noise=0.0, **fields)


def test_the_front_is_what_no_other_cell_beats_in_both():
    subject = subject_of(
        cell("thunder", 1, 0.004),
        cell("eager", 1, 0.008),  # slower for a user, and fewer tokens
        cell("thunder", 8, 0.005),
        cell("eager", 8, 0.0049),  # better than thunder b8 in both
    )
    throughput, *_ = drawn(pareto_pictures, subject)
    (table,) = throughput.tables
    front = dict(zip(column(table, "cell"), column(table, "front"), strict=True))
    assert front == {
        "thunder b1": "front",
        "eager b1": "-",
        "thunder b8": "-",
        "eager b8": "front",
    }
    assert column(table, "tok/s/user") == pytest.approx([250, 125, 200, 1 / 0.0049])
    assert throughput.sentence.startswith("The front of 2 cells runs from 250 tok/s/user at ")
    assert "(thunder b1) to 204 tok/s/user" in throughput.sentence


def test_axes_say_what_they_mean():
    throughput, cost = drawn(pareto_pictures, subject_of(cell("eager", 1, 0.008)))
    (axes,) = throughput.figure.axes
    assert axes.get_xlabel() == "tokens/s per user = 1 / TBOT"
    assert axes.get_ylabel() == "tok/s/GPU\n= batch × output tokens / total time / GPUs"
    (axes,) = cost.figure.axes
    assert "$/GPU-hour" in axes.get_ylabel()


def test_the_hardware_curve_goes_through_the_limits_of_the_cells_and_beyond():
    (path,) = (ROOT / "results" / "published" / "batch_sizes").glob("*kernels*.json")
    result = read_result(path)
    (subject,) = subjects([(path.name, result)])
    throughput, *_ = drawn(pareto_pictures, subject)
    curve = next(
        line for line in throughput.figure.axes[0].lines if "limit" in str(line.get_label())
    )
    drawn_at = dict(zip(*curve.get_data(), strict=True))
    for limit in (cell["limit"]["metrics"] for cell in result["cells"]):
        per_user = 1 / limit["tbot_s"]
        assert min(abs(x / per_user - 1) for x in drawn_at) < 1e-9
    assert len(drawn_at) == 10  # b1 to b512, twice the largest that was measured
    (table,) = throughput.tables
    first = result["cells"][0]
    of_limit = (
        first["limit"]["metrics"]["total_s"] / first["summary"]["metrics"]["total_s"]["median"]
    )
    assert column(table, "reached")[0] == pytest.approx(of_limit)
    assert texts(table)[0][-2] == "84%"
    assert {"b1", "b256"} <= set(labels(throughput.figure.axes[0]))


def test_sessions_of_one_thing_are_one_point():
    sessions = [
        (f"{number}.json", fake_result([cell("eager", 1, tbot_s)]))
        for number, tbot_s in enumerate((0.008, 0.004, 0.005))
    ]
    (subject,) = subjects(sessions)
    throughput, *_ = drawn(pareto_pictures, subject)
    assert throughput.sentence.startswith("Measured: 200 tok/s/user at ")
    assert "medians of sessions" in throughput.sentence
    (table,) = throughput.tables
    assert column(table, "cell") == ["eager b1 #1", "eager b1 #2", "eager b1 #3"]


def test_another_workload_is_drawn_by_its_own_metric():
    subject = subject_of(
        fake_forward_cell("eager", forward_s=0.040, noise=0.0),
        fake_forward_cell("inductor", forward_s=0.030, noise=0.0, batch_size=2),
        workload="forward",
    )
    throughput, *_ = drawn(pareto_pictures, subject)
    assert throughput.title == "Throughput against forward ms"
    assert throughput.figure.axes[0].xaxis_inverted()
    (table,) = throughput.tables
    assert column(table, "forward ms") == pytest.approx([40, 30])


def test_at_one_batch_a_rate_says_nothing_that_its_time_does_not():
    cells = fake_forward_cell("eager"), fake_forward_cell("inductor")
    assert drawn(pareto_pictures, subject_of(*cells, workload="forward")) == []


def test_sequences_of_several_depths_are_no_choice():
    cells = [with_context_depth(cell("eager", 1, 0.008), d, f"eager b1 d{d}") for d in (0, 512)]
    assert drawn(pareto_pictures, subject_of(*cells)) == []


def test_nothing_measured_is_no_picture():
    failed = cell("eager", 1, 0.008) | {"status": "failed", "samples": None, "summary": None}
    assert drawn(pareto_pictures, subject_of(failed)) == []
