"""The file of a sweep: which sessions it makes, and what it is refused for."""

import pytest

from inference_benchmark.errors import RequestError
from inference_benchmark.options.sweep_file import fields_of, read_sweep


@pytest.fixture
def write(tmp_path):
    def write(text: str):
        path = tmp_path / "sweep.toml"
        path.write_text(text)
        return path

    return write


def test_every_combination_is_a_session_and_an_inner_list_belongs_together(write):
    path = write(
        'mode = ["thunder", ["inductor", "eager+graphs"]]\n'
        "batch-size = [1, 8]\n"
        "num_iterations = 10\n"
        "details = true\n"
        "force = false\n"
    )
    rest = ["--num-iterations", "10", "--details"]
    assert read_sweep(path) == [
        ["--mode", "thunder", "--batch-size", "1", *rest],
        ["--mode", "thunder", "--batch-size", "8", *rest],
        ["--mode", "inductor", "eager+graphs", "--batch-size", "1", *rest],
        ["--mode", "inductor", "eager+graphs", "--batch-size", "8", *rest],
    ]
    assert fields_of(path) == {"mode", "batch_size", "num_iterations", "details", "force"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mode = [", "is not TOML"),
        ("", "names no flag"),
        ('modes = ["eager"]', "'modes' is no flag of a session; did you mean mode?"),
        ('output = "a.json"', "'output' is no flag of a session"),
        ("sessions = 3", "'sessions' is no flag of a session"),
        ("batch-size = []", "batch-size has no values"),
        ('[mode]\nname = "eager"', "mode takes texts, numbers, and lists of these"),
        ('model-name = [["a", "b"]]', "model-name takes one value in a session"),
    ],
)
def test_what_no_session_can_be_told_is_refused(write, text, words):
    with pytest.raises(RequestError, match=words.replace("?", r"\?")):
        read_sweep(write(text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RequestError, match=r"none\.toml: No such file"):
        read_sweep(tmp_path / "none.toml")
