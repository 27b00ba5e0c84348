"""Comparisons of several sessions: sides, sets, saved deviations, and what differs between files."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from comparing import one_line, report, rows, run, verdicts
from conftest import PUBLISHED
from fake_results import ENVIRONMENT, fake_cell, fake_forward_cell, fake_result, save

COMMITS = {"before": "a" * 40, "after": "b" * 40}


def sessions(folder, name, levels, *, environment=None, set_id=None, modes=("thunder",), **config):
    """A file per level, which all times of its session are multiplied by."""
    folder.mkdir(exist_ok=True)
    files = []
    for index, level in enumerate(levels):
        cells = [
            fake_cell(mode, ttft_s=0.02 * level, tbot_s=0.006 * level, seed=index) for mode in modes
        ]
        result = fake_result(cells, environment, **config)
        result["created"] = f"2026-01-0{index + 1}T03:04:05Z"
        if set_id:
            result["session_set"] = {"id": set_id, "index": index, "size": len(levels)}
        path = folder / f"{name}{index}.json"
        path.write_text(json.dumps(result))
        files.append(str(path))
    return files


@pytest.fixture(autouse=True)
def no_saved_sets(tmp_path, monkeypatch):
    """results/ of the working directory would count."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")


class TestSides:
    def test_two_folders_are_two_sides(self, tmp_path):
        before = sessions(tmp_path / "old", "s", (1.0, 1.01, 0.99))
        after = sessions(tmp_path / "new", "s", (0.94, 0.95, 0.93))
        comparison = report("--before", tmp_path / "old", "--after", tmp_path / "new")
        (row,) = comparison["rows"]
        assert (row["files"], row["baseline_files"]) == (after, before)
        assert row["unit"] == "sessions"
        ratio = row["metrics"]["tbot_s"]["ratio"]
        assert (ratio["n_baseline"], ratio["n_candidate"]) == (3, 3)
        # logs of 1, 1.01, 0.99 and 0.94, 0.95, 0.93: standard deviations 1 % and 1.06 %
        assert ratio["deviation"] == {
            "share": pytest.approx(0.0103, rel=0.01),
            "degrees": 4,
            "source": "the sessions compared",
        }
        assert verdicts(row) == ["faster"] * 4
        assert [row] == report("--before", *before, "--after", *after)["rows"]

    def test_sessions_that_scatter_as_much_as_they_differ(self, tmp_path):
        sessions(tmp_path / "old", "s", (1.0, 1.03, 0.97))
        sessions(tmp_path / "new", "s", (0.99, 1.02, 0.96))
        arguments = ("--before", tmp_path / "old", "--after", tmp_path / "new")
        code, out, _ = run(*arguments, "--fail-on-regression")
        assert code == 0
        assert out.count("inconclusive") >= 4
        assert "3 sessions" in out

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--before", "a.json"], "belong together"),
            (["--before", "a.json", "--after", "b.json", "c.json", "--baseline", "x"], "baseline"),
            (["--before", "empty", "--after", "empty"], "without result files"),
            ([], "name result files"),
        ],
    )
    def test_wrong_sides_are_one_line(self, tmp_path, monkeypatch, arguments, words):
        (tmp_path / "empty").mkdir()
        monkeypatch.chdir(tmp_path)
        code, _, err = run(*arguments)
        assert code == 2
        assert one_line(err, words)

    def test_one_file_can_not_be_both_sides(self, tmp_path):
        (file,) = sessions(tmp_path, "s", (1.0,))
        code, _, err = run("--before", file, "--after", file)
        assert code == 2
        assert one_line(err, "twice")


class TestDefaultBaseline:
    def test_of_three_files_the_oldest_is_the_baseline(self, tmp_path):
        files = sessions(tmp_path, "s", (1.0, 1.0, 1.2))
        comparison = report(*reversed(files))
        assert {tuple(row["baseline_files"]) for row in comparison["rows"]} == {(files[0],)}
        assert any(
            f"baseline: the oldest file ({files[0]})" in note for note in comparison["notes"]
        )
        slowed = next(row for row in comparison["rows"] if row["files"] == [files[2]])
        assert verdicts(slowed) == ["slower"] * 4
        code, _, err = run(*files, "--fail-on-regression")
        assert code == 1
        assert "regression: thunder b1" in err

    def test_sets_are_sides(self, tmp_path):
        old = sessions(tmp_path, "old", (1.0, 1.01, 0.99), set_id="first")
        new = sessions(tmp_path, "new", (1.1, 1.11, 1.09), set_id="second")
        for path in map(Path, new):
            document = json.loads(path.read_text()) | {"created": "2026-02-01T00:00:00Z"}
            path.write_text(json.dumps(document))
        (row,) = report(*old, *new)["rows"]
        assert (row["baseline_files"], row["files"]) == (old, new)
        assert verdicts(row) == ["slower"] * 4

    def test_the_modes_of_one_set_are_paired_by_session(self, tmp_path):
        files = sessions(tmp_path, "s", (1.0, 1.2, 0.8), set_id="x", modes=("eager", "thunder"))
        (row,) = report(*files)["rows"]
        assert (row["baseline_label"], row["unit"]) == ("eager b1", "sessions")
        assert row["metrics"]["ttft_s"]["ratio"]["n_candidate"] == 3


