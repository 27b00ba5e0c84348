"""Quantised weights held against the model's own on a text of the user's."""

import json

import pytest
import torch
from trained_model import byte_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from inference_benchmark import benchmark_inference

TEXT = "What was computed is compared, token by token."


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Random weights, and a tokenizer with a token per byte."""
    folder = tmp_path_factory.mktemp("checkpoint")
    tokenizer = byte_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def run(*flags) -> int:
    lengths = ("--input-length", "8", "--output-length", "2", "--num-iterations", "1")
    return benchmark_inference.main(
        [*map(str, flags), "--mode", "eager", *lengths, "--warmup-iterations", "0", "--quiet"]
    )


def test_the_text_is_read_with_the_checkpoints_tokenizer(checkpoint, tmp_path, capsys):
    text, saved = tmp_path / "text.txt", tmp_path / "result.json"
    text.write_text(TEXT)
    flags = ("--model-path", checkpoint, "--quantize", "int8", "--accuracy-text", text)
    assert run(*flags, "--output", saved) == 0
    assert f"{len(TEXT)} tokens of text.txt" in " ".join(capsys.readouterr().out.split())
    (accuracy,) = (
        cell["accuracy"] for cell in json.loads(saved.read_text())["cells"] if cell["accuracy"]
    )
    assert (accuracy["text"], accuracy["tokens"]) == ("tokens of text.txt", len(TEXT))
    assert 0 < accuracy["kl_mean"] < 0.01


@pytest.mark.parametrize(
    ("content", "with_model", "message"),
    [
        (TEXT, False, "needs a --model-path folder with a tokenizer.json"),
        ("a", True, "text.txt holds less than two tokens"),
        (None, True, "text.txt can't be read"),
    ],
)
def test_a_text_that_cannot_be_used_is_refused(
    checkpoint, tmp_path, capsys, content, with_model, message
):
    text = tmp_path / "text.txt"
    if content is not None:
        text.write_text(content)
    model = ("--model-path", checkpoint) if with_model else ("--model-name", "llama-tiny")
    assert run(*model, "--quantize", "int8", "--accuracy-text", text) in (2, 3)
    assert message in " ".join(capsys.readouterr().err.split())
