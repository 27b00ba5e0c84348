"""The page that says what is installed and usable here."""

import importlib.util

import pytest

from inference_benchmark import benchmark_inference
from inference_benchmark.command import check_setup as page
from inference_benchmark.engines import ENGINES, listed
from inference_benchmark.engines.spec import EXECUTORS
from inference_benchmark.errors import CannotRun


def said(capsys) -> tuple[int, list[str]]:
    code = benchmark_inference.main(["--check-setup", "--device", "cpu"])
    return code, capsys.readouterr().out.splitlines()


def line_of(name: str, lines: list[str]) -> str:
    return next(line for line in lines if line.split()[:1] == [name])


def test_every_engine_and_executor_has_a_line(capsys):
    code, lines = said(capsys)
    assert code == 0
    for name in (*EXECUTORS, *listed(), "Python", "torch"):
        assert line_of(name, lines)
    assert "ok: llama-tiny in" in next(line for line in lines if "--scenario chat" in line)
    assert max(map(len, lines)) <= 80


def test_a_missing_package_says_how_to_get_it(capsys, monkeypatch):
    installed = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == "liger_kernel" else installed(name),
    )
    _, lines = said(capsys)
    assert line_of("liger", lines).endswith("pip install liger-kernel")


def test_engines_without_a_gpu_say_what_would_help_there(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    lines = list(page._packages([ENGINES["llama.cpp"], ENGINES["tensorrt"]], False, {}))
    assert [finding.remedy for finding in lines] == [
        "pip install llama-cpp-python",
        "needs a CUDA GPU",
    ]


def test_a_program_or_a_server_that_is_not_there_is_said(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: "found")
    monkeypatch.setattr("shutil.which", lambda name: None)

    def refuse(entry, url):
        raise CannotRun(f"no server at {url}")

    monkeypatch.setattr(type(ENGINES["ollama"]), "check_server", refuse)
    entries = [ENGINES["tinygrad"], ENGINES["ollama"], ENGINES["transformers"]]
    assert [finding.remedy for finding in page._packages(entries, False, {})] == [
        "needs clang on a CPU: apt install clang",
        "no server at http://127.0.0.1:11434",
        None,
    ]


def test_a_main_job_that_can_not_run_is_exit_code_3(capsys, monkeypatch):
    def refuse(arguments):
        raise CannotRun("mode 'thunder' needs the package thunder: pip install lightning-thunder")

    monkeypatch.setattr(page, "resolve", refuse)
    code, lines = said(capsys)
    assert code == 3
    assert "pip install lightning-thunder" in " ".join(" ".join(lines).split())


@pytest.mark.parametrize(("fits", "code"), [(True, 0), (False, 3)])
def test_a_main_job_without_memory_is_exit_code_3(capsys, monkeypatch, fits, code):
    from inference_benchmark.system import host_load

    free = 10**11 if fits else 10**8
    monkeypatch.setattr(host_load, "free_host_bytes", lambda: free)
    assert said(capsys)[0] == code