class TestSavedSets:
    def pair(self, tmp_path, second=0.99):
        return (
            save(tmp_path / "a.json", fake_cell(seed=1)),
            save(tmp_path / "b.json", fake_cell(ttft_s=0.02 * second, tbot_s=0.006 * second)),
        )

    def test_the_deviation_comes_from_them(self, tmp_path):
        levels = (1.0, 1.002, 0.998, 1.001, 0.999)
        sessions(tmp_path / "saved", "s", levels, set_id="x")
        row = rows(*self.pair(tmp_path), "--history", tmp_path / "saved")["thunder b1"]
        deviation = row["metrics"]["tbot_s"]["ratio"]["deviation"]
        assert deviation["share"] == pytest.approx(np.log(levels).std(ddof=1), rel=0.1)
        assert (deviation["degrees"], deviation["source"]) == (4, "5 saved sessions")
        assert verdicts(row) == ["same"] * 4

    def test_results_of_the_working_directory_count(self, tmp_path):
        sessions(tmp_path / "elsewhere" / "results", "s", (1.0, 1.002, 0.998, 1.001, 0.999))
        row = rows(*self.pair(tmp_path))["thunder b1"]
        assert row["metrics"]["tbot_s"]["ratio"]["deviation"]["source"] == "5 saved sessions"

    @pytest.mark.parametrize(
        ("count", "changes"),
        [
            (4, {}),  # too few
            (5, {"environment": {"gpu": ENVIRONMENT["gpu"] | {"name": "NVIDIA H100"}}}),
            (5, {"modes": ("eager",)}),
            (5, {"environment": {"git_dirty": True}}),  # no set says that their code is one
        ],
    )
    def test_else_the_default_holds(self, tmp_path, count, changes):
        sessions(tmp_path / "saved", "s", (1.0, 1.002, 0.998, 1.001, 0.999)[:count], **changes)
        row = rows(*self.pair(tmp_path), "--history", tmp_path / "saved")["thunder b1"]
        assert row["metrics"]["tbot_s"]["ratio"]["deviation"]["source"].startswith("default")

    def test_files_that_are_compared_say_nothing_of_their_own_deviation(self, tmp_path):
        levels = (1.0, 1.002, 0.998, 1.001, 0.999, 1.0)
        files = sessions(tmp_path / "saved", "s", levels)
        (tmp_path / "copy").mkdir()
        for number, file in enumerate(files[:2]):
            (tmp_path / "copy" / f"{number}.json").write_text(Path(file).read_text())
        row = rows(*files[:2], "--history", tmp_path / "saved", tmp_path / "copy")["thunder b1"]
        assert row["metrics"]["tbot_s"]["ratio"]["deviation"]["source"].startswith("default")

    def test_broken_files_there_do_not_matter(self, tmp_path):
        sessions(tmp_path / "saved", "s", (1.0, 1.001))
        (tmp_path / "saved" / "broken.json").write_text('"NVIDIA H200 thunder')
        assert run(*self.pair(tmp_path), "--history", tmp_path / "saved")[0] == 0


def gpu(**fields):
    return {"gpu": ENVIRONMENT["gpu"] | fields}


CONDITIONS = {
    "gpu_memory_bytes": gpu(memory_bytes=10**11),
    "gpu_power_limit_w": gpu(power_limit_w=500.0),
    "gpu_max_sm_clock_hz": gpu(max_sm_clock_hz=1.5e9),
    "cpu": {"cpu": "another"},
    "driver": {"driver": "570.1"},
    "torch": {"torch": "2.10"},
    "triton": {"triton": "3.5"},
    "preloaded": {"preloaded": "x.so"},
    "nodes": {"nodes": 2},
    "git_commit": {"git_commit": "f" * 40},
}
CONFIGURED = {
    "seed": 7,
    "model_path": "/models/x",
    "warmup_iterations": 3,
    "compile_scope": "model",
    "compile_mode": "max-autotune",
    "all_reduce": "nccl",
}


