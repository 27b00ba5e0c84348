"""Requests: what is refused, in which words and with which exit code; what --help says."""

import subprocess
import sys

import pytest
from conftest import ROOT

from inference_benchmark import benchmark_inference
from inference_benchmark.engines import spec
from inference_benchmark.engines.spec import parse_mode
from inference_benchmark.errors import CannotRun, RequestError
from inference_benchmark.options import resolution
from inference_benchmark.options.flags import make_parser
from inference_benchmark.options.identity import IDENTITY_FIELDS, identity_config
from inference_benchmark.options.resolution import resolve
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
        (["--model-name", "llama3.1-8c"], "did you mean llama3.1-8b?"),
        (["--scenario", "chatt"], "did you mean chat?"),
        (["--mode", "inducter"], "did you mean inductor?"),
        (["--mode", "thunder:nvfuserr"], "did you mean nvfuser?"),
        (["--mode", "thunder", "--thunder-executors", "nvfusr"], "did you mean nvfuser?"),
        (["--mode", "eager", "--thunder-executors", "nvfuser"], "--mode thunder"),
        (["--mode", "eager", "--thunder-options", "cache=x"], "--thunder-options needs --mode"),
        (["--mode", "thunder", "--thunder-options", "nv_enable_linear"], "is no NAME=VALUE"),
        (["--mode", "thunder", "--thunder-options", "a=1,a=2"], "named twice"),
        (["--mode", "eager:nvfuser"], "takes no executors"),
        (["--mode", "eager+graph"], "+graphs"),
        (["--mode", "eager+graphs"], "CUDA graphs need a CUDA GPU"),
        (["--batch-size", "0"], "must be 1 or more, not 0"),
        (["--batch-size", "two"], "invalid whole number value: 'two'"),
        (["--input-length", "-5"], "must be 1 or more, not -5"),
        (["--num-iterations", "0"], "must be 1 or more, not 0"),
        (["--warmup-iterations", "-1"], "must be 0 or more, not -1"),
        (["--gpu-price", "0"], "must be over 0"),
        (["--num-layers", "0"], "must be 1 or more, not 0"),
        (["--num-layers", "5"], "llama-tiny has 4 layers, not 5"),
        (["--model-name", "llama2-7b", "--scenario", "reasoning"], "has a context of 4096"),
        (["--extrapolate", "1", "2", "--num-layers", "2"], "--extrapolate and --num-layers"),
        (["--extrapolate", "0", "2"], "must be 1 or more, not 0"),
        (["--extrapolate", "2"], "two depths or none, not 1"),
        (["--extrapolate", "2", "4"], "has 4 layers; --extrapolate 1 2 would do, or leave it out"),
        (["--extrapolate", "1", "2", "--model-name", "llama4-scout"], "--extrapolate 4 8 would"),
        (["--precision", "fp8"], "invalid choice: 'fp8'"),
        (["--num-iterations", "5", "--max-seconds", "3"], "it fixes the number of runs"),
        (["--num-iterations", "5", "--target-ci", "0.1"], "--num-iterations and --target-ci"),
        (["--scenario", "chat", "--input-length", "7"], "a scenario sets both lengths"),
        (["--scenario", "chat", "--output-length", "128"], "--scenario and --output-length"),
        (["--batch-size", "9" * 20], "must be 2147483647 or less"),
        (["--seed", "9" * 5000], "(5000 characters)' is no number"),
        (["--max-seconds", "1e308"], "must be 3.2e+07 or less"),
        (["--gpu-price", "1e308"], "must be 1e+06 or less"),
        (["--target-ci", "nan"], "must be over 0"),
        (["--gpu-bandwidth", "3350"], "no GPU has 3350 TB/s: it must be 0.01 to 100 TB/s"),
        (["--gpu-bandwidth", "3350"], "with its unit it would be 3350GB/s"),
        (["--gpu-bandwidth", "3350TB/s"], "no GPU has 3350TB/s"),
        (["--gpu-bandwidth", "0.001"], "no GPU has 0.001 TB/s"),
        (["--gpu-bandwidth", "4.8TFLOP/s"], "is no rate such as 10, 10TB/s or 10000GB/s"),
        (["--gpu-bandwidth", "fast"], "'fast' is no rate"),
        (["--gpu-peak", "989000000"], "no GPU has 989000000 TFLOP/s"),
        (["--mode", "eager", "--compile-mode", "max-autotune"], "needs --mode inductor"),
        (["--mode", "eager", "--compile-scope", "model"], "does nothing for eager"),
        (["--mode", "thunder:sdpa", "--thunder-executors", "inductor"], "names its own executors"),
        (["--seed", "1", "--seed", "2"], "--seed: is given twice, with different values"),
        (["--workload", "forward", "--output-length", "3"], "leave out --output-length"),
        (["--decode"], "--decode needs --workload attention or ffn or layer"),
        (["--workload", "attention", "--scenario", "chat"], "has no use for --scenario"),
        (["--workload", "attention", "--mode", "inductor"], "unknown mode 'inductor'"),
        (["--workload", "attention", "--mode", "flsh"], "did you mean flash?"),
        (
            ["--workload", "ffn", "--attention", "sdpa"],
            "--attention does nothing for --workload ffn",
        ),
        (["--workload", "ffn", "--mode", "eager+kernels"], "leave out +kernels"),
        (["--workload", "ffn", "--gpu-price", "2"], "has no use for --gpu-price"),
        (["--workload", "layer", "--mode", "eager+graphs"], "leave out +graphs"),
        (["--workload", "layer", "--decode", "--backward"], "a step has no gradients"),
        (["--workload", "layer", "--feed-forward", "gelu"], "--feed-forward needs --workload ffn"),
        (["--workload", "ffn", "--decode", "--sequence-lengths", "9"], "does not see the context"),
        (["--temperature", "0.5"], "--temperature does nothing without --sampling"),
        (["--sampling", "greedy", "--top-k", "5"], "--top-k needs --sampling multinomial"),
        (["--sampling", "multinomial", "--workload", "forward"], "needs --workload generation"),
        (["--workload", "forward", "--compile-scope", "step", "--mode", "inductor"], "generation"),
        (["--quantize", "float16"], "float16 is a base type: --precision fp16"),
        (["--quantize", "nvfp4"], "needs block-scaled matrix units, of GPUs from Blackwell on"),
        (["--quantize", "mxfp8"], "needs block-scaled matrix units, of GPUs from Blackwell on"),
        (["--quantize", "in8"], "unknown format 'in8'; did you mean int8?"),
        (["--quantize-head"], "--quantize-head does nothing without --quantize"),
        (["--quantize", "none", "--max-kl", "1"], "--max-kl does nothing without a format"),
        (["--quantize", "fp8-dynamic", "--precision", "fp16"], "needs --precision bf16"),
        (["--quantize", "fp8", "--workload", "attention"], "has no use for --quantize"),
        (["--implementation", "mine"], "is not default, transformers or FILE.py:FUNCTION"),
        (["--implementation", "none.py:build"], "there is no file none.py"),
        (["--implementation", "transformers", "--extrapolate"], "use --num-layers"),
        (["--optimizer", "none"], "--optimizer needs --workload training"),
        (["--workload", "training", "--precision", "fp16"], "knows --precision bf16 and fp32"),
        (["--workload", "training", "--attention", "sdpa"], "our kernels have no gradients"),
        (["--workload", "training", "--extrapolate"], "estimates no training steps"),
        (
            ["--workload", "training", "--precision", "fp32", "--mixed-precision", "autocast"],
            "--mixed-precision does nothing with --precision fp32",
        ),
        (["--overwrite"], "--overwrite does nothing without --output"),
        (
            ["--output-dir", "here"],
            "--output-dir does nothing without --save-results or --sessions or --profile",
        ),
        (["--session", "3"], "did you mean --sessions?"),  # taken as that, it started itself
        (["--output", "README.md"], "--output README.md exists; --overwrite replaces it"),
        (["--output", "results", "--overwrite"], "--output results is a directory"),
        (["--output", "/dev/null", "--overwrite"], "--output /dev/null is not a regular file"),
        (["--json", "--format", "csv"], "--json and --format csv exclude each other"),
        (["--scenario", "chat\x1b[31m\nchat"], r"unknown scenario 'chat\x1b[31m chat'"),
        (["--\x1b[2Jxyz"], r"unrecognized arguments: --\x1b[2Jxyz"),
        (["--xyz"], "unrecognized arguments: --xyz\n"),
        (["--modle-name", "llama-tiny"], "did you mean --model-name?"),
        (["--inputlength=5", "--batchsize=2"], "did you mean --input-length --batch-size?"),
        (["--seed", "4294967296"], "must be 4294967295 or less"),
        (["--mode", "thunder:transformerengine,transformerengine_v2"], "exclude each other"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(capsys, arguments, words):
    code, err = run(capsys, *arguments)
    assert code == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert len(err) < 400
    assert err.strip().isprintable()


@pytest.mark.parametrize(
    ("flag", "text", "value"),
    [
        ("--gpu-bandwidth", "4.8", 4.8e12),
        ("--gpu-bandwidth", "4.8TB/s", 4.8e12),
        ("--gpu-bandwidth", "3350GB/s", 3.35e12),
        ("--gpu-bandwidth", "3350 gb/s", 3.35e12),
        ("--gpu-bandwidth", "900GBps", 9e11),
        ("--gpu-peak", "989", 9.89e14),
        ("--gpu-peak", "989TFLOPS", 9.89e14),
        ("--gpu-peak", "1.2 PFLOP/s", 1.2e15),
    ],
)
def test_rates_have_units(flag, text, value):
    request = parsed(flag, text)
    assert getattr(request, flag[2:].replace("-", "_")) == pytest.approx(value)


def test_a_flag_of_several_values_may_come_again():
    request = parsed("--mode", "eager", "--batch-size", "1", "2", "--mode", "inductor", "eager")
    assert [spec.label for spec in request.specs] == ["eager", "inductor"]
    again = parsed("--batch-size", "1", "2", "--batch-size", "4", "--seed", "3", "--seed", "3")
    assert (again.batch_sizes, again.seed) == ((1, 2, 4), 3)


@pytest.mark.parametrize(
    ("name", "text"),
    [("WORLD_SIZE", "abc"), ("RANK", "x1"), ("LOCAL_RANK", "-1"), ("WORLD_SIZE", "9" * 30)],
)
def test_an_environment_that_torchrun_did_not_make(capsys, monkeypatch, name, text):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(name, text)
    monkeypatch.setattr(benchmark_inference, "_TIME_TO_SPEAK_S", 0.0)
    code, err = run(capsys, "--mode", "eager")
    assert code == 2
    assert f"{name} is '{text}' in the environment" in err


def test_what_a_result_records_of_the_flags():
    config = identity_config(parsed("--scenario", "chat", "--mode", "eager", "--seed", "5"))
    assert config["model_name"] == "llama-tiny"
    assert (config["num_layers"], config["full_num_layers"]) == (4, 4)
    assert (config["input_length"], config["output_length"]) == (1000, 1000)
    assert (config["workload"], config["seed"], config["device"]) == ("generation", 5, "cpu")
    assert (config["tensor_parallel"], config["all_reduce"]) == (1, None)
    assert not {"json", "quiet", "output", "mode", "batch_size"} & set(config)
    assert set(IDENTITY_FIELDS) <= set(config)


def test_results_are_compared_where_the_work_is_the_same():
    assert set(IDENTITY_FIELDS) == {
        "model_name",
        "precision",
        "num_layers",
        "workload",
        "input_length",
        "output_length",
        "optimizer",
        "dynamic_shapes",
    }


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
        (["--save-results", "--output-dir", "/proc/nowhere"], "can't be written"),
    ],
)
def test_what_this_machine_lacks_is_one_line_and_exit_code_3(capsys, monkeypatch, arguments, words):
    installed = spec.importlib.util.find_spec
    optional = {"nvfuser", "nvfuser_direct", "cudnn", "transformer_engine"}
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


