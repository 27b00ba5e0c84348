"""Mistral and Qwen3 against transformers: same weights, same logits, config.json and presets."""

from dataclasses import replace

import pytest
import torch
from conftest import ROOT
from hugging_face import copied
from step_engines import make_engine
from transformers import MistralConfig, MistralForCausalLM, Qwen3Config, Qwen3ForCausalLM

from inference_benchmark.model.checkpoint import load_checkpoint
from inference_benchmark.model.checkpoint_config import CheckpointError, read_model
from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.families import FAMILIES
from inference_benchmark.model.kernel_choice import KernelConfig
from inference_benchmark.model.weights import build_decoder, empty_decoder
from inference_benchmark.models import MODELS

VOCAB, PROMPT, CACHE = 97, 24, 40
TOLERANCE = 1e-5
OURS = KernelConfig(attention="flash_decode", linear="gemv")
BUILDERS = {
    "mistral-7b": (MistralConfig, MistralForCausalLM, {"sliding_window": None}),
    "qwen3-8b": (Qwen3Config, Qwen3ForCausalLM, {}),
}
NAMES = pytest.mark.parametrize("name", BUILDERS)


def small(name: str) -> ModelConfig:
    """The preset's family and settings in small sizes; heads of another width than hidden / heads."""
    preset = MODELS[name]
    return replace(
        preset,
        vocab_size=VOCAB,
        hidden_size=64,
        num_layers=2,
        attention=replace(preset.attention, num_heads=8, num_kv_heads=2, head_dim=16),
        feed_forward=replace(preset.feed_forward, intermediate_size=160),
        context_length=256,
    )


def settings(config: ModelConfig, name: str) -> dict:
    """As config.json has them."""
    attention = config.attention
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.feed_forward.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": attention.num_heads,
        "num_key_value_heads": attention.num_kv_heads,
        "head_dim": attention.head_dim,
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope.theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope.theta},
        "tie_word_embeddings": config.tied_embeddings,
    } | BUILDERS[name][2]


def reference(name: str) -> torch.nn.Module:
    config_type, model_type, _ = BUILDERS[name]
    torch.manual_seed(0)
    config = config_type(**settings(small(name), name), attn_implementation="eager")
    model = model_type(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.dim() == 1:  # norms of ones would hide a swapped or a missing one
            torch.nn.init.normal_(parameter, 1.0, 0.2)
    return model


@torch.inference_mode()
def assert_same_logits(name: str, mode: str, kernels: KernelConfig) -> None:
    model = reference(name)
    decoder = copied(small(name), model.state_dict(), CACHE)
    engine = make_engine(mode, decoder, 2, PROMPT, CACHE, kernels)
    ids = torch.randint(VOCAB, (2, CACHE), generator=torch.Generator().manual_seed(1))
    logits = model(ids, use_cache=False).logits
    engine.prefill(ids[:, :PROMPT])
    assert_close(engine.logits, logits[:, PROMPT - 1])
    for position in range(PROMPT, CACHE):
        engine.force(ids[:, position : position + 1], position)
        engine.decode()
        assert_close(engine.logits, logits[:, position])


def assert_close(ours, theirs) -> None:
    error = (ours - theirs).norm() / theirs.norm()
    assert error < TOLERANCE, f"relative error {error:.2g}"


@NAMES
@pytest.mark.parametrize("kernels", [KernelConfig(), OURS], ids=["torch", "ours"])
def test_eager_gives_the_logits_of_transformers(name, kernels):
    assert_same_logits(name, "eager", kernels)


# Compilers see of Mistral what they see of Llama (test_decoder.py); of Qwen3 norms before the RoPE.
@pytest.mark.parametrize("kernels", [KernelConfig(), OURS], ids=["torch", "ours"])
def test_inductor_gives_the_logits_of_transformers(kernels):
    assert_same_logits("qwen3-8b", "inductor", kernels)


@pytest.mark.parametrize("kernels", [KernelConfig(), OURS], ids=["torch", "ours"])
def test_thunder_gives_the_logits_of_transformers(kernels):
    assert_same_logits("qwen3-8b", "thunder", kernels)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["eager", "inductor", "thunder"])
