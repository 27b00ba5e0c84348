"""The command line of compare_results.py: exit codes, the gate, and what is printed."""

import csv
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from comparing import one_line, report, run
from conftest import ROOT
from fake_results import fake_cell, save


class TestGate:
    def test_exit_codes(self, tmp_path):
        before = save(tmp_path / "before.json", fake_cell(seed=1))
        slower = save(tmp_path / "slower.json", fake_cell(tbot_s=0.0066, seed=2))
        gate = "--fail-on-regression"
        assert run(before, slower)[0] == 0
        assert run(before, slower, gate)[0] == 1
        assert run(slower, before, gate)[0] == 0
        assert run(before, slower, gate, "--threshold", "0.1")[0] == 0
        _, out, err = run(before, slower, gate)
        assert "slower" in out
        assert "regression: thunder b1" in err
        assert "tbot_s is 0.909 x the speed of thunder b1" in err

    def test_noise_is_no_regression(self, tmp_path):
        before = save(tmp_path / "a.json", fake_cell(noise=0.1, seed=1))
        after = save(tmp_path / "b.json", fake_cell(noise=0.1, seed=2))
        assert run(before, after, "--fail-on-regression")[0] == 0

    @pytest.mark.parametrize(
        ("status", "code"), [("oom", 1), ("wrong_output", 1), ("unsupported", 1)]
    )
    def test_a_cell_that_broke_is_a_regression(self, tmp_path, status, code):
        before = save(tmp_path / "a.json", fake_cell("eager"), fake_cell("thunder"))
        after = save(tmp_path / "b.json", fake_cell("eager"), fake_cell("thunder", status=status))
        assert run(before, after, "--fail-on-regression")[0] == code
        assert run(after, before, "--fail-on-regression")[0] == 0  # it was mended

    def test_nothing_compared_is_no_success(self, tmp_path):
        code, _, err = run(save(tmp_path / "a.json", fake_cell()), "--fail-on-regression")
        assert code == 2
        assert one_line(err, "nothing to compare")


@pytest.mark.parametrize("arguments", [["--threshold", "5"], ["--threshold", "-1"], []])
def test_wrong_arguments(arguments):
    code, _, err = run(*arguments, *(["x.json"] if arguments else []))
    assert code == 2
    assert err.count("\n") == 1