def test_an_impossible_batch_is_answered_at_once(capsys):
    code, err = run(capsys, "--mode", "eager", "--batch-size", "999999999")
    assert code == 3
    assert "would fit: --batch-size" in err


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


def test_compile_modes_with_graphs_of_their_own_are_refused_inside_ours():
    graphed = parse_mode("inductor", (), "auto", "cuda")
    assert graphed.cuda_graphs
    with pytest.raises(RequestError, match="max-autotune-no-cudagraphs"):
        spec.check_compile_mode("reduce-overhead", [graphed])
    spec.check_compile_mode(
        "reduce-overhead", [parse_mode("inductor+nographs", (), "auto", "cuda")]
    )


@pytest.mark.parametrize(
    ("text", "graphs", "label"),
    [
        ("thunder", "auto", "thunder+graphs"),
        ("eager", "auto", "eager"),
        ("eager", "on", "eager+graphs"),
        ("inductor+nographs", "on", "inductor"),
        ("thunder:inductor", "off", "thunder:inductor"),
        ("thunder:dynamo,inductor_cat", "auto", "thunder:dynamo,inductor_cat+graphs"),
        ("inductor+kernels", "auto", "inductor+graphs+kernels"),
        ("eager+kernels", "auto", "eager+kernels"),
        ("thunder:sdpa+kernels+nographs", "auto", "thunder:sdpa+kernels"),
    ],
)
def test_mode_labels_say_what_is_used(text, graphs, label):
    assert parse_mode(text, (), graphs, "cuda").label == label


