"""What each picture shows of hand-made cells, and what its sentence says."""

import copy

import pytest
from drawing import column, drawn, labels, subject_of, texts, with_context_depth
from fake_results import fake_cell, fake_result, fake_speedup, with_wrong_output

from inference_benchmark.plotting.depth import depth_picture
from inference_benchmark.plotting.kernels import kernel_pictures
from inference_benchmark.plotting.memory import memory_picture
from inference_benchmark.plotting.pictures import share_axes
from inference_benchmark.plotting.roofline import roofline_picture
from inference_benchmark.plotting.runs import runs_pictures
from inference_benchmark.plotting.speedups import ForestRow, forest, speedup_picture
from inference_benchmark.plotting.startup import startup_picture
from inference_benchmark.plotting.steps import steps_pictures
from inference_benchmark.plotting.style import house_style, new_figure
from inference_benchmark.plotting.subject import subjects


class TestSpeedups:
    def test_each_headline_metric_of_each_cell_has_a_row(self):
        speedup = fake_speedup("eager b1", ttft_s=1.0, tbot_s=1.25)
        picture = drawn(speedup_picture, subject_of(fake_cell("eager"), fake_cell(speedup=speedup)))
        (table,) = picture.tables
        assert [row[:5] for row in texts(table)] == [
            ["thunder b1", "TTFT", "eager b1", "1.0000", "0.9900"],
            ["thunder b1", "TBOT", "eager b1", "1.2500", "1.2375"],
        ]
        assert "Of 2 comparisons: 1 slower and 1 faster (same: within 1%)" in picture.sentence
        assert "TBOT of thunder b1, 1.250 times the speed of eager b1" in picture.sentence

    def test_the_band_is_drawn(self):
        rows = [ForestRow("a", "TBOT", "b", 1.5, (1.4, 1.6), "faster", band=0.02)]
        with house_style():
            picture = forest("x", "title", rows)
        (band, *_) = picture.figure.axes[0].patches
        ends = [band.get_x(), band.get_x() + band.get_width()]
        assert ends == pytest.approx([1 / 1.02, 1.02])

    def test_a_wrong_output_has_no_row(self):
        wrong = with_wrong_output(fake_cell(speedup=fake_speedup("eager b1", tbot_s=2.0)))
        assert drawn(speedup_picture, subject_of(fake_cell("eager"), wrong)) is None


