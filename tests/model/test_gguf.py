"""GGUF files: written and read back with the same logits, read as the package gguf reads them, or
refused in one line."""

import json
import struct
from dataclasses import replace

import gguf
import pytest
import torch
from safetensors.torch import save_file
from step_engines import make_engine

from inference_benchmark import benchmark_inference
from inference_benchmark.errors import CannotRun
from inference_benchmark.model.checkpoint import load_checkpoint
from inference_benchmark.model.checkpoint_config import CheckpointError, read_model
from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.gguf.vocabulary import ids_of, text_of
from inference_benchmark.model.gguf.writer import write_gguf
from inference_benchmark.model.parts import (
    DenseFeedForward,
    GroupedQueryAttention,
    Llama3RopeScaling,
    Rope,
    RopeFactors,
)
from inference_benchmark.model.weights import build_decoder, empty_decoder
from inference_benchmark.models import MODELS

LENGTH = 24
PLAIN = ModelConfig(
    "plain", 96, 64, 2, GroupedQueryAttention(4, 2, 16), DenseFeedForward(96), 64, Rope(10000.0)
)
SCALED = replace(PLAIN, rope=Rope(500000.0, Llama3RopeScaling(8.0, 1.0, 4.0, 64)))
TIED = replace(PLAIN, tied_embeddings=True)
# Heads together are wider than the residual stream.
WIDE = replace(PLAIN, attention=GroupedQueryAttention(4, 1, 32), family="mistral")


def written(tmp_path, config=PLAIN, precision="fp32", file_type="fp32", vocabulary="none"):
    """The decoder, and the file of its weights."""
    decoder = build_decoder(config, precision, "cpu", LENGTH, seed=3)
    path = tmp_path / "model.gguf"
    write_gguf(decoder, path, file_type, vocabulary)
    return decoder, path


def read(path, precision="fp32"):
    decoder = empty_decoder(read_model(path), precision, "cpu")
    load_checkpoint(decoder, path)
    decoder.set_context_length(LENGTH)
    return decoder


@torch.inference_mode()
def logits_of(decoder) -> torch.Tensor:
    ids = torch.arange(2 * LENGTH).view(2, LENGTH) % decoder.config.vocab_size
    engine = make_engine("eager", decoder, 2, LENGTH, LENGTH + 1)
    engine.prefill(ids)
    return engine.logits


# Written and read


@pytest.mark.parametrize(
    "config", [PLAIN, SCALED, TIED, WIDE], ids=("plain", "scaled", "tied", "wide")
)
def test_what_is_written_is_read_with_the_same_logits(tmp_path, config):
    decoder, path = written(tmp_path, config)
    assert torch.equal(logits_of(decoder), logits_of(read(path)))


@pytest.mark.parametrize(("precision", "file_type"), [("bf16", "bf16"), ("fp16", "fp16")])
def test_half_precision_stays_as_it_is(tmp_path, precision, file_type):
    decoder, path = written(tmp_path, PLAIN, precision, file_type)
    assert torch.equal(logits_of(decoder), logits_of(read(path, precision)))


def test_the_configuration_comes_back(tmp_path):
    _, path = written(tmp_path, SCALED)
    model = read_model(path)
    assert isinstance(model.rope.scaling, RopeFactors)
    assert model.rope.scaling.values[0] == 1  # the fastest is kept,
    assert model.rope.scaling.values[-1] == 8  # the slowest is stretched
    assert replace(model, rope=SCALED.rope, name="plain") == SCALED
    assert model.name == "model"


def test_llama_3_1_is_known_by_its_factors(tmp_path):
    """So other programs can be told of it, whose configurations have no factors."""
    config = replace(PLAIN, rope=Rope(500000.0, Llama3RopeScaling(8.0)))
    decoder, path = written(tmp_path, config)
    assert read_model(path).rope == replace(config.rope, interleaved=True)
    assert torch.equal(logits_of(decoder), logits_of(read(path)))


def test_the_package_reads_the_same_values(tmp_path):
    """Names, types and values; of queries the order in which llama.cpp rotates."""
    decoder, path = written(tmp_path, PLAIN)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    assert len(tensors) == 3 + 2 * 9
    up = torch.from_numpy(tensors["blk.1.ffn_up.weight"].data.copy())
    assert torch.equal(up, decoder.layers[1].gate_up_proj.weight[96:])
    query = torch.from_numpy(tensors["blk.0.attn_q.weight"].data.copy())
    ours = decoder.layers[0].qkv_proj.weight
    assert torch.equal(query[:4], ours[[0, 8, 1, 9]])  # of a head of 16: value 0, its partner, ...
    assert torch.equal(query[16:18], ours[[16, 24]])
    assert tensors["blk.0.attn_norm.weight"].tensor_type.name == "F32"


