"""What this machine lacks, or has too little of: one line, which says what would do."""

import subprocess
import sys

import pytest
from command_lines import parsed, run
from conftest import ROOT

from inference_benchmark import benchmark_inference
from inference_benchmark.engines import spec
from inference_benchmark.errors import CannotRun


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--attention", "flash_decode"], "GPU kernel"),
        (["--workload", "attention", "--mode", "cudnn"], "--mode cudnn needs a CUDA GPU"),
        (["--workload", "attention", "--mode", "flashinfer", "--precision", "fp32"], "no fp32"),
        (["--workload", "ffn", "--model-name", "llama4-scout", "--backward"], "no backward pass"),
        (["--mode", "thunder:cudnn"], "pip install nvidia-cudnn-frontend"),
        (["--mode", "thunder:transformerengine"], "pip install 'transformer-engine[pytorch]'"),
        (["--mode", "thunder:nvfuser"], "pip install nvfuser-cu128-torch210"),
        (["--device", "cpu", "--quantize", "int8:torchao"], "pip install torchao"),
        (["--device", "cpu", "--quantize", "int4:torchao"], "int4:torchao needs a CUDA GPU"),
        (["--save-results", "--output-dir", "/proc/nowhere"], "can't be written"),
    ],
)
def test_what_this_machine_lacks_is_one_line_and_exit_code_3(capsys, monkeypatch, arguments, words):
    installed = spec.importlib.util.find_spec
    optional = {"nvfuser", "nvfuser_direct", "cudnn", "transformer_engine", "torchao"}
    monkeypatch.setattr(
        spec.importlib.util, "find_spec", lambda n: None if n in optional else installed(n)
    )
    code, err = run(capsys, *arguments)
    assert code == 3
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_a_gpu_that_is_not_there(capsys, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert benchmark_inference.main(["--device", "cuda"]) == 3
    assert "torch finds no CUDA GPU" in capsys.readouterr().err


def test_a_model_that_does_not_fit_says_what_would(capsys, monkeypatch):
    from inference_benchmark.command import benchmark

    monkeypatch.setattr(benchmark, "free_host_bytes", lambda: 100_000_000_000)
    code, err = run(
        capsys, "--model-name", "llama3.1-405b", "--mode", "eager", "--scenario", "chat"
    )
    assert code == 3
    assert "needs about" in err
    assert "--num-layers" in err


def test_an_estimate_is_offered_where_two_depths_fit(capsys, monkeypatch):
    from inference_benchmark.command import benchmark

    flags = ["--model-name", "llama3.1-405b", "--mode", "eager", "--scenario", "chat"]
    for free, offered in ((100_000_000_000, True), (40_000_000_000, False)):
        monkeypatch.setattr(benchmark, "free_host_bytes", lambda free=free: free)
        assert (", or --extrapolate for an estimate" in run(capsys, *flags)[1]) == offered
        assert "or --extrapolate" not in run(capsys, *flags, "--num-layers", "100")[1]


def test_depths_that_do_not_fit_bring_shallower_ones(capsys, monkeypatch):
    from inference_benchmark.command import benchmark

    monkeypatch.setattr(benchmark, "free_host_bytes", lambda: 40_000_000_000)
    flags = ["--model-name", "llama3.1-405b", "--mode", "eager", "--scenario", "chat"]
    code, err = run(capsys, *flags, "--extrapolate")
    assert code == 3
    assert "llama3.1-405b [8 of 126 layers] needs about" in err
    # Of a layer 6.375 GB, of embedding and head 8.405: three layers 27.53 GB, two 21.16. Beside them
    # 1.5 GB of runtime, 0.03 of caches, and what the output check holds: the head in fp32 8.405 GB, a
    # sequence of 2,000 tokens in bf16 0.97 and in fp32 1.82, logits 0.90 and 0.26, together 12.35.
    # Three layers are 41.42 GB and do not fit into 40; two are 35.03 and do.
    assert "would fit: --extrapolate 1 2 with --batch-size 1" in err


def test_an_impossible_batch_is_answered_at_once(capsys):
    code, err = run(capsys, "--mode", "eager", "--batch-size", "999999999")
    assert code == 3
    assert "would fit: --batch-size" in err


def test_what_needs_a_gpu_is_said_to_be_ignored():
    notices = parsed("--mode", "eager", "--profile", "--gpu-price", "2").notices
    assert notices == ("--profile, --gpu-price are ignored: they need a CUDA GPU",)
    assert not parsed("--mode", "eager").notices


@pytest.mark.parametrize("program", ["benchmark_inference.py", "compare_results.py"])
def test_a_python_without_the_packages_is_one_line_and_exit_code_3(program):
    done = subprocess.run(
        [sys.executable, "-S", program, "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 3
    assert f"{program}: error: this Python ({sys.executable}) lacks the package" in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_could_not_be_used_is_refused_before_its_package_is_asked_for(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, err = run(capsys, "--mode", "thunder:transformerengine")
    assert code == 3
    assert "quantises on one GPU only, not on 2 ranks" in err


def test_a_number_of_ranks_that_would_do_is_named(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    code, err = run(capsys, "--mode", "eager")
    assert code == 2
    assert "can't be divided by 3; 2 would do" in err


def test_kernels_need_a_gpu():
    with pytest.raises(CannotRun, match="kernels need a CUDA GPU; leave out .kernels"):
        parsed("--mode", "inductor+kernels")


def test_a_report_without_what_draws_it_is_refused(monkeypatch):
    monkeypatch.setattr("inference_benchmark.options.plots_package.find_spec", lambda name: None)
    with pytest.raises(CannotRun, match=r"pip install -e '.\[plots\]'"):
        parsed("--report")


@pytest.mark.parametrize(
    ("command", "kibibytes", "words"),
    [
        (("benchmark_inference.py", "--quiet"), 1_500_000, "torch alone needs about 3.5 GB"),
        (("compare_results.py", "any.json"), 150_000, "scipy alone needs about 1.0 GB"),
    ],
)
def test_too_little_address_space_is_one_line(command, kibibytes, words):
    limited = ["sh", "-c", f'ulimit -v {kibibytes}; exec "$@"', "sh", sys.executable, *command]
    done = subprocess.run(limited, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 3
    assert done.stderr.startswith(f"{command[0]}: error: ulimit -v leaves ")
    assert done.stderr.endswith(f"{words}\n")
    assert done.stderr.count("\n") == 1
