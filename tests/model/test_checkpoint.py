"""Checkpoints as transformers writes them: read back with the same logits."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from checkpoints import BUILDERS, LENGTH, NAME, PUBLISHED_LLAMA, change_tensors, edit_config, llama
from mixture_models import DEEPSEEK, LLAMA4, VOCAB
from safetensors.torch import load_file
from step_engines import make_engine

from inference_benchmark import benchmark_inference
from inference_benchmark.model.checkpoint import load_checkpoint
from inference_benchmark.model.checkpoint_config import CheckpointError, read_model
from inference_benchmark.model.parts import Llama3RopeScaling, Rope, YarnRopeScaling
from inference_benchmark.model.weights import empty_decoder
from inference_benchmark.models import MODELS


def read(folder):
    decoder = empty_decoder(read_model(folder), "fp32", "cpu")
    load_checkpoint(decoder, folder)
    decoder.set_context_length(LENGTH)
    return decoder


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("shard_size", ["1GB", "20KB"])
@torch.inference_mode()
def test_a_saved_model_gives_the_same_logits(tmp_path, name, shard_size):
    reference = BUILDERS[name]()
    reference.save_pretrained(tmp_path, max_shard_size=shard_size)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shard_size == "20KB")
    decoder = read(tmp_path)
    ids = torch.randint(VOCAB, (2, LENGTH), generator=torch.Generator().manual_seed(3))
    engine = make_engine("eager", decoder, 2, LENGTH, LENGTH)
    engine.prefill(ids)
    expected = reference(input_ids=ids).logits[:, -1]
    assert (engine.logits - expected).norm() < 1e-4 * expected.norm()


@pytest.mark.parametrize(("name", "config"), [("deepseek", DEEPSEEK), ("llama4", LLAMA4)])
def test_config_json_becomes_the_same_config(tmp_path, name, config):
    BUILDERS[name]().config.save_pretrained(tmp_path)
    edit_config(tmp_path, architectures=[type(BUILDERS[name]()).__name__])
    (tmp_path / "model.safetensors").touch()
    assert read_model(tmp_path) == replace(config, name=tmp_path.name)


def test_published_config_is_the_preset(tmp_path):
    (tmp_path / "model.safetensors").touch()
    edit_config(tmp_path, **PUBLISHED_LLAMA)
    preset = MODELS["llama3.1-8b"]
    assert read_model(tmp_path, preset) == preset
    assert read_model(tmp_path).name == tmp_path.name


def test_rope_as_older_and_newer_files_write_it(tmp_path):
    (tmp_path / "model.safetensors").touch()
    edit_config(tmp_path, **PUBLISHED_LLAMA)
    assert read_model(tmp_path).rope == Rope(500000.0, Llama3RopeScaling(8.0))
    yarn = {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096, "mscale": 1.0}
    edit_config(tmp_path, rope_scaling=yarn)
    assert read_model(tmp_path).rope == Rope(500000.0, YarnRopeScaling(40, 4096, mscale=1.0))
    edit_config(tmp_path, rope_parameters={"rope_type": "default", "rope_theta": 7.0})
    assert read_model(tmp_path).rope == Rope(7.0)


@pytest.fixture
def saved(tmp_path):
    folder = tmp_path / "saved"
    llama().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ["deepseek", "llama4"])
def test_the_benchmark_runs_a_checkpoint(tmp_path, capsys, name):
    BUILDERS[name]().save_pretrained(tmp_path)
    code = benchmark_inference.main(
        ["--model-path", str(tmp_path), "--device", "cpu", "--precision", "fp32", "--json"]
        + ["--mode", "eager", "--input-length", "40", "--output-length", "8", "--quiet"]
        + ["--num-iterations", "2", "--warmup-iterations", "1", "--details"]
    )
    out, err = capsys.readouterr()
    assert "of experts got none" in err
    result = json.loads(out.strip().splitlines()[-1])
    cell = SimpleNamespace(**result["cells"][0])
    assert code == 0
    assert cell.output_check["passed"]
    assert cell.output_check["routing_difference"] == 0
    assert cell.cold_start["load_s"] > 0
    assert cell.cold_start["build_s"] > 0
    assert cell.options["routing"]["even_share"] in (1 / 8, 1 / 16)
    assert result["config"]["model_name"] == tmp_path.name
    assert result["config"]["model_path"] == str(tmp_path)


def test_two_depths_of_a_checkpoint_share_its_weights(tmp_path, capsys):
    """The shallow one has no mixture of experts, so that nothing is routed there."""
    BUILDERS["deepseek"]().save_pretrained(tmp_path)
    benchmark_inference.main(
        ["--model-path", str(tmp_path), "--device", "cpu", "--precision", "fp32", "--json"]
        + ["--mode", "eager", "--input-length", "40", "--output-length", "8", "--quiet"]
        + ["--num-iterations", "2", "--warmup-iterations", "1", "--extrapolate"]
    )
    result = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert result["config"]["extrapolated_from"] == [1, 2]
    small, large = (cell for cell in result["cells"] if not cell["estimated"])
    assert small["output_check"]["passed"]
    assert large["output_check"]["passed"]
    assert small["options"]["routing"] is None
    assert large["options"]["routing"]["even_share"] == 1 / 16


def test_only_the_layers_that_are_built_are_read(saved):
    change_tensors(saved, lambda tensors: tensors.pop(NAME))  # of the second layer
    decoder = empty_decoder(read_model(saved).with_layers(1), "fp32", "cpu")
    load_checkpoint(decoder, saved)
    stored = load_file(saved / "model.safetensors")["model.layers.0.self_attn.o_proj.weight"]
    assert torch.equal(decoder.layers[0].o_proj.weight, stored)


def test_tensors_that_follow_from_others_are_passed_over(saved):
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    change_tensors(saved, lambda tensors: tensors.update({name: torch.zeros(4)}))
    load_checkpoint(empty_decoder(read_model(saved), "fp32", "cpu"), saved)


def test_layers_for_multi_token_prediction_are_passed_over(tmp_path):
    """DeepSeek V3 is published with one, after its last layer."""
    BUILDERS["deepseek"]().save_pretrained(tmp_path)
    extra = {
        "model.layers.3.eh_proj.weight": torch.zeros(64, 128),
        "model.layers.3.self_attn.o_proj.weight": torch.zeros(64, 48),
    }
    change_tensors(tmp_path, lambda tensors: tensors.update(extra))
    load_checkpoint(empty_decoder(read_model(tmp_path), "fp32", "cpu"), tmp_path)
    change_tensors(tmp_path, lambda tensors: tensors.pop("model.layers.3.eh_proj.weight"))
    with pytest.raises(CheckpointError, match=r"model.layers.3.self_attn.o_proj.weight in the"):
        load_checkpoint(empty_decoder(read_model(tmp_path), "fp32", "cpu"), tmp_path)


def test_such_a_name_is_measured_and_printed_harmless(tmp_path, capsys):
    folder = tmp_path / "red\x1b[31m\nmodel"
    llama().save_pretrained(folder)
    flags = ["--model-path", str(folder), "--device", "cpu", "--mode", "eager", "--details"]
    flags += ["--input-length", "8", "--output-length", "4", "--precision", "fp32"]
    capsys.readouterr()
    code = benchmark_inference.main([*flags, "--num-iterations", "2", "--warmup-iterations", "1"])
    out, err = capsys.readouterr()
    assert code == 0
    assert "red\\x1b[31m model" in out
    assert "red\x1b" not in out + err
