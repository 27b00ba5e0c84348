"""Checkpoints of architectures that are not ours: transformers runs them and is its own reference."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from inference_benchmark import benchmark_inference
from inference_benchmark.model.foreign_config import read_foreign_model
from inference_benchmark.model.weight_format import Precision

LENGTHS = ["--input-length", "12", "--output-length", "10"]
FLAGS = [*LENGTHS, "--device", "cpu", "--num-iterations", "2", "--warmup-iterations", "0"]


def _configs() -> dict:
    from transformers import BloomConfig, GPT2Config, MixtralConfig, Olmo2Config

    heads = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    return {
        "gpt2": GPT2Config(n_positions=64, n_embd=32, n_layer=2, n_head=4, vocab_size=300),
        "olmo2": Olmo2Config(
            **heads, intermediate_size=64, num_key_value_heads=2, max_position_embeddings=64
        ),
        "mixtral": MixtralConfig(
            **heads, intermediate_size=48, num_key_value_heads=2, num_local_experts=4
        ),
        "bloom": BloomConfig(vocab_size=300, hidden_size=32, n_layer=2, n_head=4),  # ALiBi
    }


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Random models, whose weights are large enough that tokens differ."""
    from transformers import AutoModelForCausalLM

    made = {}
    for number, (name, config) in enumerate(_configs().items()):
        torch.manual_seed(number)
        config.bos_token_id = config.eos_token_id = None
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.dim() > 1:
                    weight.normal_(std=0.2)
        folder = made[name] = tmp_path_factory.mktemp("models") / name
        model.save_pretrained(folder)
        # A checkpoint's wishes, which a benchmark must not heed: here it would end at once.
        wishes = {"do_sample": True, "eos_token_id": list(range(300)), "repetition_penalty": 1.5}
        (folder / "generation_config.json").write_text(json.dumps(wishes))
    return made


def run(capsys, *arguments: str) -> tuple[int, dict | None, str]:
    """Exit code, the result, and what stderr said."""
    try:
        code = benchmark_inference.main(list(map(str, arguments)))
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    return code, json.loads(out.splitlines()[-1]) if code == 0 and out else None, err


@pytest.mark.parametrize(
    ("name", "precision", "second"),
    [
        ("gpt2", "bf16", "fp32"),
        ("olmo2", "fp32", "fp64"),
        ("mixtral", "fp32", "fp64"),
        ("bloom", "fp32", "fp64"),
    ],
)
def test_it_is_timed_and_held_against_a_second_run(capsys, folders, name, precision, second):
    modes = ["--mode", "transformers", "transformers+static"]
    where = ["--model-path", folders[name], "--precision", precision]
    code, result, err = run(capsys, *where, *modes, *FLAGS, "--json")
    assert code == 0, err
    assert f"checked: tokens, logits against a second run in {second}" in " ".join(err.split())
    assert len(result["cells"]) == 2  # no baseline of ours joins them
    for cell in result["cells"]:
        check = cell["output_check"]
        assert check["passed"]
        assert check["replayed_runs"] == 2
        assert check["reference"] == f"a second run in {second}"
        assert cell["summary"]["metrics"]["tbot_s"]["median"] > 0
        assert cell["limit"] is None
        assert cell["summary"]["mfu"] is None
        assert cell["memory"]["kv_cache_bytes"] is None
    assert result["model"]["active_parameters"] is None
    assert result["model"]["kv_bytes_per_token"] is None


def test_what_is_known_comes_from_the_files(folders):
    model = read_foreign_model(folders["gpt2"])
    # Embeddings of tokens and positions; of a layer 12 squares, 13 vectors; the last norm.
    assert model.parameters == 300 * 32 + 64 * 32 + 2 * (12 * 32**2 + 13 * 32) + 2 * 32
    assert (model.num_layers, model.hidden_size, model.context_length) == (2, 32, 64)
    assert model.weight_bytes(Precision.of("bf16")) == 2 * model.parameters


def _other_prompt(monkeypatch):
    from inference_benchmark.engines.transformers import TransformersEngine

    original = TransformersEngine.generate

    def generate(self, prompts, output_length):
        return original(self, [[5, *prompt[1:]] for prompt in prompts], output_length)

    monkeypatch.setattr(TransformersEngine, "generate", generate)


def _other_model_in_the_wider_type(monkeypatch):
    from inference_benchmark.model.foreign import ForeignDecoder

    original = ForeignDecoder.in_type

    def in_type(self, dtype):
        model = original(self, dtype)
        if dtype != self.dtype:
            model.transformer.h[1].mlp.c_fc.weight.data.mul_(-1)
        return model

    monkeypatch.setattr(ForeignDecoder, "in_type", in_type)


@pytest.mark.parametrize("fault", [_other_prompt, _other_model_in_the_wider_type])
def test_what_differs_from_the_second_run_has_no_speed(capsys, folders, monkeypatch, fault):
    fault(monkeypatch)
    where = ["--model-path", folders["gpt2"], "--precision", "fp32"]
    code, _, err = run(capsys, *where, "--mode", "transformers", *FLAGS, "--json")
    assert code == 1
    assert "WRONG" in err


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        ("--mode inductor", "mode 'inductor' can't run it: --mode transformers alone may", 3),
        ("--mode transformers eager", "mode 'eager' can't run it", 3),
        ("--mode transformers --baseline eager", "mode 'eager' can't run it", 3),
        ("--mode vllm", "unsupported architecture GPT2LMHeadModel", 3),
        ("--mode transformers --num-layers 1", "GPT2LMHeadModel is built by transformers", 2),
        ("--mode transformers --extrapolate", "--extrapolate needs a model of ours", 2),
        ("--mode transformers --model-name llama3.1-8b", "it is not llama3.1-8b", 3),
        ("--mode transformers --workload forward --input-length 9", "generates", 2),
        (
            "--mode transformers --quantize int8 --input-length 9 --output-length 9",
            "does not reach",
            2,
        ),
        ("--mode transformers --input-length 60 --output-length 10", "a context of 64", 2),
    ],
)
def test_what_cannot_be_is_one_line(capsys, folders, arguments, words, code):
    where = ["--model-path", folders["gpt2"], "--device", "cpu"]
    exit_code, _, err = run(capsys, *where, *arguments.split())
    assert exit_code == code
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_weights_that_are_not_there_are_named(capsys, folders, tmp_path):
    folder = tmp_path / "gpt2"
    folder.mkdir()
    for file in folders["gpt2"].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    weights = load_file(folder / "model.safetensors")
    weights.pop("transformer.h.1.mlp.c_fc.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    code, _, err = run(capsys, "--model-path", folder, "--mode", "transformers", *FLAGS)
    assert code == 3
    assert "lacks transformer.h.1.mlp.c_fc.weight" in err


@pytest.mark.parametrize("value", [1e30, True, "x", None])
def test_a_number_that_transformers_refuses_is_one_line(capsys, folders, tmp_path, value):
    """The error is of a type of the library's own."""
    folder = tmp_path / "llama"
    folder.mkdir()
    weights = folders["gpt2"] / "model.safetensors"
    (folder / weights.name).write_bytes(weights.read_bytes())
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    text = json.dumps(config | {"num_hidden_layers": value, "hidden_size": 64, "vocab_size": 100})
    (folder / "config.json").write_text(text)
    code, _, err = run(capsys, "--model-path", folder, "--mode", "transformers", *FLAGS)
    assert code == 3
    assert "num_hidden_layers" in err
    assert len(err.strip().splitlines()) == 1
