"""What is compared with what: in a session, between sessions, and along a field on purpose."""

import pytest
from comparing import one_line, report, rows, run, verdicts
from fake_results import fake_cell, fake_gpu, fake_speedup, save

from inference_benchmark.reporting import saved_cells

FP8 = {"format": "fp8", "storage_bits": 8, "group_size": None, "compute": "fp8"}


class TestTwoFiles:
    def test_each_cell_is_compared_with_its_namesake(self, tmp_path):
        before = save(
            tmp_path / "before.json", fake_cell("eager", seed=1), fake_cell("thunder", seed=2)
        )
        after = save(
            tmp_path / "after.json",
            fake_cell("thunder", tbot_s=0.005, seed=3),
            fake_cell("eager", tbot_s=0.0075, seed=4),
        )
        rows_by_label = rows(before, after)
        assert verdicts(rows_by_label["thunder b1"]) == [
            "inconclusive",
            "faster",
            "faster",
            "faster",
        ]
        assert verdicts(rows_by_label["eager b1"]) == ["inconclusive", "slower", "slower", "slower"]
        assert rows_by_label["eager b1"]["baseline_label"] == "eager b1"
        assert rows_by_label["eager b1"]["unit"] == "sessions"

    def test_single_cells_of_different_modes_meet(self, tmp_path):
        before = save(tmp_path / "eager.json", fake_cell("eager", tbot_s=0.007))
        after = save(tmp_path / "thunder.json", fake_cell("thunder:inductor+graphs"))
        row = rows(before, after)["thunder:inductor+graphs b1"]
        assert row["baseline_label"] == "eager b1"
        assert verdicts(row)[1] == "faster"

    def test_a_lone_baseline_serves_all_unless_it_has_its_namesake(self, tmp_path):
        eager = save(tmp_path / "eager.json", fake_cell("eager"))
        compilers = fake_cell("thunder"), fake_cell("inductor")
        without = save(tmp_path / "without.json", *compilers)
        assert set(rows(eager, without)) == {"thunder b1", "inductor b1"}
        with_eager = save(tmp_path / "with.json", *compilers, fake_cell("eager"))
        assert set(rows(eager, with_eager)) == {"eager b1"}

    def test_equal_names_in_two_directories_are_told_apart(self, tmp_path):
        files = []
        for name in ("before", "after"):
            (tmp_path / name).mkdir()
            files.append(save(tmp_path / name / "r.json", fake_cell()))
        out = "".join(line.strip() for line in run(*files)[1].splitlines())
        assert "before/r.json" in out
        assert "after/r.json" in out

    def test_a_cell_without_counterpart_is_named(self, tmp_path):
        before = save(tmp_path / "a.json", fake_cell("eager"), fake_cell("inductor"))
        after = save(tmp_path / "b.json", fake_cell("eager"), fake_cell("eager", batch_size=8))
        _, out, _ = run(before, after)
        unwrapped = " ".join(out.split())
        assert "skipped: inductor b1 (a.json): no counterpart" in unwrapped
        assert "skipped: eager b8 (b.json): no counterpart" in unwrapped
        assert "differs in batch_size 8 | 1" in unwrapped

    def test_changed_software_is_noted(self, tmp_path):
        before = save(tmp_path / "a.json", fake_cell(), environment={"torch": "2.10.0"})
        after = save(tmp_path / "b.json", fake_cell(), environment={"torch": "2.11.0"})
        assert "  torch: 2.10.0 (a.json) | 2.11.0 (b.json)" in run(before, after)[1].splitlines()


class TestOneFile:
    def test_the_baseline_is_the_sessions_own_unless_named(self, tmp_path):
        session = save(
            tmp_path / "session.json",
            fake_cell("thunder+graphs", speedup=fake_speedup("inductor+graphs b1")),
            fake_cell("eager"),
            fake_cell("inductor+graphs"),
        )
        for arguments, baseline in (
            ([], "inductor+graphs b1"),
            (["--baseline", "eager"], "eager b1"),
            (["--baseline", "thunder"], "thunder+graphs b1"),
            (["--baseline", "thunder+graphs b1"], "thunder+graphs b1"),
        ):
            rows_by_label = rows(session, *arguments)
            assert {row["baseline_label"] for row in rows_by_label.values()} == {baseline}
            assert len(rows_by_label) == 2

    def test_batches_have_fingerprints_of_their_own(self, tmp_path):
        cells = [
            fake_cell(mode, batch_size=batch) for batch in (1, 8) for mode in ("eager", "thunder")
        ]
        rows_by_label = rows(save(tmp_path / "session.json", *cells))
        pairs = {label: row["baseline_label"] for label, row in rows_by_label.items()}
        assert pairs == {"thunder b1": "eager b1", "thunder b8": "eager b8"}

    def test_contexts_have_fingerprints_of_their_own(self, tmp_path):
        cells = [
            fake_cell(mode) | {"label": f"{mode} b1 d{depth}"}
            for depth in (0, 4096)
            for mode in ("eager", "thunder")
        ]
        for cell in cells:
            cell["name"] |= {"context_depth": int(cell["label"].partition(" d")[2])}
        rows_by_label = rows(save(tmp_path / "session.json", *cells))
        pairs = {label: row["baseline_label"] for label, row in rows_by_label.items()}
        assert pairs == {"thunder b1 d0": "eager b1 d0", "thunder b1 d4096": "eager b1 d4096"}

    def test_precision_of_a_cell_goes_before_that_of_the_session(self, tmp_path):
        fp8 = fake_cell("thunder:transformerengine", weights=FP8)
        rows_by_label = rows(save(tmp_path / "session.json", fake_cell("eager"), fp8))
        assert rows_by_label["thunder:transformerengine b1"]["baseline_label"] is None
        assert "fp8" in rows_by_label["thunder:transformerengine b1"]["title"]

    def test_a_lone_cell_still_gets_an_answer(self, tmp_path):
        code, out, _ = run(save(tmp_path / "session.json", fake_cell()))
        assert code == 0
        assert "thunder b1 (session.json): nothing to compare with" in out
        assert "6.00" in out