@pytest.mark.parametrize("name", ["deepseekv3-670b", "llama4-scout", "qwen3-8b"])
def test_other_architectures_are_not_written(tmp_path, name):
    with torch.device("meta"):
        decoder = empty_decoder(MODELS[name].with_layers(4), "bf16", "meta")
    with pytest.raises(CannotRun, match="not of Llama's architecture"):
        write_gguf(decoder, tmp_path / "model.gguf")


# A vocabulary of characters


def test_ids_come_back_from_their_text():
    ids = [0, 1, 2, 65533, 65534, 131067]
    assert ids_of(text_of(ids)) == ids
    assert [hex(ord(character)) for character in text_of(ids)][3:5] == ["0xffffd", "0x100000"]
    with pytest.raises(ValueError, match=r"U\+0041 is no token"):
        ids_of("A")


@pytest.mark.parametrize("config", [PLAIN, TIED], ids=("plain", "tied"))
def test_each_token_has_a_character_and_the_end_a_token_of_its_own(tmp_path, config):
    decoder, path = written(tmp_path, config, vocabulary="characters")
    fields = gguf.GGUFReader(path).fields
    assert ids_of("".join(fields["tokenizer.ggml.tokens"].contents())) == list(range(97))
    assert fields["tokenizer.ggml.eos_token_id"].contents() == 96
    assert fields["tokenizer.ggml.add_bos_token"].contents() is False
    logits = logits_of(read(path))
    assert torch.equal(logits[:, :96], logits_of(decoder))
    assert not logits[:, 96].any()


# Through the command line


def run(path, *arguments: str) -> int:
    return benchmark_inference.main(
        ["--model-path", str(path), "--device", "cpu", "--mode", "eager", "--quiet", *arguments]
        + ["--input-length", "8", "--output-length", "4", "--precision", "fp32"]
        + ["--num-iterations", "2", "--warmup-iterations", "1"]
    )


def refused(path, capsys, *arguments: str) -> str:
    code = run(path, *arguments)
    lines = capsys.readouterr().err.strip().splitlines()
    assert code == 3
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("place", ["file", "folder", "another name"])
def test_a_file_is_measured_wherever_it_is(tmp_path, capsys, place):
    _, path = written(tmp_path)
    if place == "another name":
        path = path.rename(tmp_path / "weights.bin")
    assert run(tmp_path if place == "folder" else path, "--json") == 0
    result = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert result["cells"][0]["output_check"]["passed"]
    assert result["config"]["model_name"] == ("weights" if place == "another name" else "model")


def test_safetensors_come_before_a_gguf_file_beside_them(tmp_path, capsys):
    written(tmp_path)
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    assert "holds no config.json" in refused(tmp_path, capsys)


def test_several_files_are_a_choice(tmp_path, capsys):
    _, path = written(tmp_path)
    (tmp_path / "other.gguf").write_bytes(path.read_bytes())
    assert "holds 2 GGUF files, model.gguf and others: name one" in refused(tmp_path, capsys)


def test_a_named_model_has_to_be_that_one(tmp_path, capsys):
    """This comes before whatever else is wrong."""
    _, path = written(tmp_path, PLAIN, file_type="q8_0")
    path.write_bytes(path.read_bytes()[:-1000])
    line = refused(path, capsys, "--model-name", "llama3.1-8b")
    assert "model.gguf: expected llama3.1-8b (32 layers" in line
    assert "found 2 layers, hidden size 64" in line
    assert "expected qwen3, found llama" in refused(path, capsys, "--model-name", "qwen3-8b")


def test_models_of_mistral_are_known_under_llamas_architecture(tmp_path):
    _, path = written(tmp_path, WIDE)
    assert read_model(path, replace(WIDE, name="mistral-small")).family == "mistral"


# Damaged files