@torch.inference_mode()
def test_our_kernels_take_normalised_queries_and_keys_on_a_gpu(name):
    """Qwen3 in bf16 against plain PyTorch; the step of the engine under test is captured."""
    decoder = build_decoder(MODELS["qwen3-8b"].with_layers(4), "bf16", "cuda", 256)
    ids = torch.randint(decoder.config.vocab_size, (2, 232), device="cuda")
    plain = make_engine("eager", decoder, 2, 200, 256)
    ours = make_engine(name, decoder, 2, 200, 256, kernels=OURS)
    ours.prefill(ids[:, :200])
    ours.decode()
    ours.capture()
    for engine in (plain, ours):
        engine.prefill(ids[:, :200])
    for position in range(200, 232):
        error = (ours.logits - plain.logits).float().norm() / plain.logits.float().norm()
        assert error < 3e-2, position
        for engine in (plain, ours):
            engine.force(ids[:, position : position + 1], position)
            engine.decode()


@NAMES
@torch.inference_mode()
def test_a_saved_model_is_read_back(tmp_path, name):
    model = reference(name)
    model.save_pretrained(tmp_path)
    config = read_model(tmp_path)
    assert config == replace(small(name), name=tmp_path.name)
    decoder = empty_decoder(config, "fp32", "cpu")
    load_checkpoint(decoder, tmp_path)
    weights = copied(config, model.state_dict(), CACHE).state_dict()
    for path, weight in decoder.state_dict().items():
        assert torch.equal(weight, weights[path]), path


# From the published config.json of mistralai/Mistral-7B-v0.3 and Qwen/Qwen3-8B, and the sizes of
# their checkpoints.
@pytest.mark.parametrize(
    ("name", "parameters", "cache_values"),
    [
        ("mistral-7b", 7_248_023_552, 32 * 2 * 8 * 128),
        ("qwen3-8b", 8_190_735_360, 36 * 2 * 8 * 128),
    ],
)
def test_counts_are_those_of_the_published_checkpoints(name, parameters, cache_values):
    model = MODELS[name]
    assert model.parameters == parameters
    values = sum(layer.attention.cache_values_per_token() for layer in model.layers)
    assert values == cache_values


@NAMES
def test_counts_match_the_built_module(name):
    model = small(name)
    built = empty_decoder(model, "fp32", "cpu").parameters()
    assert sum(parameter.numel() for parameter in built) == model.parameters


@pytest.mark.parametrize(
    ("name", "change"),
    [("mistral-7b", {"sliding_window": 4096}), ("qwen3-8b", {"use_sliding_window": True})],
)
def test_attention_within_a_sliding_window_is_refused(tmp_path, name, change):
    config_type, model_type, _ = BUILDERS[name]
    config = config_type(**(settings(small(name), name) | change))
    config.architectures = [model_type.__name__]
    config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(CheckpointError, match="sliding_window (4096|true) is not supported"):
        read_model(tmp_path)


def test_the_table_says_what_the_presets_are():
    """models.py: a line per model, parameters, those active, layers, hidden, vocabulary, context."""
    lines = [line for line in (ROOT / "models.py").read_text().splitlines() if ".PRESETS[" in line]
    assert len(lines) == len(MODELS)
    for line, (name, model) in zip(lines, MODELS.items(), strict=True):
        entry, numbers = line.split("#")
        assert entry.split() == [f'"{name}":', f'{model.family}.PRESETS["{name}"],']
        total, active = (f"{n / 1e9:.2f}" for n in (model.parameters, model.active_parameters))
        sizes = (model.num_layers, model.hidden_size, model.vocab_size, model.context_length)
        assert numbers.split() == [total, "B", active, "B", *map(str, sizes)], name


def test_every_preset_is_in_the_table_once():
    names = [name for family in FAMILIES.values() for name in family.presets]
    assert sorted(names) == sorted(MODELS)
    assert all(MODELS[name].family in FAMILIES for name in MODELS)