class TestManyFiles:
    def test_single_mode_files_are_compared_by_mode(self, tmp_path):
        files = [
            save(tmp_path / f"{mode}.json", fake_cell(mode, tbot_s=tbot_s, seed=index))
            for index, (mode, tbot_s) in enumerate(
                [("thunder", 0.0055), ("eager", 0.007), ("inductor", 0.0071)]
            )
        ]
        rows_by_label = rows(*files)
        assert {row["baseline_label"] for row in rows_by_label.values()} == {"eager b1"}
        assert verdicts(rows_by_label["thunder b1"])[1] == "faster"
        assert verdicts(rows_by_label["inductor b1"])[1] == "inconclusive"

    def test_files_of_one_mode_are_compared_with_the_first(self, tmp_path):
        files = [save(tmp_path / f"{i}.json", fake_cell(seed=i)) for i in range(3)]
        comparison = report(*files)
        assert [(row["files"], row["baseline_files"]) for row in comparison["rows"]] == [
            ([files[1]], [files[0]]),
            ([files[2]], [files[0]]),
        ]

    def test_unlike_cells_fall_into_groups(self, tmp_path):
        h200 = save(tmp_path / "a.json", fake_cell("eager"), fake_cell("thunder"))
        h100 = save(
            tmp_path / "b.json",
            fake_cell("eager"),
            fake_cell("thunder"),
            environment=fake_gpu("NVIDIA H100"),
        )
        layers = save(tmp_path / "c.json", fake_cell("eager", num_layers=4), num_layers=4)
        _, out, _ = run(h200, h100, layers)
        titles = [line for line in out.splitlines() if line.startswith("NVIDIA")]
        assert [title[:36] for title in titles] == [
            "NVIDIA H200, llama3.1-8b, 32 layers,",
            "NVIDIA H100, llama3.1-8b, 32 layers,",
            "NVIDIA H200, llama3.1-8b, 4 of 32 la",
        ]
        assert out.count("thunder b1 against eager b1") == 2

    def test_a_baseline_file_need_not_be_listed(self, tmp_path):
        base = save(tmp_path / "base.json", fake_cell("thunder", tbot_s=0.006))
        others = [
            save(tmp_path / f"{mode}.json", fake_cell(mode, tbot_s=0.005))
            for mode in ("eager", "thunder")
        ]
        listed = rows(base, *others, "--baseline", "base.json")
        assert listed == rows(*others, "--baseline", base)
        assert {tuple(row["baseline_files"]) for row in listed.values()} == {(base,)}


