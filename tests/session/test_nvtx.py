"""--nvtx: which ranges a step is in, without a GPU."""

import pytest
import torch
from scripted import plan_cell
from step_engines import make_engine

from inference_benchmark.model.weights import build_decoder
from inference_benchmark.models import MODELS
from inference_benchmark.session.nvtx import marked, within

MODEL = MODELS["llama-tiny"].with_layers(2)


@pytest.fixture
def ranges(monkeypatch) -> list[str]:
    """Names as they are pushed, "end" where one is popped."""
    seen: list[str] = []
    monkeypatch.setattr(torch.cuda.nvtx, "range_push", seen.append)
    monkeypatch.setattr(torch.cuda.nvtx, "range_pop", lambda: seen.append("end"))
    return seen


def test_steps_hold_their_layers(ranges):
    decoder = build_decoder(MODEL, "fp32", "cpu", 8)
    plan = plan_cell("eager")
    engine = marked(lambda plan, resources: make_engine("eager", decoder, 1, 4, 8))(plan, None)
    prompt = torch.ones(1, 4, dtype=torch.int64)
    engine.prefill(prompt)
    layers = ["layer 0", "end", "layer 1", "end"]
    assert ranges == ["eager b1: prefill", *layers, "end"]
    ranges.clear()
    engine.decode()
    assert ranges == ["eager b1: decode", *layers, "end"]


def test_outputs_stay_the_same(ranges):
    decoder = build_decoder(MODEL, "fp32", "cpu", 8)
    plain = make_engine("eager", decoder, 1, 4, 8)
    engine = marked(lambda *_: make_engine("eager", decoder, 1, 4, 8))(plan_cell("eager"), None)
    for stepped in (plain, engine):
        stepped.prefill(torch.arange(4)[None])
        stepped.decode()
    assert torch.equal(plain.logits, engine.logits)


def test_a_range_ends_where_a_step_fails(ranges):
    def fails():
        raise RuntimeError

    with pytest.raises(RuntimeError):
        within("step", fails)()
    assert ranges == ["step", "end"]