class TestRuns:
    def test_every_run_is_a_dot_at_its_time(self):
        (ttft, tbot) = drawn(runs_pictures, subject_of(fake_cell(runs=7)))
        assert (ttft.name, tbot.name) == ("runs-ttft", "runs-tbot")
        dots = next(line for line in tbot.figure.axes[0].lines if line.get_linestyle() == "None")
        assert list(dots.get_xdata()) == pytest.approx(range(7))  # started a second apart
        assert tbot.sentence.startswith("7 runs: TBOT scatters most in thunder b1, from -0.")

    def test_clock_and_temperature_of_each_run_stand_under_it(self):
        cell = fake_cell(runs=3)
        cell["samples"]["gpu"] = {
            "sm_clock_hz": [1.9e9, 1.8e9, None],
            "temperature_c": [50.0, 61.0, 60.0],
        }
        picture, _ = drawn(runs_pictures, subject_of(cell))
        _, clock, temperature = picture.figure.axes
        assert list(clock.lines[0].get_ydata()) == pytest.approx([1.9, 1.8])
        assert list(temperature.lines[0].get_ydata()) == [50, 61, 60]
        assert "the clock stayed between 1.80 and 1.90 GHz, the GPU below 62 °C" in picture.sentence

    def test_of_older_files_the_range_of_a_cell_is_drawn(self):
        state = {"sm_clock_hz": {"min": 1.7e9, "median": 1.8e9, "max": 1.9e9}}
        picture, _ = drawn(runs_pictures, subject_of(fake_cell(gpu_state=state)))
        assert len(picture.figure.axes) == 2
        assert "between 1.70 and 1.90 GHz" in picture.sentence

    def test_a_table_holds_the_summary(self):
        cell = fake_cell()
        _, picture = drawn(runs_pictures, subject_of(cell))
        (table,) = picture.tables
        summary = cell["summary"]["metrics"]["tbot_s"]
        assert column(table, "median ms") == [summary["median"]]
        assert column(table, "max ms") == [summary["max"]]

    def test_times_of_kernels_are_in_us_and_said_to_be(self):
        cell = fake_cell("flash")
        cell["summary"]["metrics"]["attention_s"] = cell["summary"]["metrics"]["tbot_s"]
        cell["samples"]["metrics"]["attention_s"] = cell["samples"]["metrics"]["tbot_s"]
        metric = {"name": "attention_s", "title": "attention", "unit": "s", "headline": True}
        result = fake_result([cell])
        result["workload"] = {**result["workload"], "metrics": [metric]}
        (subject,) = subjects([("session.json", result)])
        (picture,) = drawn(runs_pictures, subject)
        (table,) = picture.tables
        shown = texts(table)[0][list(table.headers).index("median us")]
        median_us = cell["summary"]["metrics"]["attention_s"]["median"] * 1e6
        assert float(shown.replace(",", "")) == pytest.approx(median_us, rel=1e-3)
        (right,) = (text for text in labels(picture.figure.axes[0]) if shown in text)
        assert right.startswith(f"{shown} us ")


class TestSteps:
    def cell(self) -> dict:
        cell = fake_cell(runs=2)
        steps = [0.010] * 90 + [0.011] * 10
        cell["samples"]["steps"] = {"step_s": [steps, [*steps[:-1], 0.040]]}
        return cell

    def test_the_change_along_a_run_is_said(self):
        along, _ = drawn(steps_pictures, subject_of(self.cell()))
        assert "the median step changes by +10.0% in thunder b1" in along.sentence

    def test_the_slowest_step_is_said_and_in_the_table(self):
        _, distribution = drawn(steps_pictures, subject_of(self.cell()))
        assert "The slowest step of all took 4.00 times the median" in distribution.sentence
        (table,) = distribution.tables
        assert column(table, "largest ms") == pytest.approx([0.040])
        assert column(table, "steps") == ["200"]

    def test_a_run_without_steps_has_no_picture(self):
        cell = fake_cell()
        cell["samples"]["steps"] = {"step_s": []}
        assert drawn(steps_pictures, subject_of(cell)) == []


class TestKernels:
    PROFILE = {
        "kernel_s": 0.005,
        "kernels": 10,
        "by_kind": {"matmul": 0.004, "attention": 0.001},
        "costliest": [],
        "metric": "tbot_s",
        "contexts": [9, 10],
        "limit_s": 0.003,
        "limit_by_kind": {"matmul": 0.0025, "attention": 0.0005},
    }

    def test_what_no_kernel_accounts_for_is_of_the_steps_that_were_profiled(self):
        cell = fake_cell(runs=1, profile={"decode": self.PROFILE})
        # contexts 9 and 10 are the first two steps after a prompt of 8 tokens
        cell["samples"]["steps"] = {"step_s": [[0.006, 0.006, 0.5, 0.5]]}
        (picture,) = drawn(kernel_pictures, subject_of(cell))
        (table,) = picture.tables
        assert column(table, "no kernel ms") == pytest.approx([0.001])
        assert column(table, "timed ms") == pytest.approx([0.006])
        assert column(table, "limit ms") == [0.003]
        assert (
            "In thunder b1 matmul takes 67% of one decode step, which takes 2.00 times its limit"
            in picture.sentence
        )
        assert "no kernel runs in up to 17% (thunder b1)" in picture.sentence

    def test_bars_add_up(self):
        cell = fake_cell(runs=1, profile={"decode": self.PROFILE})
        cell["samples"]["steps"] = {"step_s": [[0.006] * 4]}
        (picture,) = drawn(kernel_pictures, subject_of(cell))
        bars = [bar for bar in picture.figure.axes[0].patches if bar.get_width() > 0]
        assert sum(bar.get_width() for bar in bars) == pytest.approx(6 / 3)  # times the limit
        assert len({(bar.get_hatch(), bar.get_facecolor()) for bar in bars}) == 3


