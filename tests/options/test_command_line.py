"""Requests: what is refused, in which words and with which exit code; what others ask for."""

import pytest
from command_lines import parsed, run

from inference_benchmark import benchmark_inference
from inference_benchmark.options.identity import IDENTITY_FIELDS, identity_config


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
        (
            ["--mode", "thunder", "--thunder-options", "nv_enable_linear"],
            "--thunder-options: 'nv_enable_linear' is no NAME=VALUE",
        ),
        (["--mode", "thunder", "--thunder-options", "a=1,b"], "'b' of 'a=1,b' is no NAME=VALUE"),
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
        (["--temperature", "0"], "not 0; --sampling greedy takes the most likely token"),
        (["--temperature", "-1"], "must be over 0, not -1\n"),
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
