"""The example of a model family: its presets run, its checkpoints are read."""

import json

import pytest
import torch
from conftest import ROOT
from safetensors.torch import save_file

from inference_benchmark import benchmark_inference
from inference_benchmark.model.checkpoint import load_checkpoint
from inference_benchmark.model.checkpoint_config import read_model
from inference_benchmark.model.families import FAMILIES
from inference_benchmark.model.weights import build_decoder, empty_decoder
from inference_benchmark.models import MODELS


@pytest.fixture
def plain(monkeypatch):
    """The example's family; forgotten after the test."""
    before = dict(FAMILIES), dict(MODELS)
    monkeypatch.syspath_prepend(ROOT / "examples")
    import model_family

    FAMILIES["plain"] = model_family.PLAIN
    MODELS.update(model_family.PRESETS)
    yield model_family
    for table, entries in zip((FAMILIES, MODELS), before, strict=True):
        table.clear()
        table.update(entries)


def test_a_preset_of_the_example_is_benchmarked(plain, capsys):
    flags = "--model-name plain-5m --mode eager --device cpu --precision fp32 --json --quiet "
    flags += "--input-length 24 --output-length 4 --num-iterations 2 --warmup-iterations 1"
    assert benchmark_inference.main(flags.split()) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["config"]["model_name"] == "plain-5m"
    (cell,) = result["cells"]
    assert cell["status"] == "ok"


CONFIG = {
    "architectures": ["PlainForCausalLM"],
    "vocab_size": 1000,
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}


def test_a_checkpoint_of_the_example_is_read(plain, tmp_path):
    source = build_decoder(MODELS["plain-5m"], "fp32", "cpu", 16)
    tensors = {
        "model.embed_tokens.weight": source.embed_tokens.weight,
        "model.norm.weight": source.norm.weight,
    }
    for index, layer in enumerate(source.layers):
        q, k, v = layer.qkv_proj.weight.split((256, 128, 128))
        gate, up = layer.gate_up_proj.weight.chunk(2)
        named = {"self_attn.q_proj": q, "self_attn.k_proj": k, "self_attn.v_proj": v}
        named |= {"ffn.gate_proj": gate, "ffn.up_proj": up, "ffn.down_proj": layer.down_proj.weight}
        named |= {"self_attn.o_proj": layer.o_proj.weight}
        for norm in ("input_layernorm", "post_attention_layernorm"):
            named[norm] = getattr(layer, norm).weight
        for name, tensor in named.items():
            tensors[f"model.layers.{index}.{name}.weight"] = tensor.contiguous()
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    config = read_model(tmp_path, MODELS["plain-5m"])
    assert config == MODELS["plain-5m"]
    decoder = empty_decoder(config, "fp32", "cpu")
    load_checkpoint(decoder, tmp_path)
    for (path, read), written in zip(decoder.named_parameters(), source.parameters(), strict=True):
        assert torch.equal(read, written), path


def test_the_example_is_short():
    for name in ("model_family.py", "weight_format_int8.py"):
        assert len((ROOT / "examples" / name).read_text().splitlines()) < 60, name
