"""What explains a cell stays within the cell's cache, however short its output."""

import pytest
import torch
from inference_benchmark.workloads.metrics import Work
from scripted import make_cell

from inference_benchmark.models import MODELS
from inference_benchmark.session.diagnosis import diagnose
from inference_benchmark.system import kernel_profile


class BoundedEngine:
    """Refuses what a GPU would do to the memory behind the cache."""

    def __init__(self, free_slots: int) -> None:
        self.free_slots = free_slots
        self.left = 0
        self.most_steps = 0

    def prefill(self, tokens) -> None:
        self.left = self.free_slots

    def decode(self) -> None:
        assert self.left > 0, "a decode step behind the end of the cache"
        self.left -= 1
        self.most_steps = max(self.most_steps, self.free_slots - self.left)


@pytest.mark.parametrize(("output_length", "steps"), [(1, 1), (4, 4), (100, 8)])
def test_no_step_is_taken_that_the_cache_has_no_slot_for(monkeypatch, output_length, steps):
    def record(step, repeats):
        for _ in range(repeats):
            step()
        return {"kernel_s": 1e-3, "by_kind": {}}

    monkeypatch.setattr(kernel_profile, "_record", record)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    cell = make_cell()
    cell.work = Work.of(MODELS["llama3.1-8b"], cell.precision, 1, 1000, output_length)
    cell.engine = BoundedEngine(output_length)
    diagnose(cell, None, None, lambda found: [found])
    assert cell.engine.most_steps == steps
    assert cell.host["enqueue_s"] > 0