class TestOutput:
    def test_nothing_is_wider_than_80_columns(self, tmp_path):
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

    def test_the_block_of_a_row(self, tmp_path):
        cells = fake_cell("eager", noise=0), fake_cell("thunder", tbot_s=0.004, noise=0)
        _, out, _ = run(save(tmp_path / "s.json", *cells))
        assert out.splitlines()[3:10] == [
            "thunder b1 against eager b1 (s.json): 10 rounds",
            "                 baseline       cell  ratio  95 % interval  verdict",
            "  TTFT, ms          20.00      20.00  1.000  1.000 - 1.000  same",
            "  TBOT, ms          6.000      4.000  1.500  1.500 - 1.500  faster",
            "  total, ms         44.00      36.00  1.222  1.222 - 1.222  faster",
            "  tok/s               114        139  1.222  1.222 - 1.222  faster",
            "  peak, GB          17.00      17.00  1.000              -  -",
        ]

    def test_long_file_names_are_numbered(self, tmp_path):
        names = ("llama3.1-8b_chat_thunder-graphs_1.json", "llama3.1-8b_chat_thunder-graphs_2.json")
        cells = fake_cell("eager"), fake_cell("inductor"), fake_cell("thunder", status="failed")
        files = [save(tmp_path / name, *cells[: 2 + i]) for i, name in enumerate(names)]
        out = run(*files)[1]
        legend, rest = out.split("\n\n", 1)
        assert "".join(legend.split()) == f"[1]{files[0]}[2]{files[1]}"
        assert "eager b1 [2] against eager b1 [1]: one session a side" in rest
        assert "skipped: thunder b1 [2]: failed" in rest
        assert names[0] not in rest

    def test_what_is_said_of_several_cells_is_said_once(self, tmp_path):
        reason = dict.fromkeys(("message", "remedy"), "wait")
        reason |= {"code": "drift", "severity": "suspect"}
        validity = {"verdict": "suspect", "reasons": [reason, reason]}
        cells = [fake_cell(mode, validity=validity) for mode in ("eager", "inductor")]
        lost = [fake_cell("eager", batch_size=size) for size in (2, 4)]
        out = run(
            save(tmp_path / "a.json", *cells), save(tmp_path / "b.json", cells[0], *lost, cells[1])
        )[1]
        assert "note: eager b1, inductor b1 (a.json): suspect (drift)" in out
        assert out.count("skipped") == 2  # of batch 2 and 4: the reasons differ

    def test_nothing_to_compare_is_said(self, tmp_path):
        code, out, _ = run(save(tmp_path / "a.json"))
        assert (code, out) == (0, "nothing to compare\n")

    def test_markdown_rows_have_seven_columns(self, tmp_path):
        _, out, _ = run(
            save(tmp_path / "s.json", fake_cell("eager"), fake_cell("thunder", tbot_s=0.004)),
            *("--format", "markdown"),
        )
        table = [line for line in out.splitlines() if line.startswith("|")]
        assert len(table) == 8
        assert {line.count("|") for line in table} == {8}
        assert "| TBOT, ms | 6.000 | 4.000 | 1.500 |" in table[3]

    def test_csv_has_a_line_per_cell_and_metric(self, tmp_path):
        before = save(tmp_path / "a.json", fake_cell(noise=0))
        after = save(tmp_path / "b.json", fake_cell(noise=0, tbot_s=0.005))
        _, out, _ = run(before, after, "--format", "csv")
        lines = list(csv.DictReader(io.StringIO(out)))
        assert [line["metric"] for line in lines][:2] == ["ttft_s", "tbot_s"]
        tbot = lines[1]
        assert (tbot["unit"], tbot["baseline"], tbot["value"]) == ("s", "0.006", "0.005")
        assert (tbot["verdict"], tbot["deviation"]) == ("faster", "0.013")
        assert tbot["deviation_source"].startswith("default")

    def test_json_says_what_each_verdict_rests_on(self, tmp_path):
        before = save(tmp_path / "a.json", fake_cell(seed=1))
        after = save(tmp_path / "b.json", fake_cell(seed=2), environment={"driver": "570"})
        comparison = report(before, after)
        assert comparison["to_decide"]
        assert [difference["name"] for difference in comparison["differences"]] == ["driver"]
        assert comparison["inconclusive"]

    def test_standard_input_is_a_file(self, tmp_path, monkeypatch):
        path = save(tmp_path / "s.json", fake_cell("eager"), fake_cell("thunder"))
        monkeypatch.setattr("sys.stdin", io.StringIO(Path(path).read_text()))
        code, out, _ = run("-")
        assert code == 0
        assert "thunder b1 against eager b1 (-): 10 rounds" in out

    def test_what_is_differing_is_in_markdown_too(self, tmp_path):
        before = save(tmp_path / "a.json", fake_cell())
        after = save(tmp_path / "b.json", fake_cell(), environment={"driver": "570"})
        _, out, _ = run(before, after, "--format", "markdown")
        assert "| driver | 580.1 (a.json) / 570 (b.json) |  |" in out

    def test_control_characters_of_a_file_reach_no_terminal(self, tmp_path):
        cell = fake_cell("eager") | {"label": "a\x1b[31mb\nc b1"}
        folder = tmp_path / "a\x1b[2Jb\nc"
        folder.mkdir()
        path = save(folder / "long_enough_to_be_listed_by_its_number.json", cell, fake_cell())
        for style in ("table", "markdown", "json"):
            _, out, _ = run(path, "--format", style)
            assert "\x1b" not in out

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
    @pytest.mark.parametrize("redirection", ["> /dev/full", ">&-"])
    def test_a_report_that_can_not_be_written(self, tmp_path, redirection):
        path = save(tmp_path / "s.json", fake_cell("eager"), fake_cell("thunder"))
        command = f"{sys.executable} compare_results.py {path} {redirection}"
        done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 4
        assert one_line(done.stderr, "can't be written")

    def test_a_terminal_that_is_ascii_only(self, tmp_path):
        folder = tmp_path / "größe"
        folder.mkdir()
        path = save(folder / ("ü" * 30 + ".json"), fake_cell("eager"), fake_cell("thunder"))
        environment = os.environ | {"PYTHONIOENCODING": "ascii"}
        command = [sys.executable, "compare_results.py", path]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
        assert (done.returncode, done.stderr) == (0, "")

    def test_help_shows_examples_within_80_columns(self, monkeypatch):
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