class TestStartup:
    def test_stages_and_break_even(self):
        start = {
            "build_s": 2.0,
            "setup_s": None,
            "compile_decode_s": 6.0,
            "first_token_s": 8.0,  # a sum of others
            "warmup_s": [0.5, 0.5],
            "payback_tokens": 1234.0,
        }
        picture = drawn(startup_picture, subject_of(fake_cell(cold_start=start)))
        (table,) = picture.tables
        assert table.headers == (
            "cell",
            "build s",
            "compile decode s",
            "warm-up runs s",
            "sum s",
            "break-even, output tokens",
        )
        assert column(table, "sum s") == [9.0]
        assert "starts in 9.00 s, of which compile decode takes 6.00 s" in picture.sentence
        assert "paid back after 1,234 output tokens" in picture.sentence
        assert any("breaks even after 1,234" in text for text in labels(picture.figure.axes[0]))


class TestMemory:
    def test_predicted_against_taken(self):
        picture = drawn(memory_picture, subject_of(fake_cell()))
        assert picture.sentence == (
            "thunder b1 takes 17.00 GB, 11% of the GPU's memory; peaks are 101% of what was "
            "predicted."
        )
        (table,) = picture.tables
        assert column(table, "predicted GB") == [16_900_000_000]

    def test_unknown_is_no_picture(self):
        cell = fake_cell()
        cell["memory"] |= {"peak_allocated_bytes": None}
        assert drawn(memory_picture, subject_of(cell)) is None


class TestRoofline:
    def test_made_up_work_has_none(self):
        assert drawn(roofline_picture, subject_of(fake_cell())) is None


class TestDepth:
    def subject(self):
        cells = []
        for depth, tbot_s in ((0, 0.004), (1024, 0.005), (65536, 0.016)):
            cell = fake_cell(tbot_s=tbot_s, noise=0.0)
            cell["limit"]["metrics"] |= {"tbot_s": tbot_s / 2, "total_s": 0.01}
            cells.append(with_context_depth(cell, depth, f"thunder b1 d{depth}"))
        result = fake_result(cells)
        result["workload"] = copy.deepcopy(result["workload"])
        for rate in result["workload"]["rates"]:
            rate["headline"] = rate["name"] == "decode_tokens_per_s"
        (subject,) = subjects([("depth.json", result)])
        return subject

    def test_the_rate_falls_as_it_does(self):
        picture = drawn(depth_picture, self.subject())
        assert picture.sentence == (
            "thunder b1 falls from 250 decode tok/s at depth 0 to 62.50 at 65,536, from 50% to 50% "
            "of the limit."
        )
        (table,) = picture.tables
        assert column(table, "depth") == [0, 1024, 65536]
        assert column(table, "limit") == pytest.approx([500, 400, 125])

    def test_one_depth_is_no_picture(self):
        assert drawn(depth_picture, subject_of(fake_cell())) is None


def test_pictures_side_by_side_share_their_axes():
    with house_style():
        (figure, ((left,),)), (other, ((right,),)) = new_figure(200), new_figure(200)
        left.plot([0, 1], [5, 6])
        right.plot([10, 20], [1, 2])
        share_axes([figure, other])
    assert left.get_xlim() == right.get_xlim()
    assert left.get_ylim() == right.get_ylim()
    assert left.get_xlim()[0] < 0
    assert left.get_xlim()[1] > 20
