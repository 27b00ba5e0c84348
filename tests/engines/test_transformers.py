"""transformers' generate over our weights: the tokens and logits of the reference, no copy."""

import pytest
from foreign_engines import WORKLOAD, checked, context_of, fp32_decoder, opened

PRESETS = ["llama3.1-8b", "llama3.2-1b", "qwen3-8b", "mistral-7b"]


@pytest.mark.parametrize(
    ("preset", "options"),
    [*((preset, ()) for preset in PRESETS), ("llama3.1-8b", ("static",))],
)
def test_it_generates_what_the_reference_does(preset, options):
    decoder = fp32_decoder(preset)
    with opened("transformers", decoder, *options) as engine:
        record = checked(engine, decoder)
        assert engine.facts()["cache"] == ("static" if options else "dynamic")
    assert record["passed"], record["failures"]
    assert record["checked"] == ["tokens", "logits"]


def test_its_parameters_are_our_memory():
    decoder = fp32_decoder("llama3.2-1b")
    with opened("transformers", decoder) as engine:
        ours = {weight.untyped_storage().data_ptr() for weight in decoder.parameters()}
        theirs = {p.untyped_storage().data_ptr() for p in engine._model.parameters()}
        assert theirs == ours


def test_a_changed_weight_shows():
    """The check looks at what this engine computes, not at ours."""
    decoder = fp32_decoder("llama3.1-8b")
    with opened("transformers", decoder) as engine:
        scale = engine._model.model.norm.weight
        scale.data = scale.data.clone()
        scale.data[0] *= 3.0
        assert not WORKLOAD.check(engine, context_of(decoder))["passed"]
