"""Engines in processes of their own over our weights, where they are installed."""

import importlib.util
import shutil

import pytest
from foreign_engines import checked, fp32_decoder, opened

from inference_benchmark.engines import ENGINES
from inference_benchmark.errors import CannotRun


def skip_unless_here(mode: str) -> None:
    entry = ENGINES[mode]
    for package in (*entry.packages, *entry.own_packages):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"the package {package} is not installed: {entry.install}")
    if entry.cpu_program is not None and shutil.which(entry.cpu_program) is None:
        pytest.skip(f"{entry.cpu_program} is not installed")


@pytest.mark.parametrize("mode", ["tinygrad", "llama.cpp", "vllm"])
def test_it_generates_what_the_reference_does(mode):
    skip_unless_here(mode)
    decoder = fp32_decoder("llama3.2-1b", num_layers=1)
    with opened(mode, decoder) as engine:
        record = checked(engine, decoder)
        assert engine.facts()["version"]
    assert record["passed"], record["failures"]
    assert record["checked"] == ["tokens", "logits"]


def test_tinygrad_says_what_a_cpu_cannot():
    from inference_benchmark.model.weights import build_decoder
    from inference_benchmark.models import MODELS

    decoder = build_decoder(MODELS["llama-tiny"].with_layers(1), "bf16", "cpu", 8)
    with pytest.raises(CannotRun, match="--precision fp32"):
        opened("tinygrad", decoder)
