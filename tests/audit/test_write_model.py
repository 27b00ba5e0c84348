"""The files that bare loops read: whole, and of the model that was named."""

import sys

from audit import write_model
from inference_benchmark.model.checkpoint_config import read_model
from inference_benchmark.models import MODELS


def test_both_forms_hold_the_model(monkeypatch, tmp_path):
    folder = tmp_path / "llama-tiny"
    flags = ["--device", "cpu", "--precision", "fp32", "--num-layers", "1"]
    monkeypatch.setattr(sys, "argv", ["write_model.py", "llama-tiny", str(folder), *flags])
    write_model.main()
    expected = MODELS["llama-tiny"].with_layers(1).parameters
    for path in (folder, folder / "model.gguf"):
        assert read_model(path).parameters == expected
