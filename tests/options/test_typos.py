"""A typo in any flag of any command: one line that names what was meant, and exit code 2."""

import pytest

from inference_benchmark import benchmark_inference, compare_results, plot_results
from inference_benchmark.errors import ExitCode, end_without_package

PROGRAMS = {"benchmark": benchmark_inference, "compare": compare_results, "plot": plot_results}
FLAGS = [
    (program, action, name)
    for program, module in PROGRAMS.items()
    for name, action in module.make_parser()._option_string_actions.items()
    if name.startswith("--")
]
EVERY_FLAG = pytest.mark.parametrize(
    ("program", "action", "name"), FLAGS, ids=[f"{program} {name}" for program, _, name in FLAGS]
)
NEEDED = {"plot": ["a.json"]}  # argparse looks for what is missing before what is unknown
NUMBERS = ("whole number", "number", "share")


def refused(capsys, program: str, *arguments: str) -> str:
    """What is said of arguments that the parser must refuse; nothing may be resolved or run."""
    with pytest.raises(SystemExit) as stop:
        PROGRAMS[program].make_parser().parse_args([*NEEDED.get(program, []), *arguments])
    printed = capsys.readouterr()
    assert (stop.value.code, printed.out, printed.err.count("\n")) == (2, "", 1), printed
    assert len(printed.err) < 400
    return printed.err


@EVERY_FLAG
def test_a_flag_that_is_misspelt(capsys, program, action, name):
    word = name.removeprefix("--")
    swapped = f"{word[0]}{word[2]}{word[1]}{word[3:]}"
    # The first are what argparse would take for an abbreviation.
    misspelt = {word[:-1], word[:-2], word[1:], swapped, word + "s", word.upper()}
    misspelt.add(word.replace("-", "_"))
    for wrong in misspelt - {word} - {flag.removeprefix("--") for _, _, flag in FLAGS}:
        printed = refused(capsys, program, f"--{wrong}", *([] if action.nargs == 0 else ["1"]))
        near = printed.rpartition("did you mean ")[2].rstrip("?\n")
        assert near in action.option_strings, (wrong, printed)


@EVERY_FLAG
def test_a_value_that_is_missing_or_not_wanted(capsys, program, action, name):
    if action.nargs == 0:
        printed = refused(capsys, program, f"{name}=yes")
        assert printed.endswith(": takes no value, but was given 'yes'\n")
    elif action.nargs not in ("*", "?"):
        printed = refused(capsys, program, name)
        assert printed.endswith("expected one argument\n") or "at least one argument" in printed
        assert name in printed


@EVERY_FLAG
def test_a_value_that_is_misspelt(capsys, program, action, name):
    if action.choices is not None:
        for choice in action.choices:
            wrong = choice[:-1] + ("x" if choice[-1] != "x" else "y")
            printed = refused(capsys, program, name, wrong)
            assert f"argument {name}: invalid choice: '{wrong}' (choose from" in printed
            assert "; did you mean " in printed or len(choice) < 3, printed
    elif getattr(action.type, "__name__", "") in NUMBERS:
        printed = refused(capsys, program, name, "1o")
        assert f"argument {name}: invalid {action.type.__name__} value: '1o'" in printed


def test_a_folder_whose_name_is_empty(capsys):
    """A variable of the shell that is not set."""
    for name in ("--model-path", "--output-dir", "--output"):
        assert refused(capsys, "benchmark", name, "").endswith(f"argument {name}: is empty\n")


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_fits_a_terminal_of_80_columns(monkeypatch, program):
    monkeypatch.setenv("COLUMNS", "80")
    text = PROGRAMS[program].make_parser().format_help()
    assert max(map(len, text.splitlines())) <= 80


def test_a_package_that_cannot_be_loaded_is_one_line(capsys):
    """As with little memory; NumPy and SciPy then say a page."""
    error = ImportError("IMPORTANT: PLEASE READ THIS\n\nfor advice ...")
    error.__cause__ = ImportError("libscipy_openblas.so: failed to map segment")
    with pytest.raises(SystemExit) as stop:
        end_without_package("compare_results.py", error)
    assert stop.value.code == ExitCode.CANNOT_RUN
    assert capsys.readouterr().err == (
        "compare_results.py: error: a package can't be loaded: "
        "libscipy_openblas.so: failed to map segment\n"
    )
