"""What --help, --version and --list-scenarios say, and that they say it at once."""

import subprocess
import sys

import pytest
from conftest import ROOT

from inference_benchmark import __version__, benchmark_inference, compare_results
from inference_benchmark.options.flags import make_parser


@pytest.mark.parametrize("flag", ["--help", "--list-scenarios"])
def test_help_loads_neither_torch_nor_scipy(flag):
    code = (
        "import sys, benchmark_inference\n"
        "try:\n    benchmark_inference.main([sys.argv[1]])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'thunder', 'scipy', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code, flag], cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_list_scenarios_shows_tokens_and_shares(capsys):
    assert benchmark_inference.main(["--list-scenarios"]) == 0
    out = capsys.readouterr().out
    for words in ("4000 -> 1000", "80 / 20%", "50 / 50%", "20 / 80%", "0.5 / 99.5%"):
        assert words in out
    assert max(map(len, out.splitlines())) <= 80


def test_the_command_line_is_frozen():
    """Scripts rely on it: a change has to be made in tests/command_line.txt as well."""
    lines = [
        f"{' '.join(action.option_strings)} = {action.default!r}"
        + (f" of {', '.join(action.choices)}" if action.choices else "")
        for action in make_parser()._actions
    ]
    assert lines == (ROOT / "tests" / "command_line.txt").read_text().splitlines()


def test_help_fits_80_columns_and_shows_examples(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = make_parser().format_help()
    assert "examples:" in text
    choices = "{default,max-autotune"  # argparse never breaks a list of choices
    assert all(len(line) <= 80 for line in text.splitlines() if choices not in line)


def test_help_explains_what_is_printed():
    text = make_parser().format_help()
    for word in ("TTFT", "TBOT", "limit", "verdict"):
        assert f"\n  {word}  " in text


@pytest.mark.parametrize("program", [benchmark_inference, compare_results])
def test_each_program_has_its_version(capsys, program):
    with pytest.raises(SystemExit, match="0"):
        program.main(["--version"])
    assert capsys.readouterr().out.split() == [f"{program.__name__.split('.')[-1]}.py", __version__]
