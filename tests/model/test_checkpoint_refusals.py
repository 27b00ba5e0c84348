"""What is wrong with a checkpoint, each refused in one line and at once."""

import json
import os
import pickle

import pytest
import torch
from checkpoints import NAME, change_tensors, edit_config, llama
from conftest import ROOT

from inference_benchmark import benchmark_inference
from inference_benchmark.model.checkpoint import load_checkpoint
from inference_benchmark.model.checkpoint_config import CheckpointError, read_model
from inference_benchmark.model.weights import empty_decoder
from inference_benchmark.models import MODELS


@pytest.fixture
def saved(tmp_path):
    folder = tmp_path / "saved"
    llama().save_pretrained(folder)
    return folder


def refused(folder, capsys, *arguments: str) -> str:
    """The one line on stderr; the exit code is 3."""
    code = benchmark_inference.main(
        ["--model-path", str(folder), "--device", "cpu", "--mode", "eager", "--quiet", *arguments]
        + ["--input-length", "8", "--output-length", "4", "--precision", "fp32"]
    )
    lines = capsys.readouterr().err.strip().splitlines()
    assert code == 3
    return lines[-1]


def test_a_missing_tensor_is_named(saved, capsys):
    change_tensors(saved, lambda tensors: tensors.pop(NAME))
    assert f"{NAME} is missing" in refused(saved, capsys)


def test_a_wrong_shape_is_named(saved, capsys):
    change_tensors(saved, lambda tensors: tensors.update({NAME: tensors[NAME][:-1].clone()}))
    line = refused(saved, capsys)
    assert f"{NAME}: shape (79, 32) in the checkpoint, (80, 32) expected" in line


def test_a_quantised_tensor_is_named(saved, capsys):
    change_tensors(
        saved, lambda tensors: tensors.update({NAME: tensors[NAME].to(torch.float8_e4m3fn)})
    )
    assert f"{NAME}: F8_E4M3 is not supported" in refused(saved, capsys)


@pytest.mark.parametrize("kept", [0.5, 0.001])
def test_a_truncated_file_is_named(saved, capsys, kept):
    file = saved / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])
    assert "model.safetensors is truncated" in refused(saved, capsys)


def test_a_missing_shard_is_named(tmp_path, capsys):
    llama().save_pretrained(tmp_path, max_shard_size="20KB")
    gone = sorted(tmp_path.glob("*.safetensors"))[1]
    gone.unlink()
    assert f"{gone.name} is missing" in refused(tmp_path, capsys)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "unsupported architecture GPT2LMHeadModel"),
        ({"hidden_act": "gelu"}, 'hidden_act "gelu" is not supported'),
        ({"attention_bias": True}, "attention_bias true is not supported"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantization_config"),
        ({"rope_parameters": {"rope_type": "dynamic"}}, 'RoPE scaling "dynamic" is not supported'),
        ({"num_hidden_layers": "two"}, 'num_hidden_layers "two" is not supported'),
        ({"rope_parameters": 3}, "rope_parameters 3 is not supported"),
    ],
)
def test_an_unsupported_config_is_named(saved, capsys, changes, words):
    edit_config(saved, **changes)
    assert words in refused(saved, capsys)


def test_a_missing_setting_is_named(saved, capsys):
    config = json.loads((saved / "config.json").read_text())
    del config["hidden_size"]
    (saved / "config.json").write_text(json.dumps(config))
    assert "'hidden_size' is missing" in refused(saved, capsys)


def test_a_damaged_config_is_named(saved, capsys):
    (saved / "config.json").write_text("{")
    assert "config.json can't be read" in refused(saved, capsys)


def test_the_architecture_has_to_be_that_of_the_name(saved, capsys):
    line = refused(saved, capsys, "--model-name", "llama4-scout")
    assert "expected llama4, found llama" in line
    line = refused(saved, capsys, "--model-name", "llama3.1-8b")
    assert "expected llama3.1-8b (32 layers" in line


class Bomb:
    def __reduce__(self):
        return (exec, ("raise AssertionError('unpickled')",))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pytorch_model.bin", "a pickle"),
        ("model.pt", "a pickle"),
        ("consolidated.00.pth", "a pickle"),
        ("model.gguf", "is no GGUF file"),
    ],
)
def test_pickles_are_refused_unopened_whatever_they_are_called(saved, capsys, name, words):
    file = saved / name
    file.write_bytes(pickle.dumps(Bomb()))
    assert words in refused(file, capsys)  # the file itself
    (saved / "model.safetensors").unlink()
    line = refused(saved, capsys)  # a folder that holds nothing else
    assert name in line
    assert words in line


def test_a_folder_that_is_none(tmp_path, capsys):
    assert "is not a folder" in refused(tmp_path / "nowhere", capsys)
    assert "holds no config.json" in refused(tmp_path, capsys)
    assert "can't be read: File name too long" in refused(tmp_path / ("n" * 5000), capsys)


def test_nothing_of_ours_unpickles():
    for file in ROOT.glob("inference_benchmark/model/**/*.py"):
        assert "torch.load" not in file.read_text()
        assert "import pickle" not in file.read_text()


