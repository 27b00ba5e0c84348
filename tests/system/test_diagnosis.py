"""What explains a cell stays within the cell's cache, and is held against the limit of what ran."""

from dataclasses import replace

import pytest
import torch
from scripted import make_cell, plan_cell

from inference_benchmark.hardware import Ceilings
from inference_benchmark.models import MODELS
from inference_benchmark.session import diagnosis
from inference_benchmark.session.record import TimedRun
from inference_benchmark.workloads.base import Run
from inference_benchmark.workloads.forward import SingleForward
from inference_benchmark.workloads.generation import Generation

CEILINGS = Ceilings(1e12, 1e15, "given")


class BoundedEngine:
    """Refuses what a GPU would do to the memory behind the cache."""

    def __init__(self, free_slots: int) -> None:
        self.free_slots = free_slots
        self.left = 0
        self.most_steps = 0
        self.forwards = 0

    def prefill(self, tokens) -> None:
        self.left = self.free_slots

    def decode(self) -> None:
        assert self.left > 0, "a decode step behind the end of the cache"
        self.left -= 1
        self.most_steps = max(self.most_steps, self.free_slots - self.left)

    def forward(self, tokens) -> None:
        self.forwards += 1


@pytest.fixture
def diagnose(monkeypatch):
    def record(step, repeats):
        for _ in range(repeats):
            step()
        return {"kernel_s": 1e-3, "by_kind": {}}

    monkeypatch.setattr(diagnosis, "record_steps", record)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)

    def run(workload, ceilings=None):
        cell = make_cell(plan_cell(batch_size=32, workload=workload))
        cell.engine = BoundedEngine(workload.output_length)
        diagnosis.diagnose(cell, None, None, lambda profile: [profile], ceilings)
        return cell

    return run


@pytest.mark.parametrize(("output_length", "steps"), [(1, 1), (4, 4), (100, 8)])
def test_no_step_is_taken_that_the_cache_has_no_slot_for(diagnose, output_length, steps):
    cell = diagnose(Generation(1000, output_length))
    assert cell.engine.most_steps == steps
    assert cell.record.host["enqueue_s"] > 0


def test_steps_are_held_against_the_limit_of_their_own_positions(diagnose):
    """Not of the mean context of a run, which is over 100 times as long here."""
    cell = diagnose(Generation(100, 20_000), CEILINGS)
    decode = cell.record.profile["decode"]
    assert decode["contexts"] == [101, 108]
    # 8 KV heads, keys and values, 128 values of 2 bytes, 32 layers; the mean context is 104.5
    kv_bytes = 32 * 104.5 * 8 * 2 * 128 * 2 * 32
    assert decode["limit_by_kind"]["attention"] == pytest.approx(kv_bytes / 1e12)
    weights_s = MODELS["llama3.1-8b"].step_weight_bytes(cell.plan.precision, 32) / 1e12
    assert decode["limit_s"] == pytest.approx(weights_s + kv_bytes / 1e12)
    mean = cell.plan.cost.limit(CEILINGS)["by_kind"]["decode"]["attention"]
    assert mean > 90 * decode["limit_by_kind"]["attention"]


def test_a_forward_is_profiled_as_one_phase(diagnose):
    cell = diagnose(SingleForward(1000, 0), CEILINGS)
    assert list(cell.record.profile) == ["forward"]
    assert cell.record.profile["forward"]["contexts"] is None
    assert cell.record.host["loop_overhead"] is None


def test_busy_shares_are_of_the_medians(diagnose, monkeypatch):
    cell = make_cell(plan_cell())
    run = Run([0.004] + [0.002] * 4, 0.012)
    cell.record.timed_runs = [TimedRun(0, "", run, ())]
    cell.record.profile = {"prefill": {"kernel_s": 0.002}, "decode": {"kernel_s": 0.0015}}
    phases = cell.plan.workload.profiled(
        BoundedEngine(5), None, cell.plan.share, cell.plan.precision, 1
    )
    phases = [replace(phase, prepare=lambda: None, step=lambda: None) for phase in phases]
    monkeypatch.setattr(diagnosis, "_loop_overhead", lambda *_: None)  # which needs a GPU
    host = diagnosis._host(cell, phases)
    assert host["prefill_busy_share"] == pytest.approx(0.5)
