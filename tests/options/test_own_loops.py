"""Requests for engines with a loop of their own: what they are, and what is refused in which words."""

import sys

import pytest

from inference_benchmark import benchmark_inference
from inference_benchmark.command.fit import need
from inference_benchmark.engines import other_python
from inference_benchmark.engines.spec import check_packages, parse_mode
from inference_benchmark.errors import CannotRun
from inference_benchmark.options.flags import make_parser
from inference_benchmark.options.resolution import resolve
from inference_benchmark.session.memory import RUNTIME_BYTES
from inference_benchmark.session.planning import plan_cells


def run(capsys, *arguments: str) -> tuple[int, str]:
    """Exit code and what stderr said."""
    try:
        code = benchmark_inference.main([*arguments, "--device", "cpu"])
    except SystemExit as stop:
        code = stop.code
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--mode transformers+statik", "did you mean +static?"),
        ("--mode transformers+static+static", "unknown suffix"),
        ("--mode transformers+compile", "valid: +static, +static+compile"),
        ("--mode transformers+graphs", "unknown suffix of mode 'transformers'"),
        ("--mode transformers+kernels", "unknown suffix of mode 'transformers'"),
        ("--mode llama.cpp+q8_1", "did you mean +q8_0?"),
        ("--mode llama.cpp+stored", "reads a GGUF file as it is: --model-path FILE.gguf"),
        ("--mode ollama+stored+stored", "unknown suffix"),
        ("--mode llama.cpp+q8_0 --quantize int8", "leave out --quantize"),
        ("--mode vllm+graphs", "mode 'vllm' has no suffixes: leave out +graphs"),
        ("--mode transformers:sdpa", "mode 'transformers' takes no executors"),
        ("--mode transformers --workload forward", "mode 'transformers' generates"),
        ("--mode transformers --extrapolate", "use --num-layers"),
        ("--mode transformers --sampling multinomial", "takes the most likely token only"),
        ("--mode tensorrt+optimized", "did you mean +optimised? (valid: +graphs, +nographs, +opt"),
        ("--mode transformers --cuda-graphs off", "--cuda-graphs does nothing for transformers"),
        ("--mode transformers --linear torch", "--linear does nothing for transformers"),
        ("--mode transformers --compile-scope model", "--compile-scope model"),
        ("--mode transformers --engine-python here", "'here' is not ENGINE=PATH"),
        ("--mode transformers --engine-python vllm=python3", "does nothing without --mode vllm"),
        ("--mode vllm --engine-python vlm=python3", "did you mean vllm?"),
        ("--mode transformers --engine-timeout 9", "--engine-timeout does nothing"),
        (
            "--mode transformers --engine-python transformers=python3",
            "unknown engine of --engine-python 'transformers' (valid: vllm, llama.cpp, tinygrad)",
        ),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(capsys, arguments, words):
    code, err = run(capsys, *arguments.split())
    assert code == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            "--mode transformers --model-name deepseekv3-670b --num-layers 4",
            "llama, mistral, qwen3",
        ),
        ("--mode transformers tinygrad", "mode 'tinygrad' needs --precision fp32 on a CPU"),
        ("--mode vllm --engine-python vllm=/nowhere/python", "there is no such program"),
        (
            f"--mode vllm --engine-python vllm={sys.executable}",
            f": {sys.executable} -m pip install vllm==0.26.0\n",
        ),
    ],
)
def test_what_cannot_run_is_one_line_and_exit_code_3(capsys, arguments, words):
    code, err = run(capsys, *arguments.split())
    assert code == 3
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_suffixes_of_an_engine_are_its_options():
    spec = parse_mode("transformers+static+compile", (), "auto", "cuda")
    assert spec.options == ("static", "compile")
    assert spec.label == "transformers+static+compile"
    assert not spec.cuda_graphs
    assert parse_mode("tinygrad", (), "on", "cuda").label == "tinygrad"


def test_a_package_is_looked_for_in_the_python_that_is_given(tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    spec = parse_mode("vllm", (), "auto", "cuda")
    with pytest.raises(CannotRun, match=f"needs the package vllm in {python}"):
        check_packages(spec, "cuda", str(python))
    (tmp_path / "vllm.py").touch()
    check_packages(spec, "cuda", str(python))


@pytest.mark.parametrize(
    ("device", "line"),
    [
        ("cpu", ": pip install llama-cpp-python"),
        ("cuda", ": CMAKE_ARGS=-DGGML_CUDA=on pip install llama-cpp-python"),
    ],
)
def test_llama_cpp_is_built_for_the_device(monkeypatch, device, line):
    monkeypatch.setattr("inference_benchmark.engines.spec._is_here", lambda package: False)
    with pytest.raises(CannotRun) as error:
        check_packages(parse_mode("llama.cpp", (), "auto", device), device)
    assert str(error.value) == f"mode 'llama.cpp' needs the package llama_cpp{line}"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("#!/bin/sh\nexit 0\n", "exit code 0"),
        ("#!/bin/sh\necho no modules >&2\nexit 1\n", "exit code 1; no modules"),
        ("#!/bin/sh\nsleep 60\n", "no answer in 0.2 s"),
        ("#!/bin/sh\nwhile :; do echo noise; done\n", "no answer in 0.2 s"),
        ("#!/nowhere/python\n", "No such file or directory"),
        ("\0binary", "Exec format error"),
    ],
)
def test_what_is_no_python_is_one_line(tmp_path, monkeypatch, content, reason):
    monkeypatch.setattr(other_python, "_ANSWER_S", 0.2 if "0.2" in reason else 30)
    python = tmp_path / "python"
    python.write_text(content)
    python.chmod(0o755)
    with pytest.raises(CannotRun) as error:
        check_packages(parse_mode("vllm", (), "auto", "cuda"), "cuda", str(python))
    assert str(error.value) == f"--engine-python: {python} is no Python that works: {reason}"


def test_the_python_reaches_the_plan_and_a_copy_its_memory(monkeypatch):
    monkeypatch.setattr("inference_benchmark.options.resolution.check_packages", lambda *_: None)

    def planned(*modes: str):
        flags = ["--mode", *modes, "--device", "cpu", "--engine-python", f"vllm={sys.executable}"]
        flags += ["--engine-timeout", "7"]
        flags += ["--baseline", "eager", "--model-name", "llama3.2-1b"]
        return plan_cells(resolve(make_parser().parse_args(flags)))[0]

    vllm, eager = planned("vllm")
    assert (vllm.engine.python, eager.engine.python) == (sys.executable, None)
    assert vllm.engine.timeout_s == 7
    needed = need([vllm, eager])
    assert needed.copies == vllm.model.weight_bytes(vllm.precision) + RUNTIME_BYTES
    assert need([eager]).copies == 0
