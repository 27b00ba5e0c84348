"""TensorRT, as far as it goes without its libraries: the exported networks, executed by PyTorch in
place of what the builder would make of them, through the whole output check; and what is refused."""

import sys
from types import SimpleNamespace

import pytest
import torch
from step_engines import make_engine

from inference_benchmark import benchmark_inference
from inference_benchmark.engines import ENGINES
from inference_benchmark.errors import CannotRun
from inference_benchmark.model.weights import build_decoder, empty_decoder
from inference_benchmark.models import MODELS
from inference_benchmark.output_check import check_before
from inference_benchmark.workloads.inputs import random_tokens

MODEL = MODELS["llama-tiny"].with_layers(2)
INPUT, CACHE = 40, 200


@pytest.fixture
def builds(monkeypatch):
    """Each call of the builder: the exported program and the settings."""
    calls = []

    def build(exported, *, arg_inputs, **settings):
        calls.append((exported, arg_inputs, settings))
        return exported.module()

    fake = SimpleNamespace(dynamo=SimpleNamespace(compile=build), __version__="0.0")
    monkeypatch.setitem(sys.modules, "torch_tensorrt", fake)
    return calls


def engine_of(decoder, batch_size: int = 2, **options):
    return make_engine("tensorrt", decoder, batch_size, INPUT, CACHE, **options)


def test_its_networks_compute_what_the_reference_computes(builds):
    decoder = build_decoder(MODEL, "bf16", "cpu", CACHE)
    prompts = [random_tokens(MODEL.vocab_size, 2, INPUT, 0, run, "cpu") for run in (1, 2)]
    record = check_before(engine_of(decoder), decoder, prompts, "bf16", 0)
    assert record["passed"], record["failures"]
    assert len(builds) == 2  # one network for the prompt, one for a token: shapes are static


def test_networks_have_weights_as_constants_and_change_no_input(builds):
    decoder = build_decoder(MODEL, "bf16", "cpu", CACHE)
    engine = engine_of(decoder)
    engine.prefill(random_tokens(MODEL.vocab_size, 2, INPUT, 0, 1, "cpu"))
    engine.decode()
    for exported, inputs, _ in builds:
        signature = exported.graph_signature
        assert not signature.user_inputs_to_mutate
        assert not signature.buffers_to_mutate
        assert len(signature.user_inputs) == len(inputs)
        assert len(signature.user_outputs) == 1 + 2 * MODEL.num_layers
    (_, prompt, _), (_, token, _) = builds
    assert [tuple(tensor.shape) for tensor in prompt] == [(2, INPUT), (INPUT, 64), (INPUT, 64)]
    assert [tuple(tensor.shape) for tensor in token[3:5]] == [(CACHE,), (2, 2, CACHE, 64)]


@pytest.mark.parametrize(("options", "level"), [((), None), (("optimised",), 5)])
def test_the_builder_is_asked_for_its_default_or_its_best(builds, options, level):
    decoder = build_decoder(MODEL, "bf16", "cpu", CACHE)
    engine_of(decoder, options=options).prefill(torch.zeros(2, INPUT, dtype=torch.int64))
    ((_, _, settings),) = builds
    assert settings.get("optimization_level") == level
    assert settings["use_explicit_typing"]
    assert settings["disable_tf32"]


def test_optimised_means_half_precision(builds):
    with pytest.raises(CannotRun, match="--precision bf16 or fp16"):
        engine_of(build_decoder(MODEL, "fp32", "cpu", CACHE), options=("optimised",))


def test_other_families_are_refused(builds):
    decoder = empty_decoder(MODELS["qwen3-8b"].with_layers(1), "bf16", "meta")
    with pytest.raises(CannotRun, match="Llama's family only"):
        engine_of(decoder)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--mode", "tensorrt", "--device", "cpu"], 3, "mode 'tensorrt' needs a CUDA GPU"),
        (["--mode", "tensorrt+fast"], 2, "unknown suffix of mode 'tensorrt': '+fast'"),
        (["--mode", "tensorrt+kernels"], 2, "has kernels of its own"),
    ],
)
def test_it_is_refused_in_a_line(capsys, arguments, code, words):
    assert benchmark_inference.main([*arguments, "--quiet"]) == code
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line


def test_a_missing_package_is_named(monkeypatch):
    from inference_benchmark.engines.spec import check_packages, parse_mode

    spec = parse_mode("tensorrt+optimised", (), "auto", "cuda")
    assert spec.label == "tensorrt+optimised"
    with pytest.raises(CannotRun, match="package torch_tensorrt: pip install torch-tensorrt"):
        check_packages(spec, "cuda")


def test_it_is_said_wherever_it_is_listed():
    assert ENGINES["tensorrt"].shown_name == "tensorrt (written, not run)"
    assert "tensorrt (written, not run)" in " ".join(help_text().split())
    assert "never run" in ENGINES["tensorrt"].description


def help_text() -> str:
    from inference_benchmark.options.flags import make_parser

    return make_parser().format_help()
