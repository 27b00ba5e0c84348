"""--prompt in engines of other projects: the trained answer, in every one that is installed."""

import pytest
from foreign_engines import PYTHONS, skip_unless_here
from ollama_server import fake_ollama
from trained_model import ANSWER, QUESTION, trained_folder

from inference_benchmark import benchmark_inference


@pytest.fixture
def trained():
    return trained_folder()


def answer_of(capsys, folder, mode: str, *arguments: str) -> list[str]:
    """The lines that are printed."""
    name = mode.partition("+")[0]
    if name in PYTHONS:
        arguments += ("--engine-python", f"{name}={PYTHONS[name]}")
    flags = ["--model-path", str(folder), "--prompt", QUESTION, "--mode", mode, "--device", "cpu"]
    flags += ["--precision", "fp32", "--sampling", "greedy", "--max-new-tokens", "72"]
    assert benchmark_inference.main([*flags, *arguments]) == 0
    return capsys.readouterr().out.strip().splitlines()


@pytest.mark.parametrize(
    "mode", ["transformers+static", "tinygrad", "llama.cpp", "llama.cpp+q8_0", "vllm"]
)
def test_it_gives_the_trained_answer(trained, capsys, monkeypatch, mode):
    skip_unless_here(mode.partition("+")[0])
    monkeypatch.setenv(
        "NOOPT", "1"
    )  # tinygrad's kernels as they come, which compile in half the time
    answer, _, line = answer_of(capsys, trained, mode)
    assert answer == ANSWER
    counts = f"{len(QUESTION) + 2} + {len(ANSWER) + 1} tokens, ended by itself; TTFT"
    assert line.startswith(f"[{mode}: {counts}")
    assert "; checked; ready in " in line


def test_a_server_gives_the_trained_answer(trained, capsys, tmp_path):
    with fake_ollama(tmp_path) as server:
        answer, _, line = answer_of(capsys, trained, "ollama", "--ollama-url", server.url)
    assert answer == ANSWER
    assert "; checked; ready in " in line
