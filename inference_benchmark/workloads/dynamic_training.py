"""Training steps whose lengths change: what a mode pays for shapes that it has not seen.

A seeded list of lengths is drawn once; a run makes one step at each of them, in an order that the
run's number decides, the same in every mode. So runs are alike, and the first one, in which a mode
compiles whatever it compiles, is the cold start. No torch here.
"""

import random
import time
from collections.abc import Callable
from typing import Any

from inference_benchmark.errors import Stopped
from inference_benchmark.model.config import ModelConfig, Precision
from inference_benchmark.model.training_config import TrainingConfig
from inference_benchmark.workloads.base import CHECK_RUNS, CheckContext, Metric, Rate, Run
from inference_benchmark.workloads.cost import Cost, Phase
from inference_benchmark.workloads.training_step import CHECKED_STEPS, TrainingStep

_SHORTEST = 4  # lengths are from a fourth of the input length on


class DynamicTraining(TrainingStep):
    """
    Args:
        num_lengths: steps of a run, each at another length up to input_length.
        patience_s: a run that takes longer is given up: its mode compiles without end.
    """

    run_metric = "iterations_s"
    metrics = (
        Metric("training_s", "iteration", headline=True),
        Metric("iterations_s", "all iterations", headline=True, watched=True),
    )
    rates = (
        Rate("samples_per_s", "samples/s", "iterations_s", headline=True),
        Rate("tokens_per_s", "tok/s", "iterations_s", headline=True),
    )

    def __init__(
        self,
        input_length: int,
        training: TrainingConfig,
        num_lengths: int,
        seed: int,
        patience_s: float,
    ) -> None:
        super().__init__(input_length, 0, training)
        self.lengths = draw_lengths(input_length, num_lengths, seed)
        self.patience_s = patience_s

    @property
    def conditions(self) -> list[str]:
        lengths = self.lengths
        return [
            *super().conditions,
            f"{len(lengths)} lengths, {min(lengths)} to {max(lengths)}",
        ]

    def inputs(self, vocab_size: int, batch_size: int, seed: int, run: int, device) -> list[Any]:
        """One batch [batch, length + 1] of each length, in the order of this run."""
        tokens = super().inputs(vocab_size, batch_size, seed, run, device)
        order = random.Random(f"{seed} {run}").sample(self.lengths, len(self.lengths))
        return [tokens[:, : length + 1].contiguous() for length in order]

    def _steps(self, engine, batches: list[Any], after_step: Callable[[], None]) -> None:
        started = time.perf_counter()
        compiled = engine.compile_count()
        for done, batch in enumerate(batches, start=1):
            engine.train(batch)
            after_step()
            spent_s = time.perf_counter() - started
            if spent_s > self.patience_s and done < len(batches):
                raise Stopped(
                    f"compiled {engine.compile_count() - compiled} times in the first {done} of "
                    f"{len(batches)} lengths, {spent_s:.0f} s: stopped by --max-seconds"
                )

    def step(self, engine, inputs) -> None:
        self._steps(engine, inputs, lambda: None)

    def time(self, engine, clock_type, inputs) -> Run:
        clock = clock_type(len(inputs) + 1)
        started = time.perf_counter()
        clock.mark()
        self._steps(engine, inputs, clock.mark)
        gaps_s = clock.gaps_s()
        engine.forget_gradients()
        return Run(gaps_s, time.perf_counter() - started)

    def times(self, run: Run) -> dict[str, float]:
        return {"iterations_s": run.total_s, "training_s": run.total_s / len(run.gaps_s)}

    def cost(self, share: ModelConfig, precision: Precision, batch_size: int) -> Cost:
        """Of all steps of a run; that of a single one is their mean."""
        work = self.work(share, precision, batch_size)
        return Cost(
            phases={self.name: work},
            metrics={"iterations_s": {self.name: 1}, "training_s": {}},
            facts={f"{self.name}_flops": work.flops},
            mfu=(self.name, "iterations_s"),
        )

    def work(self, share: ModelConfig, precision: Precision, batch_size: int) -> Phase:
        steps = [self.work_at(length, share, precision, batch_size) for length in self.lengths]
        return Phase(
            sum(step.flops for step in steps),
            sum(step.bytes for step in steps),
            sum(step.attention_flops for step in steps),
        )

    def amounts(self, batch_size: int, num_gpus: int) -> dict[str, float]:
        return {
            "samples_per_s": batch_size * len(self.lengths),
            "tokens_per_s": batch_size * sum(self.lengths),
        }

    def priced_tokens(self, batch_size: int) -> dict[str, int]:
        return {"total": batch_size * sum(self.lengths)}

    def energy_tokens(self, batch_size: int) -> int:
        return batch_size * sum(self.lengths)

    def check_batches(self, context: CheckContext) -> list[Any]:
        """The longest one, which has to be learned, and among its steps two others."""
        longest, *others = sorted(context.inputs(CHECK_RUNS[0]), key=lambda batch: -batch.shape[1])
        batches = [longest] * CHECKED_STEPS
        for place, batch in zip((3, 5), (*others[-1:], *others[:-1]), strict=False):
            batches[place] = batch
        return batches


def draw_lengths(longest: int, count: int, seed: int) -> list[int]:
    """Distinct lengths from a fourth of the longest on, fewer where there are not so many."""
    possible = range(max(2, longest // _SHORTEST), longest + 1)
    return random.Random(seed).sample(possible, min(count, len(possible)))