class TestConditions:
    def check(self, first, second, name):
        """Said, and refused with --strict unless ignored; both sessions still compared."""
        difference = {
            difference["name"]: difference for difference in report(first, second)["differences"]
        }[name]
        assert [value["files"] for value in difference["values"]] == [[first], [second]]
        assert difference["changes_time"]
        code, out, err = run(first, second, "--strict")
        assert (code, out) == (2, "")
        assert one_line(err, f"--ignore {name}")
        code, out, _ = run(first, second, "--strict", "--ignore", name)
        assert code == 0
        assert "ignored on request" in " ".join(out.split())

    @pytest.mark.parametrize("name", CONDITIONS)
    def test_of_the_environment(self, tmp_path, name):
        first = save(tmp_path / "a.json", fake_cell())
        self.check(
            first, save(tmp_path / "b.json", fake_cell(), environment=CONDITIONS[name]), name
        )

    @pytest.mark.parametrize("name", CONFIGURED)
    def test_of_the_configuration(self, tmp_path, name):
        first = save(tmp_path / "a.json", fake_cell(), **{name: 0 if name == "seed" else None})
        self.check(first, save(tmp_path / "b.json", fake_cell(), **{name: CONFIGURED[name]}), name)

    def test_kernels_of_a_cell(self, tmp_path):
        options = [{"cuda_graphs": False, "linear": kernel} for kernel in ("torch", "gemv")]
        files = [
            save(tmp_path / f"{i}.json", fake_cell(options=option))
            for i, option in enumerate(options)
        ]
        self.check(*files, "linear")

    def test_checked_evidence_is_said_and_keeps_nothing_apart(self, tmp_path):
        first = save(tmp_path / "a.json", fake_cell())
        check = fake_cell()["output_check"] | {"checked": ["logits"]}
        second = save(tmp_path / "b.json", fake_cell(output_check=check))
        (difference,) = report(first, second)["differences"]
        assert (difference["name"], difference["changes_time"]) == ("checked", False)
        assert run(first, second, "--strict")[0] == 0

    def test_gpus_of_one_kind_are_named_and_pooled(self, tmp_path):
        before = [
            *sessions(tmp_path, "a", (1.0, 1.01), environment=gpu(uuid="GPU-1")),
            *sessions(tmp_path, "b", (1.0,), environment=gpu(uuid="GPU-2")),
        ]
        after = sessions(tmp_path, "c", (1.1, 1.11, 1.09), environment=gpu(uuid="GPU-1"))
        code, out, _ = run("--before", *before, "--after", *after, "--strict")
        assert code == 0
        text = " ".join(out.split())
        assert "gpu_uuid: GPU-1" in text
        assert "part of what sessions differ by" in text
        assert "thunder b1 (3 files) against thunder b1 (3 files): 3 sessions" in text

    def test_other_conditions_are_other_rows(self, tmp_path):
        before = sessions(tmp_path, "a", (1.0, 1.01))
        after = [
            *sessions(tmp_path, "b", (1.0, 1.01)),
            *sessions(tmp_path, "c", (0.8, 0.81), environment={"driver": "570.1"}),
        ]
        comparison = report("--before", *before, "--after", *after)
        assert [row["files"] for row in comparison["rows"]] == [after[:2], after[2:]]
        assert run("--before", *before, "--after", *after, "--strict")[0] == 2
        comparison = report("--before", *before, "--after", *after, "--ignore", "driver")
        assert [row["files"] for row in comparison["rows"]] == [after]

    def test_each_part_meets_the_part_most_like_it(self, tmp_path):
        old, new = {"driver": "570.1"}, {"driver": "580.1"}
        before = [
            *sessions(tmp_path, "a", (1.0,), environment=old),
            *sessions(tmp_path, "b", (1.0,), environment=new),
        ]
        after = sessions(tmp_path, "c", (1.0,), environment=new)
        comparison = report("--before", *before, "--after", *after)
        (row,) = comparison["rows"]
        assert row["baseline_files"] == [before[1]]
        (skipped,) = comparison["skipped"]
        assert (skipped["file"], "agrees better" in skipped["reason"]) == (before[0], True)

    def test_an_unknown_condition_is_refused(self, tmp_path):
        code, _, err = run(*sessions(tmp_path, "a", (1.0, 1.0)), "--ignore", "weather")
        assert code == 2
        assert one_line(err, "weather", "git_commit")


