"""DeepSeek V3 and Llama 4 against transformers: same weights, same experts, same logits."""

import pytest
import torch
from mixture_models import DEEPSEEK, LLAMA4, VOCAB, hugging_face, logits_and_choices

from architectures.weights import empty_decoder, load_hugging_face
from modes import eager, inductor
from modes.base import ModeOptions, StepEngine

PROMPT, DECODE_STEPS = 24, 32
CACHE = PROMPT + DECODE_STEPS
TOLERANCE = 1e-4
MODELS = pytest.mark.parametrize("config", [DEEPSEEK, LLAMA4], ids=lambda config: config.name)


def thunder_mode():
    from modes import thunder

    return thunder.Mode


def copied(config, reference):
    decoder = empty_decoder(config, "fp32", "cpu")
    load_hugging_face(decoder, reference.state_dict())
    decoder.set_context_length(CACHE)
    return decoder


def assert_same(config, make_mode, options, batch=2) -> None:
    reference = hugging_face(config)
    decoder = copied(config, reference)
    engine = StepEngine(make_mode()(decoder, options), decoder, batch, PROMPT, CACHE)
    ids = torch.randint(VOCAB, (batch, CACHE), generator=torch.Generator().manual_seed(1))
    logits, choices = logits_and_choices(reference, ids)
    engine.prefill(ids[:, :PROMPT])
    assert_close(engine.logits, logits[:, PROMPT - 1])
    assert_chosen(engine.choices, [choice[:, :PROMPT] for choice in choices])
    for position in range(PROMPT, CACHE):
        engine.force(ids[:, position : position + 1], position)
        engine.decode()
        assert_close(engine.logits, logits[:, position])
        assert_chosen(engine.choices, [choice[:, position : position + 1] for choice in choices])
    engine.mode.details()


def assert_close(found, expected) -> None:
    error = (found - expected).norm() / expected.norm()
    assert error < TOLERANCE, f"relative error {error:.2g}"


def assert_chosen(found, expected) -> None:
    assert len(found) == len(expected) > 0
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours.sort(dim=-1)[0], theirs.flatten(0, 1).sort(dim=-1)[0])


@MODELS
@pytest.mark.parametrize("experts", ["grouped", "reference"])
def test_eager_gives_the_logits_of_transformers(config, experts):
    assert_same(config, lambda: eager.Mode, ModeOptions("sdpa", experts=experts))


@MODELS
@pytest.mark.parametrize(
    ("make_mode", "options"),
    [
        (lambda: eager.Mode, ModeOptions("flash_decode")),
        (lambda: inductor.Mode, ModeOptions("sdpa")),
        (thunder_mode, ModeOptions("sdpa")),
    ],
    ids=["eager-flash", "inductor", "thunder"],
)
def test_modes_give_the_logits_of_transformers(config, make_mode, options):
    assert_same(config, make_mode, options)
