"""Engines in processes of their own over our weights, where they are installed."""

import shutil
from pathlib import Path

import pytest
from foreign_engines import checked, fp32_decoder, opened, skip_unless_here

from inference_benchmark.engines.base import EnginePlan, Resources
from inference_benchmark.session.weight_files import WeightFiles


def test_llama_cpp_in_8_bits_is_held_against_the_weights_of_its_file(tmp_path):
    from inference_benchmark.engines.llama_cpp import LlamaCppEngine
    from inference_benchmark.model.gguf.container import read_gguf

    class Unopened(LlamaCppEngine):
        def __init__(self, plan, resources):
            self.plan, self.resources = plan, resources

    def opened_with(files):
        return Unopened(EnginePlan(1, 4, 8, options=("q8_0",)), Resources(decoder, "cpu", files))

    decoder = fp32_decoder("llama3.2-1b", num_layers=1)
    engine = opened_with(WeightFiles(decoder))
    stored = Path(engine.settings()["file"])
    types = {t.type_name for t in read_gguf(stored).tensors.values() if len(t.shape) == 2}
    assert types == {"Q8_0"}
    ours = decoder.layers[0].down_proj.weight
    theirs = engine.decoder.layers[0].down_proj.weight
    error = (ours - theirs).norm() / ours.norm()
    assert 0.003 < error < 0.01  # a step of a block is 1/127 of its largest value
    assert engine.products == "q8"
    # What was read from such a file is not written once more.
    kept = shutil.copy(stored, tmp_path / "kept.gguf")
    assert opened_with(WeightFiles(decoder, source=kept)).settings()["file"] == str(kept)
    as_stored = opened_with(WeightFiles(decoder, source=kept))
    as_stored.plan = EnginePlan(1, 4, 8, options=("stored",))
    assert (as_stored.settings()["file"], as_stored.products) == (str(kept), "q8")
    assert as_stored.decoder is None  # the session's, which was read from that file
    engine.resources.files.close()


@pytest.mark.parametrize("mode", ["tinygrad", "llama.cpp", "vllm"])
def test_it_generates_what_the_reference_does(mode):
    skip_unless_here(mode)
    decoder = fp32_decoder("llama3.2-1b", num_layers=1)
    with opened(mode, decoder) as engine:
        record = checked(engine, decoder)
        assert engine.facts()["version"]
    assert record["passed"], record["failures"]
    assert record["checked"] == ["tokens", "logits"]


def test_vllm_without_room_for_weights_makes_its_own_and_is_unchecked(monkeypatch):
    from inference_benchmark.engines.vllm import VllmEngine

    class Unopened(VllmEngine):
        def __init__(self, plan, resources):
            self.plan, self.resources = plan, resources

    decoder = fp32_decoder("llama3.2-1b", num_layers=1)
    files = WeightFiles(decoder)
    engine = Unopened(EnginePlan(1, 4, 8), Resources(decoder, "cpu", files))
    usage = shutil.disk_usage("/")._replace(free=1000)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage)
        settings = engine.settings()
    assert settings["load_format"] == "dummy"
    assert [file.name for file in Path(settings["folder"]).iterdir()] == ["config.json"]
    assert settings["weight_bytes"] == sum(p.nbytes for p in decoder.parameters())
    assert engine.capabilities.weights == "own"
    assert not engine.capabilities.evidence  # nothing of it is compared, so the row says unchecked
    files.close()