def test_thunder_without_nvfuser_says_so(monkeypatch):
    monkeypatch.setattr(spec, "is_installed", lambda executor: executor != "nvfuser")
    shown = parse_mode("thunder", (), "auto", "cuda").shown_label
    assert shown == "thunder[no nvfuser]+graphs"
    shown = parse_mode("thunder+kernels", (), "auto", "cuda").shown_label
    assert shown == "thunder[no nvfuser]+graphs+kernels"
    assert (
        parse_mode("thunder:inductor", (), "auto", "cuda").shown_label == "thunder:inductor+graphs"
    )


def parsed(*arguments: str):
    return resolve(make_parser().parse_args([*arguments, "--device", "cpu"]))


def test_a_scenario_sets_both_lengths():
    request = parsed("--scenario", "chat", "--mode", "eager")
    assert (request.input_length, request.output_length) == (1000, 1000)
    assert parsed("--scenario", "chat", "--workload", "forward").output_length == 0


def test_defaults_without_a_gpu():
    request = parsed()
    assert request.model.name == "llama-tiny"
    assert (request.input_length, request.output_length) == (2048, 128)
    assert [spec.label for spec in request.specs] == ["thunder"]
    assert request.num_iterations is None


def test_compile_modes_with_graphs_of_their_own_compile_the_whole_model():
    assert parsed("--mode", "inductor").compile_scope == "layer"
    request = parsed("--mode", "inductor", "--compile-mode", "reduce-overhead")
    assert request.compile_scope == "model"