@pytest.mark.parametrize("kept", [0, 3, 10, 200, 1200, 0.5, 0.999])
def test_a_truncated_file_is_named(tmp_path, capsys, kept):
    _, path = written(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept) if kept < 1 else kept])
    line = refused(path, capsys)
    assert "model.gguf" in line
    assert any(word in line for word in ("truncated", "is empty", "does not begin with GGUF"))


def header(tensors: int, settings: int, rest: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, settings) + rest


def text(content: str) -> bytes:
    return struct.pack("<Q", len(content)) + content.encode()


GARBLED = {
    "tensors without end": (header(2**60, 0), "truncated or damaged"),
    "settings without end": (header(0, 2**60), "truncated or damaged"),
    "an endless array": (
        header(0, 1, text("a") + struct.pack("<IIQ", 9, 0, 2**62)),
        "truncated or damaged",
    ),
    "an endless array of texts": (
        header(0, 1, text("a") + struct.pack("<IIQ", 9, 8, 2**62) + text("b")),
        "truncated or damaged",
    ),
    "an array of arrays": (
        header(0, 1, text("a") + struct.pack("<IIQ", 9, 9, 2)),
        "holds an array of values of type 9",
    ),
    "an endless name": (header(0, 1, struct.pack("<Q", 2**63)), "truncated or damaged"),
    "a setting of no type": (
        header(0, 1, text("a") + struct.pack("<I", 99)),
        "holds a setting of type 99",
    ),
    "a name that is no text": (
        header(0, 1, struct.pack("<Q", 2) + b"\xff\xfe" + struct.pack("<IB", 0, 1)),
        "a name in it is no text",
    ),
    "a tensor of many dimensions": (
        header(1, 0, text("a") + struct.pack("<I", 99)),
        "a has 99 dimensions",
    ),
    "an empty tensor": (
        header(1, 0, text("a") + struct.pack("<IQIQ", 1, 0, 0, 0)),
        "a has the shape (0,)",
    ),
    "two tensors of one name": (
        header(2, 0, (text("a") + struct.pack("<IQIQ", 1, 4, 0, 0)) * 2),
        "two of its tensors have one name",
    ),
    "an older version": (header(0, 0, version=1), "version 1: only versions 2 and 3"),
    "big-endian": (header(0, 0, version=3 << 24), "big-endian"),
    "another architecture": (
        header(0, 1, text("general.architecture") + struct.pack("<I", 8) + text("gpt2")),
        "unsupported architecture gpt2",
    ),
    "one without an architecture": (header(0, 0), "unsupported architecture none"),
}


@pytest.mark.parametrize("name", GARBLED)
def test_a_garbled_file_is_named(tmp_path, capsys, name):
    content, words = GARBLED[name]
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    line = refused(path, capsys)
    assert words in line
    assert "model.gguf" in line


def changed(path, monkeypatch, **settings) -> None:
    """Let the file have other settings; None leaves one out."""
    from inference_benchmark.model import checkpoint_config

    file = checkpoint_config.read_gguf(path)
    named = {f"llama.{name.replace('__', '.')}": value for name, value in settings.items()}
    kept = {name: value for name, value in (file.settings | named).items() if value is not None}
    monkeypatch.setattr(checkpoint_config, "read_gguf", lambda path: replace(file, settings=kept))


def test_linear_scaling_is_a_factor_for_all(tmp_path, monkeypatch):
    _, path = written(tmp_path)
    changed(path, monkeypatch, rope__scaling__type="linear", rope__scaling__factor=4.0)
    assert read_model(path).rope.scaling == RopeFactors((4.0,) * 8)
    changed(path, monkeypatch, rope__scaling__type="none", rope__scaling__factor=4.0)
    assert read_model(path).rope.scaling is None


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("block_count", 100_000, "llama.block_count 100000 is not supported"),
        ("block_count", None, "llama.block_count is missing"),
        ("expert_count", 8, "llama.expert_count 8 is not supported"),
        ("attention.head_count_kv", 3, "llama.attention.head_count_kv 3 is not supported"),
        ("rope.dimension_count", 8, "llama.rope.dimension_count 8 is not supported"),
        ("rope.scaling.type", "yarn", 'llama.rope.scaling.type "yarn" is not supported'),
    ],
)
def test_a_setting_that_is_not_supported_is_named(tmp_path, monkeypatch, setting, value, words):
    _, path = written(tmp_path)
    changed(path, monkeypatch, **{setting.replace(".", "__"): value})
    with pytest.raises(CheckpointError, match=words):
        read_model(path)
