"""Training steps of changing lengths: which, in which order, and when a mode is given up."""

import pytest
from scripted import plan_cell

from inference_benchmark.engines.base import EnginePlan
from inference_benchmark.engines.scripted import ScriptedEngine
from inference_benchmark.errors import Stopped
from inference_benchmark.model.config import Precision
from inference_benchmark.model.training_config import TrainingConfig
from inference_benchmark.models import MODELS
from inference_benchmark.session.live import failure
from inference_benchmark.workloads.base import Run
from inference_benchmark.workloads.dynamic_training import DynamicTraining, draw_lengths
from inference_benchmark.workloads.training_step import TrainingStep

LLAMA = MODELS["llama3.1-8b"]
BF16 = Precision.of("bf16")


def workload(patience_s: float = 60.0) -> DynamicTraining:
    return DynamicTraining(64, TrainingConfig(dynamic_shapes=True), 5, 0, patience_s)


def test_lengths_are_distinct_and_come_from_the_seed():
    lengths = draw_lengths(2048, 16, seed=3)
    assert lengths == draw_lengths(2048, 16, seed=3)
    assert lengths != draw_lengths(2048, 16, seed=4)
    assert len(set(lengths)) == 16
    assert all(512 <= length <= 2048 for length in lengths)
    assert sorted(draw_lengths(8, 100, 0)) == [2, 3, 4, 5, 6, 7, 8]


def test_each_run_has_every_length_once_in_an_order_of_its_own():
    training = workload()

    def lengths_of(run: int) -> list[int]:
        return [batch.shape[1] - 1 for batch in training.inputs(100, 2, 0, run, "cpu")]

    orders = [lengths_of(run) for run in range(4)]
    assert all(sorted(order) == sorted(training.lengths) for order in orders)
    assert len(set(map(tuple, orders))) > 1
    assert lengths_of(2) == orders[2]  # the same in the next mode


def test_metrics_and_work_are_of_all_steps_of_a_run():
    training = workload()
    times = training.times(Run([0.1, 0.2, 0.3, 0.2, 0.2], 1.0))
    assert times == {"iterations_s": pytest.approx(1.0), "training_s": pytest.approx(0.2)}
    alone = [TrainingStep(n).work(LLAMA, BF16, 2).flops for n in training.lengths]
    cost = training.cost(LLAMA, BF16, 2)
    assert cost.phases["training"].flops == sum(alone)
    assert training.amounts(2, 1) == {
        "samples_per_s": 10,
        "tokens_per_s": 2 * sum(training.lengths),
    }


def test_a_mode_that_compiles_without_end_is_given_up_and_says_so():
    training = workload(patience_s=0.0)
    engine = ScriptedEngine(EnginePlan(2, 64, 0), None, compile_counts=[10, 13])
    batches = training.inputs(100, 2, 0, 0, "cpu")
    with pytest.raises(Stopped) as stopped:
        training.step(engine, batches)
    status, words = failure(stopped.value)
    assert status == "failed"
    assert words.startswith("compiled 3 times in the first 1 of 5 lengths, 0 s: stopped by")
    assert engine.forwards == 1


def test_a_step_is_made_at_each_length_between_two_marks():
    training = workload()
    engine = ScriptedEngine(plan_cell(workload=training).engine, None)
    run = training.time(engine, engine.clock_type, training.inputs(100, 2, 0, 0, "cpu"))
    assert (engine.forwards, len(run.gaps_s)) == (5, 5)