def test_few_layers_bring_a_warning():
    assert "under 4 layers" in parsed("--num-layers", "2").notices[0]
    assert not parsed("--num-layers", "4").notices


def test_extrapolation_measures_two_depths_of_the_model_it_is_about():
    request = parsed("--extrapolate", "--model-name", "llama3.1-405b")
    assert (request.model.num_layers, request.model.is_reduced) == (126, False)
    assert [model.num_layers for model in request.measured_models] == [4, 8]
    assert request.built_model.label == "llama3.1-405b [8 of 126 layers]"
    assert not request.notices
    single = parsed("--num-layers", "2")
    assert single.measured_models == (single.built_model,) == (single.model,)


def test_a_comparison_measures_its_baseline_along():
    request = parsed("--mode", "thunder", "inductor")
    assert [spec.label for spec in request.specs] == ["thunder", "inductor", "eager"]
    single = parsed("--mode", "thunder")
    assert [spec.label for spec in single.specs] == ["thunder"]
    named = parsed("--mode", "thunder", "--baseline", "inductor")
    assert [spec.label for spec in named.specs] == ["thunder", "inductor"]


def test_options_of_thunder_are_values_and_stand_in_the_label(monkeypatch):
    request = resolved_for_a_gpu(
        monkeypatch,
        *("--mode", "thunder:inductor", "eager+graphs", "--thunder-options"),
        "nv_enable_linear=true,depth=3,cache=constant values",
    )
    with_options, plain = plan_cells(request)[0]
    assert with_options.engine.compile_options == (
        ("nv_enable_linear", True),
        ("depth", 3),
        ("cache", "constant values"),
    )
    assert with_options.variant == (
        "thunder:inductor+graphs[nv_enable_linear=true, depth=3, cache=constant values]"
    )
    assert (plain.engine.compile_options, plain.variant) == ((), "eager+graphs")


