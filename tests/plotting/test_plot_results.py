"""plot_results.py and compare_results.py --html as programs: files, exit codes, one line of why not."""

import contextlib
import io
import subprocess
import sys

import comparing
from conftest import ROOT
from fake_results import fake_cell, save

from inference_benchmark import plot_results


def run(*arguments: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = plot_results.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
    return code, out.getvalue(), err.getvalue()


def one_line(answer: tuple[int, str, str], code: int, *words: str) -> bool:
    return (
        answer[0] == code
        and answer[2].count("\n") == 1
        and all(word in answer[2] for word in words)
    )


def test_files_are_written_and_named(tmp_path):
    file = save(tmp_path / "session.json", fake_cell(runs=3))
    code, out, err = run(file, "--output-dir", tmp_path / "new" / "plots")
    assert (code, err) == (0, "")
    written = sorted(path.name for path in (tmp_path / "new" / "plots").iterdir())
    assert written == sorted(line.rpartition("/")[2] for line in out.splitlines())
    assert {"report.html", "pareto.svg", "pareto.png", "memory.svg"} <= set(written)
    assert (tmp_path / "new" / "plots" / "pareto.png").read_bytes().startswith(b"\x89PNG")


def test_formats_and_title(tmp_path):
    file = save(tmp_path / "session.json", fake_cell(runs=3))
    code, _, _ = run(file, "--formats", "html", "--title", "Mine & yours", "--output-dir", tmp_path)
    assert code == 0
    assert "<h1>Mine &amp; yours</h1>" in (tmp_path / "report.html").read_text()
    assert not list(tmp_path.glob("*.svg"))


def test_what_is_wrong_is_said_in_a_line(tmp_path):
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "empty").mkdir()
    file = save(tmp_path / "session.json", fake_cell(runs=3))
    assert one_line(run(tmp_path / "broken.json"), 2, "broken.json", "truncated")
    assert one_line(run(tmp_path / "none.json"), 2, "none.json", "can't be read")
    assert one_line(run(tmp_path / "empty"), 2, "folder without result files")
    assert one_line(run("--compare", file), 2, "--compare needs two sets")
    assert one_line(run("--compare", file, "-"), 2, "standard input")
    (tmp_path / "taken").write_text("")
    there = "--output-dir", tmp_path / "taken"
    assert one_line(run(file, "--formats", "html", *there), 4, "can't be written")


def test_without_matplotlib_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr("inference_benchmark.options.plots_package.find_spec", lambda name: None)
    assert one_line(run(save(tmp_path / "session.json", fake_cell())), 3, "'.[plots]'")


def test_drawing_loads_no_torch(tmp_path):
    file = save(tmp_path / "session.json", fake_cell(runs=3))
    program = (
        "import sys, plot_results\n"
        "plot_results.main(sys.argv[1:])\n"
        "assert 'matplotlib' in sys.modules\n"
        "assert not {'torch', 'thunder', 'scipy', 'matplotlib.pyplot'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", program, file, "--formats", "html", "--output-dir"]
    done = subprocess.run([*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class TestCompareResults:
    def test_html_writes_the_page_beside_the_report(self, tmp_path):
        before = save(tmp_path / "before.json", fake_cell(tbot_s=0.006, seed=1))
        after = save(tmp_path / "after.json", fake_cell(tbot_s=0.009, seed=2))
        page = tmp_path / "page.html"
        code, out, err = comparing.run(before, after, "--html", page)
        assert code == 0
        assert "slower" in out
        assert err == f"written: {page}\n"
        text = page.read_text()
        assert "Comparison: before, after" in text
        assert "times the speed of" in text

    def test_modes_of_one_session(self, tmp_path):
        file = save(
            tmp_path / "session.json", fake_cell("eager"), fake_cell("thunder", tbot_s=0.003)
        )
        code, _, _ = comparing.run(file, "--baseline", "eager", "--html", tmp_path / "page.html")
        assert code == 0
        assert "Speed-up over the baseline" in (tmp_path / "page.html").read_text()

    def test_what_is_wrong_is_said(self, tmp_path):
        file = save(tmp_path / "session.json", fake_cell("eager"), fake_cell("thunder"))
        code, _, err = comparing.run("-", "--html", tmp_path / "page.html")
        assert code == 2
        assert comparing.one_line(err, "standard input")
        code, out, err = comparing.run(file, "--html", tmp_path / "no" / "page.html")
        assert code == 4
        assert comparing.one_line(err, "can't be written")
        assert out