def test_a_checkpoint_of_the_wrong_model_is_refused_before_it_is_read(saved):
    with pytest.raises(CheckpointError, match="expected deepseek_v3, found llama"):
        read_model(saved, MODELS["deepseekv3-670b"])


def test_fewer_layers_in_config_json_than_in_the_weights_are_refused(saved, capsys):
    edit_config(saved, num_hidden_layers=1)
    line = refused(saved, capsys)
    assert "model.layers.1.input_layernorm.weight and 8 more in the weights" in line
    assert "(1 layers)" in line


@pytest.mark.parametrize(
    "name", ["model.layers.0.self_attn.q_proj.bias", "model.layers.0.self_attn.q_norm.weight"]
)
def test_a_tensor_that_nothing_takes_is_refused(saved, capsys, name):
    change_tensors(saved, lambda tensors: tensors.update({name: torch.zeros(8)}))
    assert f"{name} in the weights, but not in the model" in refused(saved, capsys)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_no_numbers_are_the_checkpoints_fault(saved, capsys, value):
    change_tensors(saved, lambda tensors: tensors[NAME][3, 5].fill_(value))
    assert f"{NAME} holds NaN or infinity" in refused(saved, capsys)


def test_weights_that_overflow_the_precision_are_named(saved):
    change_tensors(saved, lambda tensors: tensors[NAME][3, 5].fill_(1e6))
    load_checkpoint(empty_decoder(read_model(saved), "bf16", "cpu"), saved)
    with pytest.raises(CheckpointError, match=f"{NAME} holds values too large for float16"):
        load_checkpoint(empty_decoder(read_model(saved), "fp16", "cpu"), saved)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_hidden_layers": 100_000}, "num_hidden_layers 100000 is not supported"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers 1000000000 is not supported"),
        ({"num_hidden_layers": 10**30}, "num_hidden_layers 1000000"),
        ({"num_hidden_layers": 1e30}, "num_hidden_layers 1e+30 is not supported"),
        ({"num_hidden_layers": True}, "num_hidden_layers true is not supported"),
        ({"num_hidden_layers": 2.5}, "num_hidden_layers 2.5 is not supported"),
        ({"hidden_size": 10**1000}, "hidden_size 1000000"),
        ({"intermediate_size": -5}, "intermediate_size -5 is not supported"),
        ({"num_key_value_heads": 3}, "num_key_value_heads 3 is not supported"),
        ({"head_dim": True}, "head_dim true is not supported"),
        ({"rms_norm_eps": "small"}, 'rms_norm_eps "small" is not supported'),
        ({"rms_norm_eps": True}, "rms_norm_eps true is not supported"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings 1 is not supported"),
        ({"attention_bias": 0}, "attention_bias 0 is not supported"),
        ({"rope_parameters": {"rope_theta": "big"}}, 'rope_theta "big" is not supported'),
        ({"rope_parameters": None, "rope_theta": "1e4"}, 'rope_theta "1e4" is not supported'),
        ({"rope_parameters": {"rope_type": ["yarn"]}}, 'RoPE scaling ["yarn"] is not supported'),
        ({"architectures": {"a": 1}}, "unsupported architecture none"),
        ({"architectures": [["LlamaForCausalLM"]]}, "unsupported architecture"),
    ],
)
def test_a_value_that_is_none_is_named(saved, capsys, changes, words):
    edit_config(saved, **changes)
    assert words in refused(saved, capsys)


def test_a_deeply_nested_config_is_named(saved, capsys):
    (saved / "config.json").write_text("[" * 200_000)
    assert "config.json can't be read: it is nested too deeply" in refused(saved, capsys)


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({"weight_map": [1]}, "weight_map does not give each tensor a file name"),
        ({"weight_map": {"a": 1}}, "weight_map does not give each tensor a file name"),
        ({"weight_map": {"a": "../other/model.safetensors"}}, "which is outside the folder"),
        ({"weight_map": {"a": "/tmp/model.safetensors"}}, "which is outside the folder"),
        ({"weight_map": {"a": "."}}, "is not a regular file"),
        ({"weight_map": {}}, "holds no safetensors files"),
        ([1], "holds no JSON object"),
    ],
)
def test_an_index_that_makes_no_sense_is_named(saved, capsys, index, words):
    (saved / "model.safetensors.index.json").write_text(json.dumps(index))
    assert words in refused(saved, capsys)


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors.index.json", "model.safetensors"]
)
def test_a_named_pipe_is_not_waited_for(saved, capsys, name):
    (saved / name).unlink(missing_ok=True)
    os.mkfifo(saved / name)
    assert f"{name} is not a regular file" in refused(saved, capsys)


def test_a_folders_name_reaches_the_terminal_without_what_terminals_obey(tmp_path, capsys):
    folder = tmp_path / "red\x1b[31m\nmodel\u202e"
    llama().save_pretrained(folder)
    assert read_model(folder).name == "red\\x1b[31m model\\u202e"
    (folder / "config.json").write_text("{")
    line = refused(folder, capsys)
    assert "red\\x1b[31m model\\u202e/config.json can't be read" in line