class TestGates:
    def test_a_cell_that_disappeared(self, tmp_path):
        before = save(tmp_path / "a.json", fake_cell("eager"), fake_cell("thunder"))
        after = save(tmp_path / "b.json", fake_cell("eager"))
        code, _, err = run(before, after, "--fail-on-regression")
        assert code == 1
        assert "missing: thunder b1" in err
        assert run(before, after, "--fail-on-regression", "--no-fail-on-missing")[0] == 0
        assert run(before, after, "--fail-on-missing")[0] == 1
        assert run(before, after)[0] == 0
        assert run("--before", before, "--after", after, "--fail-on-regression")[0] == 1

    def test_of_three_files_each_later_one_is_looked_at(self, tmp_path):
        files = sessions(tmp_path, "s", (1.0, 1.0), modes=("eager", "thunder"))
        files += [save(tmp_path / "z.json", fake_cell("eager"))]
        code, _, err = run(*files, "--fail-on-regression")
        assert code == 1
        assert err.startswith(f"missing: thunder b1 ({files[2]})")

    def test_a_mode_that_failed_in_a_session(self, tmp_path):
        cells = fake_cell("eager"), fake_cell("inductor"), fake_cell("thunder", status="oom")
        code, _, err = run(save(tmp_path / "s.json", *cells), "--fail-on-regression")
        assert code == 1
        assert err.startswith("regression: thunder b1")

    def test_inconclusive(self, tmp_path):
        files = sessions(tmp_path, "s", (1.0, 0.99))
        assert run(*files, "--fail-on-regression")[0] == 0
        code, _, err = run(*files, "--fail-on-inconclusive")
        assert code == 1
        assert "inconclusive: thunder b1" in err


class TestAnyWorkload:
    def test_metrics_are_those_of_the_file(self, tmp_path):
        cells = fake_forward_cell("eager"), fake_forward_cell("thunder", forward_s=0.03)
        path = save(tmp_path / "f.json", *cells, workload="forward", output_length=None)
        comparison = report(path)
        (row,) = comparison["rows"]
        assert list(row["metrics"])[:2] == ["forward_s", "tokens_per_s"]
        assert row["metrics"]["forward_s"]["ratio"]["ratio"] == pytest.approx(4 / 3, rel=0.01)
        assert row["metrics"]["tokens_per_s"]["value"] == pytest.approx(8 / 0.03, rel=0.01)
        assert row["title"].startswith("forward, NVIDIA H200")

    def test_two_workloads_are_not_compared(self, tmp_path):
        first = save(tmp_path / "a.json", fake_cell())
        second = save(tmp_path / "b.json", fake_forward_cell(), workload="forward")
        code, _, err = run(first, second)
        assert code == 2
        assert one_line(err, "workload generation | forward")


class TestManyComparisons:
    def test_modes_and_metrics_are_one_family_in_which_a_rate_counts_once(self, tmp_path):
        cells = [fake_cell(mode, noise=0.05, seed=i) for i, mode in enumerate(("eager", "thunder"))]
        (row,) = report(save(tmp_path / "s.json", *cells))["rows"]
        timed = ("ttft_s", "tbot_s", "total_s", "output_tokens_per_s")
        ratios = [row["metrics"][name]["ratio"] for name in timed]
        assert ratios[3]["p_adjusted"] == ratios[2]["p_adjusted"]
        ordered = sorted(ratios[:3], key=lambda ratio: ratio["p_value"])
        assert ordered[0]["p_adjusted"] == pytest.approx(
            min(ordered[0]["p_value"] * 3, ordered[1]["p_value"] * 1.5, ordered[2]["p_value"])
        )

    def test_twenty_files_take_less_than_a_second(self, tmp_path):
        files = []
        for index in range(20):
            cells = [fake_cell(mode, seed=index, runs=30) for mode in ("eager", "thunder")]
            files.append(save(tmp_path / f"{index}.json", *cells))
        started = time.process_time()
        assert run(*files)[0] == 0
        assert time.process_time() - started < 1.0


def test_all_published_files_at_once():
    files = list(map(str, PUBLISHED))
    comparison = report(*files)
    assert len(comparison["rows"]) > 20
    assert any("of those that hold a cell" in note for note in comparison["notes"])
    twice = [file for file in files if "same_twice" in file]
    (row,) = report(*twice)["rows"]
    assert row["metrics"]["tbot_s"]["ratio"]["ratio"] == pytest.approx(1, abs=0.001)
