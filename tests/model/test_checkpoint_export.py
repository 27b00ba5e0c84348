"""Weights handed to other programs: files and tensors hold what the decoder holds."""

from dataclasses import replace

import pytest
import torch

from inference_benchmark.errors import CannotRun
from inference_benchmark.model.checkpoint import load_checkpoint
from inference_benchmark.model.checkpoint_config import read_model
from inference_benchmark.model.checkpoint_export import config_json, export_safetensors
from inference_benchmark.model.checkpoint_names import tensors
from inference_benchmark.model.gguf.writer import write_gguf
from inference_benchmark.model.weights import build_decoder, empty_decoder
from inference_benchmark.models import MODELS
from inference_benchmark.session.weight_files import WeightFiles

TINY = MODELS["llama-tiny"].with_layers(2)


def model_of(name: str):
    """The preset's family and RoPE in a tiny model."""
    preset = MODELS[name]
    return replace(
        TINY,
        name=name,
        family=preset.family,
        rope=preset.rope,
        tied_embeddings=preset.tied_embeddings,
        norm_eps=preset.norm_eps,
        attention=replace(
            TINY.layers[0].attention,
            learned_qk_norm=preset.layers[0].attention.learned_qk_norm,
        ),
    )


@pytest.mark.parametrize("name", ["llama3.1-8b", "llama3.2-1b", "mistral-7b", "qwen3-8b"])
def test_a_folder_is_read_back_as_it_was(tmp_path, name):
    model = model_of(name)
    decoder = build_decoder(model, "bf16", "cpu", 16, seed=3)
    export_safetensors(decoder, tmp_path)
    config = read_model(tmp_path)
    assert replace(config, name=name, full_num_layers=model.full_num_layers) == model
    again = empty_decoder(config, "bf16", "cpu")
    load_checkpoint(again, tmp_path)
    for (path, written), (_, read) in zip(
        decoder.named_parameters(), again.named_parameters(), strict=True
    ):
        assert torch.equal(written, read), path


def test_what_a_gguf_file_held_goes_on_to_programs_that_read_checkpoints(tmp_path):
    """Its queries and keys are sorted into halves as they are read: so are a checkpoint's."""
    model = model_of("llama3.1-8b")
    decoder = build_decoder(model, "fp32", "cpu", 16, seed=3)
    write_gguf(decoder, tmp_path / "model.gguf", "fp32")
    from_file = empty_decoder(read_model(tmp_path / "model.gguf"), "fp32", "cpu")
    load_checkpoint(from_file, tmp_path / "model.gguf")
    weights = tensors(from_file)
    for name, expected in tensors(decoder).items():
        assert torch.equal(weights.pop(name), expected), name
    assert not weights
    assert "factor" in config_json(from_file)["rope_scaling"]


def test_pairs_that_a_family_keeps_side_by_side_are_no_views():
    decoder = empty_decoder(MODELS["deepseekv3-670b"].with_layers(1), "bf16", "meta")
    with pytest.raises(ValueError, match="laid out otherwise"):
        tensors(decoder)


def test_tensors_are_views_of_the_decoder():
    decoder = build_decoder(TINY, "bf16", "cpu", 16)
    weights = tensors(decoder)
    ours = {weight.untyped_storage().data_ptr() for weight in decoder.parameters()}
    assert {weight.untyped_storage().data_ptr() for weight in weights.values()} == ours
    q, k = (weights[f"model.layers.1.self_attn.{name}_proj.weight"] for name in "qk")
    assert torch.equal(torch.cat((q, k)), decoder.layers[1].qkv_proj.weight[: len(q) + len(k)])


def test_what_cannot_be_handed_over_is_refused():
    decoder = build_decoder(TINY, "bf16", "cpu", 16)
    decoder.config = replace(TINY, family="deepseek_v3")
    with pytest.raises(CannotRun, match="dense models of llama, mistral, qwen3"):
        config_json(decoder)


def test_files_are_written_once_and_removed(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    files = WeightFiles(build_decoder(TINY, "bf16", "cpu", 16))
    folder = files.safetensors()
    assert files.safetensors() == folder
    assert (folder / "config.json").exists()
    assert list(files.write_s) == ["safetensors"]
    files.close()
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    usage = type("Usage", (), {"free": 1000})()
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    files = WeightFiles(build_decoder(TINY, "bf16", "cpu", 16))
    with pytest.raises(CannotRun, match="set TMPDIR to a larger place"):
        files.safetensors()
    files.close()
