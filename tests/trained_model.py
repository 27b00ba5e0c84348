"""A checkpoint that knows one thing: two layers, trained in seconds on a question and its answer."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

QUESTION = "What has no speed?"
ANSWER = "A wrong answer has no speed, and what is checked is what was timed."
TEMPLATE = "{% for message in messages %}<ask>{{ message['content'] }}<say>{% endfor %}"
_SPECIAL = ("<end>", "<ask>", "<say>")
_STEPS = 150


def byte_tokenizer() -> Tokenizer:
    """A token per byte, so that any text has tokens, and the three that the template needs."""
    vocabulary = {name: index for index, name in enumerate(_SPECIAL)}
    for character in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[character] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(_SPECIAL))
    return tokenizer


_folders: list[TemporaryDirectory] = []  # of this process, gone with it


def trained_folder() -> Path:
    """Trained once for all tests, which must leave it as it is."""
    if not _folders:
        _folders.append(TemporaryDirectory(prefix="trained-"))
        save_trained_model(Path(_folders[0].name))
    return Path(_folders[0].name)


def save_trained_model(folder: Path) -> None:
    """config.json, safetensors, tokenizer.json and a chat template."""
    tokenizer = byte_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"eos_token": {"content": "<end>"}, "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    model = _trained(tokenizer)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)


def _trained(tokenizer: Tokenizer) -> LlamaForCausalLM:
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=256,
        )
    )
    ids = torch.tensor([tokenizer.encode(f"<ask>{QUESTION}<say>{ANSWER}<end>").ids])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01, loss.item()
    return model.eval()
