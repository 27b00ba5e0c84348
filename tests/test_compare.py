"""compare_results.py on saved sessions: what is compared with what, verdicts, errors, exit codes."""

import copy
import functools
import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from fake_results import fake_cell, fake_gpu, fake_result, save

import compare_results

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = json.loads((ROOT / "reporting" / "result.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


@pytest.fixture
def run(capsys):
    """Runs the command line; gives its exit code, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            code = compare_results.main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            code = exit_.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def rows(run):
    """The rows of the report by label, from --format json."""

    def rows(*arguments: str) -> dict[str, dict]:
        code, out, err = run(*arguments, "--format", "json")
        assert (code, err) == (0, "")
        return {row["label"]: row for row in json.loads(out)["rows"]}

    return rows


def verdicts(row: dict) -> list[str]:
    timed = ("ttft_s", "tbot_s", "total_s", "output_tokens_per_s")
    return [row["metrics"][key]["ratio"]["verdict"] for key in timed]


def one_line(err: str, *words: str) -> bool:
    return err.count("\n") == 1 and all(word in err for word in words)


class TestSchema:
    def test_fake_results_are_valid(self):
        VALIDATOR.check_schema(SCHEMA)
        empty = fake_cell("eager", runs=0, status="oom", error="out of memory", stop_reason=None)
        VALIDATOR.validate(fake_result([fake_cell(), empty], {"gpu": None}))

    def test_what_a_first_version_cannot_fill_may_be_null(self):
        unknown = ("limit", "samples", "summary", "speedup", "cold_start", "memory", "gpu_state")
        nothing = dict.fromkeys((*unknown, "agreement", "validity", "stop_reason"))
        VALIDATOR.validate(fake_result([fake_cell(**nothing, prefill_flops=None)]))

    def test_a_speedup_holds_ratios_or_null(self):
        ratio = {"ratio": 1.2, "ci95": [1.1, 1.3], "verdict": "faster"}
        speedup = {"baseline": "eager b1", "ttft": None, "tbot": ratio, "total": ratio}
        plain = {"ttft": ratio, "tbot": ratio, "total": None}
        VALIDATOR.validate(fake_result([fake_cell(speedup={**speedup, "plain_eager": plain})]))
        wrong = {**speedup, "tbot": {**ratio, "verdict": "better"}}
        assert not VALIDATOR.is_valid(fake_result([fake_cell(speedup=wrong)]))

    @pytest.mark.parametrize(
        "fields",
        [
            {"status": "fine"},
            {"timer": "stopwatch"},
            {"stop_reason": "tired"},
            {"validity": {"verdict": "valid"}},
            {"agreement": {}},
            {"limit": {"ttft_s": 0.1, "tbot_s": 0.1, "basis": "hope"}},
            {"batch_size": 0},
            {"unheard_of": 1},
        ],
    )
    def test_a_wrong_field_is_refused(self, fields):
        assert not VALIDATOR.is_valid(fake_result([fake_cell(**fields)]))

    @pytest.mark.parametrize("field", list(fake_cell()))
    def test_every_field_of_a_cell_is_required(self, field):
        cell = fake_cell()
        del cell[field]
        assert not VALIDATOR.is_valid(fake_result([cell]))

    @pytest.mark.parametrize("section", ["environment", "config", "model"])
    def test_named_fields_are_required_and_others_welcome_in_open_sections(self, section):
        result = fake_result([])
        result[section] |= {"something_else": 1}
        VALIDATOR.validate(result)
        result[section].popitem()
        first = next(iter(result[section]))
        del result[section][first]
        assert not VALIDATOR.is_valid(result)


class TestTwoFiles:
    def test_each_cell_is_compared_with_its_namesake(self, tmp_path, rows):
        before = save(
            tmp_path / "before.json", fake_cell("eager", seed=1), fake_cell("thunder", seed=2)
        )
        after = save(
            tmp_path / "after.json",
            fake_cell("thunder", tbot_s=0.0055, seed=3),
            fake_cell("eager", tbot_s=0.0066, seed=4),
        )
        found = rows(before, after)
        assert verdicts(found["thunder b1"]) == ["same", "faster", "faster", "faster"]
        assert verdicts(found["eager b1"]) == ["same", "slower", "slower", "slower"]
        assert found["eager b1"]["baseline_label"] == "eager b1"
        assert found["eager b1"]["unit"] == "runs"

    def test_ratios_and_values_of_every_metric(self, tmp_path, rows):
        slim = {**fake_cell()["memory"], "peak_allocated_bytes": 8_500_000_000}
        before = save(tmp_path / "before.json", fake_cell(ttft_s=0.02, tbot_s=0.01, noise=0))
        cell = fake_cell(ttft_s=0.01, tbot_s=0.0075, noise=0, memory=slim)
        cell["summary"]["cost_per_million_tokens"]["output"]["median"] = 1.0
        metrics = rows(before, save(tmp_path / "after.json", cell))["thunder b1"]["metrics"]
        found = {
            key: (each["baseline"], each["value"], each["ratio"]["ratio"])
            for key, each in metrics.items()
        }
        # 5 tokens: the first, and 4 decode steps
        assert found == {
            "ttft_s": pytest.approx((0.02, 0.01, 2.0)),
            "tbot_s": pytest.approx((0.01, 0.0075, 4 / 3)),
            "total_s": pytest.approx((0.06, 0.04, 1.5)),
            "output_tokens_per_s": pytest.approx((5 / 0.06, 5 / 0.04, 1.5)),
            "peak_memory_bytes": pytest.approx((17e9, 8.5e9, 2.0)),
            "cost_per_million_output_tokens": pytest.approx((2.0, 1.0, 2.0)),
        }
        assert metrics["peak_memory_bytes"]["ratio"]["verdict"] is None

    def test_one_session_per_side_is_said_to_be_one_and_has_the_wider_band(self, tmp_path, run):
        before = save(tmp_path / "before.json", fake_cell(seed=1))
        after = save(tmp_path / "after.json", fake_cell(ttft_s=0.0197, tbot_s=0.00591, seed=2))
        code, out, _ = run(before, after)
        assert code == 0
        assert "one session per side: differences between sessions are not measured" in out
        assert "1.015" in out
        assert out.count(" same") == 4
        _, out, _ = run(before, after, "--threshold", "0.01")
        assert out.count(" faster") == 4

    def test_inconclusive_says_how_many_more_runs(self, tmp_path, run):
        before = save(tmp_path / "before.json", fake_cell(noise=0.1, seed=1))
        after = save(tmp_path / "after.json", fake_cell(noise=0.1, seed=2))
        _, out, _ = run(before, after)
        assert " inconclusive +" in out
        assert "+N: about N more runs" in out

    def test_single_cells_of_different_modes_meet(self, tmp_path, rows):
        before = save(tmp_path / "eager.json", fake_cell("eager", tbot_s=0.007))
        after = save(tmp_path / "thunder.json", fake_cell("thunder:inductor+graphs"))
        row = rows(before, after)["thunder:inductor+graphs b1"]
        assert row["baseline_label"] == "eager b1"
        assert verdicts(row)[1] == "faster"

    def test_a_lone_baseline_serves_all_unless_it_has_its_namesake(self, tmp_path, rows):
        eager = save(tmp_path / "eager.json", fake_cell("eager"))
        compilers = fake_cell("thunder"), fake_cell("inductor")
        without = save(tmp_path / "without.json", *compilers)
        assert set(rows(eager, without)) == {"thunder b1", "inductor b1"}
        with_eager = save(tmp_path / "with.json", *compilers, fake_cell("eager"))
        assert set(rows(eager, with_eager)) == {"eager b1"}

    def test_equal_names_in_two_directories_are_told_apart(self, tmp_path, run):
        files = []
        for name in ("before", "after"):
            (tmp_path / name).mkdir()
            files.append(save(tmp_path / name / "r.json", fake_cell()))
        out = "".join(line.strip() for line in run(*files)[1].splitlines())
        assert "before/r.json" in out
        assert "after/r.json" in out

    def test_a_cell_without_counterpart_is_named(self, tmp_path, run):
        before = save(tmp_path / "a.json", fake_cell("eager"), fake_cell("inductor"))
        after = save(tmp_path / "b.json", fake_cell("eager"), fake_cell("eager", batch_size=8))
        _, out, _ = run(before, after)
        unwrapped = " ".join(out.split())
        assert f"skipped: inductor b1 ({before}): no counterpart" in unwrapped
        assert f"skipped: eager b8 ({after}): no counterpart" in unwrapped
        assert "differs in batch_size 8 | 1" in unwrapped

    def test_one_output_token_has_no_tbot(self, tmp_path, rows):
        files = []
        for name in ("a", "b"):
            cell = fake_cell()
            cell["samples"]["decode_s"] = [0.0] * 10
            files.append(save(tmp_path / f"{name}.json", cell, output_length=1))
        metrics = rows(*files)["thunder b1"]["metrics"]
        assert metrics["tbot_s"] == {"baseline": None, "value": None, "ratio": None}
        assert metrics["total_s"]["ratio"]["verdict"] == "same"

    def test_changed_software_is_noted(self, tmp_path, run):
        before = save(tmp_path / "a.json", fake_cell(), environment={"torch": "2.10.0"})
        after = save(tmp_path / "b.json", fake_cell(), environment={"torch": "2.11.0"})
        assert "sessions differ in torch 2.10.0 | 2.11.0" in run(before, after)[1]


class TestOneFile:
    def test_cells_are_paired_by_round(self, tmp_path, rows):
        cells = [
            fake_cell("eager", drift=0.3, noise=0.001, seed=1),
            fake_cell("thunder", drift=0.3, noise=0.001, ttft_s=0.0194, tbot_s=0.00582, seed=2),
        ]
        together = rows(save(tmp_path / "session.json", *cells))["thunder b1"]
        assert (together["baseline_label"], together["unit"]) == ("eager b1", "rounds")
        assert verdicts(together) == ["faster"] * 4
        apart = [save(tmp_path / f"{cell['mode']}.json", cell) for cell in cells]
        assert verdicts(rows(*apart)["thunder b1"]) == ["inconclusive"] * 4

    def test_only_rounds_that_both_finished_count(self, tmp_path, rows):
        short = fake_cell("thunder", runs=6, seed=2)
        short["samples"]["round"] = [2, 3, 4, 5, 6, 7]
        found = rows(save(tmp_path / "session.json", fake_cell("eager", runs=7), short))
        assert found["thunder b1"]["metrics"]["ttft_s"]["ratio"]["n_baseline"] == 5

    def test_the_band_is_one_percent(self, tmp_path, rows):
        cells = fake_cell("eager", seed=1), fake_cell("thunder", tbot_s=0.00591, seed=2)
        found = rows(save(tmp_path / "session.json", *cells))["thunder b1"]
        assert found["metrics"]["tbot_s"]["ratio"]["band"] == 0.01
        assert verdicts(found)[:2] == ["same", "faster"]

    def test_the_baseline_is_the_sessions_own_unless_named(self, tmp_path, rows):
        speedup = {"baseline": "inductor+graphs b1", "ttft": None, "tbot": None, "total": None}
        session = save(
            tmp_path / "session.json",
            fake_cell("thunder+graphs", speedup=speedup),
            fake_cell("eager"),
            fake_cell("inductor+graphs"),
        )
        for arguments, baseline in (
            ([], "inductor+graphs b1"),
            (["--baseline", "eager"], "eager b1"),
            (["--baseline", "thunder"], "thunder+graphs b1"),
            (["--baseline", "thunder+graphs b1"], "thunder+graphs b1"),
        ):
            found = rows(session, *arguments)
            assert {row["baseline_label"] for row in found.values()} == {baseline}
            assert len(found) == 2

    def test_batches_have_fingerprints_of_their_own(self, tmp_path, rows):
        cells = [
            fake_cell(mode, batch_size=batch) for batch in (1, 8) for mode in ("eager", "thunder")
        ]
        found = rows(save(tmp_path / "session.json", *cells))
        pairs = {label: row["baseline_label"] for label, row in found.items()}
        assert pairs == {"thunder b1": "eager b1", "thunder b8": "eager b8"}

    def test_precision_of_a_cell_goes_before_that_of_the_session(self, tmp_path, rows):
        fp8 = fake_cell("thunder:transformerengine", options={"precision": "fp8"})
        found = rows(save(tmp_path / "session.json", fake_cell("eager"), fp8))
        assert found["thunder:transformerengine b1"]["baseline_label"] is None
        assert "fp8" in found["thunder:transformerengine b1"]["title"]

    def test_a_lone_cell_still_gets_an_answer(self, tmp_path, run):
        code, out, _ = run(save(tmp_path / "session.json", fake_cell()))
        assert code == 0
        assert "thunder b1 (session.json): nothing to compare with" in out
        assert "6.00" in out


class TestManyFiles:
    def test_single_mode_files_are_compared_by_mode(self, tmp_path, rows):
        files = [
            save(tmp_path / f"{mode}.json", fake_cell(mode, tbot_s=tbot_s, seed=index))
            for index, (mode, tbot_s) in enumerate(
                [("thunder", 0.0058), ("eager", 0.007), ("inductor", 0.0071)]
            )
        ]
        found = rows(*files)
        assert {row["baseline_label"] for row in found.values()} == {"eager b1"}
        assert verdicts(found["thunder b1"])[1] == "faster"
        assert verdicts(found["inductor b1"])[1] == "same"  # 1.4 % is within 2 %

    def test_files_of_one_mode_are_compared_with_the_first(self, tmp_path, run):
        files = [save(tmp_path / f"{i}.json", fake_cell(seed=i)) for i in range(3)]
        report = json.loads(run(*files, "--format", "json")[1])
        assert [(row["files"], row["baseline_files"]) for row in report["rows"]] == [
            ([files[1]], [files[0]]),
            ([files[2]], [files[0]]),
        ]

    def test_the_session_is_the_unit_where_there_are_several(self, tmp_path, rows):
        shifts = (1.0, 1.02, 0.98, 1.01, 0.99)
        files = [
            save(tmp_path / f"{mode}{i}.json", fake_cell(mode, ttft_s=0.02 * x, tbot_s=0.006 * x))
            for mode in ("eager", "thunder")
            for i, x in enumerate(shifts if mode == "eager" else [x * 0.99 for x in shifts])
        ]
        row = rows(*files)["thunder b1"]
        assert row["unit"] == "sessions"
        ratio = row["metrics"]["tbot_s"]["ratio"]
        assert (ratio["n_baseline"], ratio["n_candidate"]) == (5, 5)
        assert verdicts(row) == ["inconclusive"] * 4  # sessions scatter by more than they differ

    def test_interleaved_sessions_are_paired_session_by_session(self, tmp_path, run):
        files = []
        for i, level in enumerate((1.0, 1.2, 0.8, 1.1)):
            eager = fake_cell("eager", ttft_s=0.02 * level, tbot_s=0.006 * level, seed=i)
            thunder = fake_cell("thunder", ttft_s=0.019 * level, tbot_s=0.0057 * level, seed=i + 9)
            files.append(save(tmp_path / f"{i}.json", eager, thunder))
        files.append(save(tmp_path / "alone.json", fake_cell("thunder")))
        report = json.loads(run(*files, "--format", "json")[1])
        (row,) = report["rows"]
        assert (row["unit"], len(row["files"])) == ("sessions", 4)
        assert verdicts(row) == ["faster"] * 4
        assert any("without" in note and "alone.json" in note for note in report["notes"])

    def test_unlike_cells_fall_into_groups(self, tmp_path, run):
        h200 = save(tmp_path / "a.json", fake_cell("eager"), fake_cell("thunder"))
        h100 = save(
            tmp_path / "b.json",
            fake_cell("eager"),
            fake_cell("thunder"),
            environment=fake_gpu("NVIDIA H100"),
        )
        layers = save(tmp_path / "c.json", fake_cell("eager"), num_layers=4)
        _, out, _ = run(h200, h100, layers)
        titles = [line for line in out.splitlines() if line.startswith("NVIDIA")]
        assert [title[:36] for title in titles] == [
            "NVIDIA H200, llama3.1-8b, 32 layers,",
            "NVIDIA H100, llama3.1-8b, 32 layers,",
            "NVIDIA H200, llama3.1-8b, 4 of 32 la",
        ]
        assert out.count("thunder b1 against eager b1") == 2

    def test_a_baseline_file_need_not_be_listed(self, tmp_path, rows):
        base = save(tmp_path / "base.json", fake_cell("thunder", tbot_s=0.006))
        others = [
            save(tmp_path / f"{mode}.json", fake_cell(mode, tbot_s=0.005))
            for mode in ("eager", "thunder")
        ]
        listed = rows(base, *others, "--baseline", "base.json")
        assert listed == rows(*others, "--baseline", base)
        assert {tuple(row["baseline_files"]) for row in listed.values()} == {(base,)}

    def test_a_geometric_mean_over_the_cells_of_a_mode(self, tmp_path, run):
        cells = [
            fake_cell(mode, batch_size=batch, ttft_s=ttft_s, noise=0)
            for batch, mode, ttft_s in (
                *((1, "eager", 0.02), (1, "thunder", 0.01)),
                *((8, "eager", 0.16), (8, "thunder", 0.02)),
            )
        ]
        report = json.loads(run(save(tmp_path / "a.json", *cells), "--format", "json")[1])
        assert report["geometric_means"]["thunder"]["ttft_s"] == pytest.approx(4.0)  # of 2 and 8
        report = json.loads(run(save(tmp_path / "b.json", *cells[:2]), "--format", "json")[1])
        assert report["geometric_means"] == {}  # one cell has no mean

    def test_verdicts_allow_for_the_number_of_cells(self, tmp_path, rows):
        # Among 59 cells without a difference, one in a hundred has p < 0.01 by chance.
        cells = [fake_cell("eager", noise=0.05, seed=99)]
        cells += [fake_cell(f"thunder:m{seed}", noise=0.05, seed=seed) for seed in range(1, 60)]
        path = save(tmp_path / "many.json", *cells)
        found = rows(path, "--baseline", "eager")
        ratios = [row["metrics"]["ttft_s"]["ratio"] for row in found.values()]
        lucky = [r for r in ratios if r["p_value"] < 0.01]
        assert lucky
        assert all(r["p_adjusted"] >= r["p_value"] for r in ratios)
        assert all(r["verdict"] == "inconclusive" for r in lucky)


class TestFingerprints:
    def test_two_files_that_differ_are_refused_with_the_fields(self, tmp_path, run):
        before = save(tmp_path / "a.json", fake_cell())
        after = save(
            tmp_path / "b.json", fake_cell(), environment=fake_gpu("NVIDIA H100"), num_layers=4
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
            ({"num_layers": 2}, {}, "num_layers"),
            ({"input_length": 9}, {}, "input_length"),
            ({"output_length": 9}, {}, "output_length"),
            ({"precision": "fp16"}, {}, "precision"),
            ({}, {"batch_size": 2}, "batch_size"),
            ({}, {"timer": "wall"}, "timer"),
        ],
    )
    def test_every_field_of_it_counts(self, tmp_path, run, fields, cell, named):
        before = save(tmp_path / "a.json", fake_cell())
        after = save(tmp_path / "b.json", fake_cell(**cell), **fields)
        code, _, err = run(before, after)
        assert code == 2
        assert one_line(err, f"{named} ")

    def test_across_gpu(self, tmp_path, rows):
        h200 = save(tmp_path / "a.json", fake_cell("eager"), fake_cell("thunder"))
        h100 = save(
            tmp_path / "b.json",
            fake_cell("eager", tbot_s=0.009),
            fake_cell("thunder", tbot_s=0.008),
            environment=fake_gpu("NVIDIA H100"),
        )
        found = rows(h200, h100, "--across", "gpu")
        assert set(found) == {"eager b1 [NVIDIA H100]", "thunder b1 [NVIDIA H100]"}
        assert found["thunder b1 [NVIDIA H100]"]["baseline_label"] == "thunder b1 [NVIDIA H200]"
        assert verdicts(found["thunder b1 [NVIDIA H100]"])[1] == "slower"
        for baseline in ("NVIDIA H100", h100):
            found = rows(h200, h100, "--across", "gpu", "--baseline", baseline)
            assert verdicts(found["thunder b1 [NVIDIA H200]"])[1] == "faster"

    def test_across_batch_within_a_session(self, tmp_path, rows, run):
        cells = [fake_cell(batch_size=batch) for batch in (1, 8)]
        session = save(tmp_path / "a.json", *cells)
        row = rows(session, "--across", "batch")["thunder b8"]
        assert (row["baseline_label"], row["unit"]) == ("thunder b1", "rounds")
        assert verdicts(row) == ["same", "same", "same", "faster"]
        throughput = row["metrics"]["output_tokens_per_s"]
        assert throughput["ratio"]["ratio"] == pytest.approx(8, rel=0.01)
        assert "thunder b1" in rows(session, "--across", "batch", "--baseline", "8")
        code, _, err = run(session, "--across", "batch", "--baseline", "9")
        assert code == 2
        assert one_line(err, "'9'", "1, 8")

    def test_across_model_and_precision(self, tmp_path, rows):
        first = save(tmp_path / "a.json", fake_cell())
        other = save(tmp_path / "b.json", fake_cell(), model_name="llama2-13b", num_layers=40)
        assert "thunder b1 [llama2-13b, 40 of 32 layers]" in rows(first, other, "--across", "model")
        fp8 = fake_cell("thunder:transformerengine", options={"precision": "fp8"})
        mixed = save(tmp_path / "c.json", fake_cell(), fp8)
        (row,) = rows(mixed, "--across", "precision").values()
        assert row["label"] == "thunder:transformerengine b1 [fp8]"
        assert row["baseline_label"] == "thunder b1 [bf16]"


class TestSkipped:
    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({"status": "oom", "error": "needs 40 GB, 20 free"}, "oom: needs 40 GB, 20 free"),
            ({"status": "unsupported", "error": None}, "unsupported"),
            ({"status": "wrong_output", "error": None}, "wrong output"),
            ({"agreement": {"passed": False}}, "wrong output"),
            ({"status": "partial", "samples": None}, "no finished run"),
        ],
    )
    def test_cells_without_a_speed_are_named_with_the_reason(self, tmp_path, run, fields, reason):
        cells = fake_cell("eager"), fake_cell("thunder", **fields), fake_cell("inductor")
        code, out, _ = run(save(tmp_path / "s.json", *cells))
        assert code == 0
        assert f"skipped: thunder b1 ({tmp_path / 's.json'}): {reason}" in " ".join(out.split())
        assert "inductor b1 against eager b1" in out
        assert "thunder b1 against" not in out

    def test_a_partial_cell_is_compared_and_said_to_be_partial(self, tmp_path, run):
        cells = fake_cell("eager"), fake_cell("thunder", status="partial", runs=5)
        _, out, _ = run(save(tmp_path / "s.json", *cells))
        assert "thunder b1 against eager b1 (s.json): 5 rounds" in out
        assert "is partial: its session didn't end" in " ".join(out.split())

    def test_doubtful_validity_is_noted(self, tmp_path, run):
        reason = {"code": "throttled", "message": "hot", "remedy": "cool"}
        cell = fake_cell("thunder", validity={"verdict": "suspect", "reasons": [reason]})
        _, out, _ = run(save(tmp_path / "s.json", fake_cell("eager"), cell))
        assert "is suspect (throttled)" in " ".join(out.split())


class TestGate:
    def test_exit_codes(self, tmp_path, run):
        before = save(tmp_path / "before.json", fake_cell(seed=1))
        slower = save(tmp_path / "slower.json", fake_cell(tbot_s=0.0063, seed=2))
        gate = "--fail-on-regression"
        assert run(before, slower)[0] == 0
        assert run(before, slower, gate)[0] == 1
        assert run(slower, before, gate)[0] == 0
        assert run(before, slower, gate, "--threshold", "0.1")[0] == 0
        _, out, err = run(before, slower, gate)
        assert "slower" in out
        assert "regression: thunder b1" in err
        assert "tbot_s is 0.952 x the speed of thunder b1" in err

    def test_noise_is_no_regression(self, tmp_path, run):
        before = save(tmp_path / "a.json", fake_cell(noise=0.1, seed=1))
        after = save(tmp_path / "b.json", fake_cell(noise=0.1, seed=2))
        assert run(before, after, "--fail-on-regression")[0] == 0

    @pytest.mark.parametrize(
        ("status", "code"), [("oom", 1), ("wrong_output", 1), ("unsupported", 0)]
    )
    def test_a_cell_that_broke_is_a_regression(self, tmp_path, run, status, code):
        before = save(tmp_path / "a.json", fake_cell("eager"), fake_cell("thunder"))
        after = save(tmp_path / "b.json", fake_cell("eager"), fake_cell("thunder", status=status))
        assert run(before, after, "--fail-on-regression")[0] == code
        assert run(after, before, "--fail-on-regression")[0] == 0  # it was mended

    def test_nothing_compared_is_no_success(self, tmp_path, run):
        code, _, err = run(save(tmp_path / "a.json", fake_cell()), "--fail-on-regression")
        assert code == 2
        assert one_line(err, "nothing to compare")


BROKEN = {
    "empty": ("", "empty"),
    "blank": (" \n", "empty"),
    "truncated": (json.dumps(fake_result([fake_cell()]))[:-40], "truncated"),
    "nested": ("[" * 100_000, "truncated"),
    "foreign": ('{"results": [1, 2]}', "not a result file"),
    "list": ("[1, 2, 3]", "not a result file"),
    "hollow": ('{"schema_version": 1}', "no cells"),
    "newer": ('{"schema_version": 2, "cells": []}', "schema version 2"),
    "odd": (json.dumps(fake_result([{**fake_cell(), "samples": {"ttft_s": ["x"]}}])), "whole"),
}


def places(result: dict) -> list[tuple]:
    """(how to get at a section, a key in it) for every field near the top of a result."""

    def section(*path):
        return lambda result: functools.reduce(lambda part, key: part[key], path, result)

    paths = [(), ("environment",), ("config",), ("cells", 1), ("environment", "gpu")]
    paths += [("cells", 1, name) for name in ("samples", "summary", "memory", "options")]
    paths += [("cells", 1, name) for name in ("validity", "agreement")]
    return [(section(*path), key) for path in paths for key in section(*path)(result)]


class TestErrors:
    @pytest.mark.parametrize("name", BROKEN)
    def test_a_broken_file_is_named_in_one_line(self, tmp_path, run, name):
        text, words = BROKEN[name]
        good = save(tmp_path / "good.json", fake_cell())
        bad = tmp_path / "bad.json"
        bad.write_text(text)
        other = save(tmp_path / "other.json", fake_cell("eager"))
        for files in ([bad], [good, bad], [good, bad, other]):
            code, out, err = run(*files)
            assert (code, out) == (2, "")
            assert one_line(err, str(bad), words)

    def test_any_field_may_be_of_any_kind_without_a_traceback(self, tmp_path, run):
        path = tmp_path / "odd.json"
        good = fake_result([fake_cell("eager"), fake_cell("thunder")])
        for section, key in places(good):
            for value in (None, [], [None], {}, {"a": []}, "x", -1, True):
                result = copy.deepcopy(good)
                section(result)[key] = value
                path.write_text(json.dumps(result))
                code, _, err = run(path)
                assert code in (0, 2), (key, value)
                assert err.count("\n") == (code == 2), (key, value)

    def test_samples_that_are_no_times_are_refused(self, tmp_path, run):
        cell = fake_cell()
        cell["samples"]["ttft_s"][3] = float("nan")
        path = save(tmp_path / "nan.json", cell)
        code, _, err = run(path)
        assert code == 2
        assert one_line(err, path, "positive")

    def test_files_that_cannot_be_read(self, tmp_path, run):
        binary = tmp_path / "binary.json"
        binary.write_bytes(b"\x80\x81\x82")
        for path in (tmp_path / "missing.json", tmp_path, binary):
            code, _, err = run(path)
            assert code == 2
            assert one_line(err, str(path))

    def test_a_file_named_twice(self, tmp_path, run):
        path = save(tmp_path / "a.json", fake_cell())
        code, _, err = run(path, str(tmp_path / "." / ".." / tmp_path.name / "a.json"))
        assert code == 2
        assert one_line(err, "twice")

    def test_an_unknown_baseline_names_the_nearest(self, tmp_path, run):
        path = save(tmp_path / "a.json", fake_cell("eager"), fake_cell("thunder"))
        code, _, err = run(path, "--baseline", "thnder")
        assert code == 2
        assert one_line(err, "'thnder'", "did you mean thunder?", "eager, thunder")

    @pytest.mark.parametrize("arguments", [["--threshold", "5"], ["--threshold", "-1"], []])
    def test_wrong_arguments(self, run, arguments):
        code, _, err = run(*arguments, *(["x.json"] if arguments else []))
        assert code == 2
        assert err.count("\n") == 1


class TestOutput:
    def test_nothing_is_wider_than_80_columns(self, tmp_path, run):
        long = "thunder:inductor_cat,transformerengine+nographs"
        names = ("a" * 60, "b" * 90)
        files = [
            save(
                tmp_path / f"{name}.json",
                fake_cell("eager", batch_size=128, ttft_s=2000.0, tbot_s=90.0, seed=i),
                fake_cell(long, batch_size=128, ttft_s=0.0011, noise=0.4, seed=i + 2),
                fake_cell("inductor", status="failed", error="x" * 300),
            )
            for i, name in enumerate(names)
        ]
        for arguments in (files, files[:1]):
            out = run(*arguments)[1]
            assert max(map(len, out.splitlines())) <= 80
            assert long in out.replace("\n  ", "")

    def test_the_block_of_a_row(self, tmp_path, run):
        cells = fake_cell("eager", noise=0), fake_cell("thunder", tbot_s=0.004, noise=0)
        _, out, _ = run(save(tmp_path / "s.json", *cells))
        assert out.splitlines()[3:10] == [
            "thunder b1 against eager b1 (s.json): 10 rounds",
            "                 baseline       cell  ratio  95 % interval  verdict",
            "  TTFT, ms          20.00      20.00  1.000  1.000 - 1.000  same",
            "  TBOT, ms          6.000      4.000  1.500  1.500 - 1.500  faster",
            "  total, s         0.0440     0.0360  1.222  1.222 - 1.222  faster",
            "  output tok/s        114        139  1.222  1.222 - 1.222  faster",
            "  peak, GB          17.00      17.00  1.000              -  -",
        ]

    def test_markdown_rows_have_seven_columns(self, tmp_path, run):
        _, out, _ = run(
            save(tmp_path / "s.json", fake_cell("eager"), fake_cell("thunder", tbot_s=0.004)),
            *("--format", "markdown"),
        )
        table = [line for line in out.splitlines() if line.startswith("|")]
        assert len(table) == 8
        assert {line.count("|") for line in table} == {8}
        assert "| TBOT, ms | 6.000 | 4.000 | 1.500 |" in table[3]

    def test_help_shows_examples_within_80_columns(self, run, monkeypatch):
        monkeypatch.setenv("COLUMNS", "80")
        code, out, _ = run("--help")
        assert code == 0
        assert "compare_results.py before.json after.json" in out
        assert max(map(len, out.splitlines())) <= 80

    def test_neither_torch_nor_scipy_stats_is_imported(self, tmp_path):
        path = save(tmp_path / "s.json", fake_cell("eager"), fake_cell("thunder"))
        program = (
            "import sys, compare_results\n"
            "assert not [m for m in sys.modules if m.split('.')[0] in ('torch', 'scipy')]\n"
            f"assert compare_results.main([{path!r}]) == 0\n"
            "assert not {'torch', 'scipy.stats', 'jsonschema'} & set(sys.modules)\n"
        )
        subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True)

    def test_a_reader_that_leaves_early_sees_no_traceback(self, tmp_path):
        path = save(tmp_path / "s.json", fake_cell("eager"), fake_cell("thunder"))
        command = f"{sys.executable} compare_results.py {path} | true"
        done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
        assert done.stderr == ""