def resolved_for_a_gpu(monkeypatch, *arguments: str):
    monkeypatch.setattr(resolution, "_find_device", lambda wanted: "cuda")
    return resolve(make_parser().parse_args(list(arguments)))


def test_kernels_are_measured_beside_what_ships(monkeypatch):
    request = resolved_for_a_gpu(monkeypatch, "--mode", "inductor+kernels", "inductor")
    assert [spec.label for spec in request.specs] == [
        "inductor+graphs+kernels",
        "inductor+graphs",
        "eager+graphs",
        "eager+graphs+kernels",
    ]
    only_shipped = resolved_for_a_gpu(monkeypatch, "--mode", "inductor", "eager+graphs")
    assert not any(spec.kernels for spec in only_shipped.specs)


def test_prompts_are_captured_where_that_is_asked_for(monkeypatch):
    for flags, expected in (((), False), (("--capture-prompts",), True)):
        request = resolved_for_a_gpu(monkeypatch, "--mode", "inductor", *flags)
        (cell,) = plan_cells(request)[0]
        assert cell.engine.captures_prompts is expected


def test_labels_name_kernels_that_were_chosen_against_the_mode(monkeypatch):
    def variants(*arguments: str) -> list[str]:
        request = resolved_for_a_gpu(monkeypatch, "--mode", *arguments)
        return [cell.variant for cell in plan_cells(request)[0]]

    assert variants("inductor") == ["inductor+graphs"]
    assert variants("inductor", "--attention", "sdpa") == ["inductor+graphs[sdpa]"]
    assert variants("eager", "--attention", "sdpa") == ["eager"]
    assert variants("inductor", "--attention", "flash_decode") == ["inductor+graphs[flash_decode]"]
    assert variants("eager+kernels", "--linear", "torch") == ["eager+kernels[torch linear]"]
    assert variants("eager", "--attention", "flash_decode", "--linear", "gemv") == [
        "eager[flash_decode, gemv]"
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("inductor+kernel",), "did you mean .kernels"),
        (("inductor+graphs+nographs",), "repeats or contradicts itself"),
        (("eager", "--capture-prompts"), "does nothing without CUDA graphs"),
        (("inductor", "--capture-prompts", "--batch-size", "8"), "4,096 tokens .*, not 16,384"),
        (("inductor+kernels+kernels",), "repeats or contradicts itself"),
        (
            ("inductor+kernels", "--attention", "sdpa", "--linear", "torch"),
            "leave nothing of mode 'inductor.graphs.kernels'",
        ),
        (("inductor", "eager", "--attention", "flex"), "which 'eager' is not"),
        (("inductor+kernels", "--workload", "forward"), "has no kernel of this project"),
    ],
)
def test_kernels_that_would_do_nothing_are_refused(monkeypatch, arguments, message):
    with pytest.raises(RequestError, match=message):
        resolved_for_a_gpu(monkeypatch, "--mode", *arguments)


def test_kernels_need_a_gpu():
    with pytest.raises(CannotRun, match="kernels need a CUDA GPU; leave out .kernels"):
        parsed("--mode", "inductor+kernels")


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


def test_a_report_without_what_draws_it_is_refused(monkeypatch):
    monkeypatch.setattr("inference_benchmark.options.plots_package.find_spec", lambda name: None)
    with pytest.raises(CannotRun, match=r"pip install -e '.\[plots\]'"):
        parsed("--report")
