"""Other implementations of a model: they get its sizes and weights, and compute what it computes."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from test_decoder import SMALL, TIED

from inference_benchmark.errors import CannotRun
from inference_benchmark.model.cache import allocate_cache
from inference_benchmark.model.decoder import Forward
from inference_benchmark.model.implementation import (
    OURS,
    Implementation,
    PlainConfig,
    named_apart,
    parse,
)
from inference_benchmark.model.kernel_choice import KernelConfig
from inference_benchmark.model.own_model import build_own_model
from inference_benchmark.model.weights import build_decoder
from inference_benchmark.models import MODELS

BUILDS = ["examples/own_model.py:build", "examples/fused_model.py:build", "transformers"]
LENGTH = 12


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.mark.parametrize("config", [SMALL, TIED], ids=lambda config: config.name)
@pytest.mark.parametrize("build", BUILDS)
def test_they_compute_what_our_decoder_computes(build, config):
    decoder = build_decoder(config, "fp32", "cpu", 32)
    model = build_own_model(parse(build), decoder)
    ids = torch.randint(97, (2, LENGTH), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        ours = Forward(decoder, KernelConfig(), all_positions=True)(ids, None, None)[0]
        torch.testing.assert_close(model(ids), ours, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("build", ["examples/own_model.py:build", "transformers"])
def test_they_fill_our_cache_and_continue_from_it(build):
    decoder = build_decoder(SMALL, "fp32", "cpu", 32)
    model, ours = build_own_model(parse(build), decoder), Forward(decoder, KernelConfig())
    ids = torch.randint(97, (2, LENGTH), generator=torch.Generator().manual_seed(2))
    theirs, mine = (allocate_cache(SMALL, 2, 20, torch.float32, "cpu") for _ in range(2))
    position = torch.zeros(1, dtype=torch.int64)
    with torch.inference_mode():
        for tokens, place in ((ids, 0), (ids[:, :1], LENGTH), (ids[:, 1:2], LENGTH + 1)):
            position.fill_(place)
            logits = model.decode(tokens, position, theirs)
            expected, _ = ours(tokens, position, mine)
            torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
            assert position.item() == place
    torch.testing.assert_close(theirs, mine, rtol=1e-4, atol=1e-4)


def test_sizes_are_named_as_in_config_json():
    config = PlainConfig.of(MODELS["llama3.2-1b"])
    assert (config.num_attention_heads, config.num_key_value_heads) == (32, 8)
    assert config.rope_scaling["factor"] == 32.0
    assert config.tie_word_embeddings
    with pytest.raises(ValueError, match="other layers than Llama's"):
        PlainConfig.of(MODELS["deepseekv3-670b"])


def test_names_of_builds(tmp_path):
    file = tmp_path / "mine.py"
    file.touch()
    first, second = parse(f"{file}:build"), parse(f"{file}:other")
    assert first == Implementation("mine", file.resolve(), "build")
    assert [implementation.name for implementation in named_apart([OURS, first])] == [
        "default",
        "mine",
    ]
    assert [implementation.name for implementation in named_apart([first, second])] == [
        "mine:build",
        "mine:other",
    ]
    for text in ("mine", f"{file}", f"{file}:", f"{tmp_path}/none.py:build"):
        with pytest.raises(ValueError, match="is not default|there is no file"):
            parse(text)


def built(source: str, tmp_path: Path, function: str = "build") -> torch.nn.Module:
    file = tmp_path / "mine.py"
    file.write_text(source)
    decoder = build_decoder(replace(SMALL, num_layers=1), "fp32", "cpu", 32)
    return build_own_model(parse(f"{file}:{function}"), decoder)


def test_what_a_build_gives_is_looked_at(tmp_path):
    with pytest.raises(CannotRun, match="mine.py:build gave a int, not a Module"):
        built("build = lambda config: 3", tmp_path)
    with pytest.raises(CannotRun, match="mine.py:made: there is no such function"):
        built("build = 3", tmp_path, "made")
    linear = "from torch import nn\nbuild = lambda config: nn.Linear(3, 3, bias=False)"
    with pytest.raises(CannotRun, match="it has weight, and lacks lm_head.weight, model.embed"):
        built(linear, tmp_path)