class TestFingerprints:
    def test_two_files_that_differ_are_refused_with_the_fields(self, tmp_path):
        before = save(tmp_path / "a.json", fake_cell())
        after = save(
            tmp_path / "b.json", fake_cell(num_layers=4), environment=fake_gpu("NVIDIA H100")
        )
        code, out, err = run(before, after)
        assert (code, out) == (2, "")
        assert one_line(err, "gpu NVIDIA H200 | NVIDIA H100", "num_layers 32 | 4", "--force")
        code, out, _ = run(before, after, "--force")
        assert code == 0
        unwrapped = " ".join(out.split())
        assert "thunder b1 [NVIDIA H100, 4 of 32 layers] (b.json) against" in unwrapped
        assert run(before, after, "--across", "gpu")[0] == 2  # the layers still differ

    @pytest.mark.parametrize(
        ("fields", "cell", "named"),
        [
            ({"model_name": "llama2-7b"}, {}, "model_name"),
            ({}, {"num_layers": 2}, "num_layers"),
            ({"input_length": 9}, {}, "input_length"),
            ({"output_length": 9}, {}, "output_length"),
            ({}, {"weights": FP8}, "precision"),
            ({}, {"batch_size": 2}, "batch_size"),
            ({}, {"timer": "wall"}, "timer"),
        ],
    )
    def test_every_field_of_it_counts(self, tmp_path, fields, cell, named):
        before = save(tmp_path / "a.json", fake_cell())
        after = save(tmp_path / "b.json", fake_cell(**cell), **fields)
        code, _, err = run(before, after)
        assert code == 2
        assert one_line(err, f"{named} ")

    def test_a_flag_that_decides_the_work_counts_without_a_field(self, tmp_path, monkeypatch):
        monkeypatch.setattr(saved_cells, "_FURTHER_FIELDS", ("adapter",))
        before = save(tmp_path / "a.json", fake_cell(), adapter="none")
        after = save(tmp_path / "b.json", fake_cell(), adapter="lora")
        code, _, err = run(before, after)
        assert code == 2
        assert one_line(err, "(('adapter', 'none'),) | (('adapter', 'lora'),)")

    def test_across_gpu(self, tmp_path):
        h200 = save(tmp_path / "a.json", fake_cell("eager"), fake_cell("thunder"))
        h100 = save(
            tmp_path / "b.json",
            fake_cell("eager", tbot_s=0.009),
            fake_cell("thunder", tbot_s=0.008),
            environment=fake_gpu("NVIDIA H100"),
        )
        rows_by_label = rows(h200, h100, "--across", "gpu")
        assert set(rows_by_label) == {"eager b1 [NVIDIA H100]", "thunder b1 [NVIDIA H100]"}
        assert (
            rows_by_label["thunder b1 [NVIDIA H100]"]["baseline_label"]
            == "thunder b1 [NVIDIA H200]"
        )
        assert verdicts(rows_by_label["thunder b1 [NVIDIA H100]"])[1] == "slower"
        for baseline in ("NVIDIA H100", h100):
            rows_by_label = rows(h200, h100, "--across", "gpu", "--baseline", baseline)
            assert verdicts(rows_by_label["thunder b1 [NVIDIA H200]"])[1] == "faster"

    def test_modes_that_took_no_turns_are_compared_as_runs(self, tmp_path):
        group = {"group": {"batch_size": 1, "interleaved": False}}
        cells = fake_cell("eager", **group), fake_cell("thunder", tbot_s=0.005, **group)
        out = run(save(tmp_path / "a.json", *cells))[1]
        assert "runs" in out
        assert "rounds" not in out
        alternating = save(tmp_path / "b.json", fake_cell("eager"), fake_cell("thunder"))
        assert "rounds" in run(alternating)[1]

    def test_across_batch_within_a_session(self, tmp_path):
        cells = [fake_cell(batch_size=batch) for batch in (1, 8)]
        session = save(tmp_path / "a.json", *cells)
        row = rows(session, "--across", "batch")["thunder b8"]
        assert (row["baseline_label"], row["unit"]) == ("thunder b1", "runs")
        assert verdicts(row) == ["same", "same", "same", "faster"]
        throughput = row["metrics"]["output_tokens_per_s"]
        assert throughput["ratio"]["ratio"] == pytest.approx(8, rel=0.01)
        assert "thunder b1" in rows(session, "--across", "batch", "--baseline", "8")
        code, _, err = run(session, "--across", "batch", "--baseline", "9")
        assert code == 2
        assert one_line(err, "'9'", "1, 8")

    def test_across_model_and_precision(self, tmp_path):
        first = save(tmp_path / "a.json", fake_cell())
        other = save(
            tmp_path / "b.json", fake_cell(num_layers=40), model_name="llama2-13b", num_layers=40
        )
        assert "thunder b1 [llama2-13b, 40 of 32 layers]" in rows(first, other, "--across", "model")
        shallow = save(tmp_path / "d.json", fake_cell(num_layers=4), num_layers=4)
        compared = report(other, first, shallow, "--across", "model")["rows"]
        names = ["llama3.1-8b, num_layers 32", "llama3.1-8b, num_layers 4"]
        assert [row["name"] for row in compared] == names
        fp8 = fake_cell("thunder:transformerengine", weights=FP8)
        mixed = save(tmp_path / "c.json", fake_cell(), fp8)
        (row,) = rows(mixed, "--across", "precision").values()
        assert row["label"] == "thunder:transformerengine b1 [fp8]"
        assert row["baseline_label"] == "thunder b1 [bf16]"


def test_a_file_named_twice(tmp_path):
    path = save(tmp_path / "a.json", fake_cell())
    code, _, err = run(path, str(tmp_path / "." / ".." / tmp_path.name / "a.json"))
    assert code == 2
    assert one_line(err, "twice")


def test_an_unknown_baseline_names_the_nearest(tmp_path):
    path = save(tmp_path / "a.json", fake_cell("eager"), fake_cell("thunder"))
    code, _, err = run(path, "--baseline", "thnder")
    assert code == 2
    assert one_line(err, "'thnder'", "did you mean thunder?", "eager, thunder")
