"""What workloads share whose run is one step, over all tokens of its inputs at once. No torch."""

import time
from abc import abstractmethod
from collections.abc import Callable

from inference_benchmark.model.config import ModelConfig, Precision
from inference_benchmark.workloads.base import Metric, ProfiledPhase, Rate, Run, Workload
from inference_benchmark.workloads.cost import Cost, Phase


class SingleStep(Workload):
    """A subclass says what the step is, what it costs and how it is checked."""

    def __init_subclass__(cls, **arguments) -> None:
        """From the name follow the metric, NAME_s, and what its rate is over, unless a subclass
        declares these itself."""
        super().__init_subclass__(**arguments)
        if "name" not in cls.__dict__:  # another way to do the same work
            return
        run_metric = f"{cls.name}_s"
        declared = {
            "run_metric": run_metric,
            "metrics": (Metric(run_metric, cls.name, headline=True, watched=True),),
            "rates": (Rate("tokens_per_s", "tok/s", run_metric, headline=True),),
        }
        for name, value in declared.items():
            if name not in cls.__dict__:
                setattr(cls, name, value)

    @abstractmethod
    def step(self, engine, inputs) -> None:
        """The step that is timed."""

    @abstractmethod
    def work(self, share: ModelConfig, precision: Precision, batch_size: int) -> Phase:
        """What the step has to do, on one rank."""

    def prepare(self, engine, inputs, timed: Callable[[str, Callable[[], None]], None]) -> None:
        timed(f"compile_{self.name}_s", lambda: self.step(engine, inputs))

    def time(self, engine, clock_type, inputs) -> Run:
        clock = clock_type(2)
        started = time.perf_counter()
        clock.mark()
        self.step(engine, inputs)
        clock.mark()
        gaps_s = clock.gaps_s()
        return Run(gaps_s, time.perf_counter() - started)

    def times(self, run: Run) -> dict[str, float]:
        return {self.run_metric: run.total_s}

    def cost(self, share: ModelConfig, precision: Precision, batch_size: int) -> Cost:
        work = self.work(share, precision, batch_size)
        return Cost(
            phases={self.name: work},
            metrics={self.run_metric: {self.name: 1}},
            facts={f"{self.name}_flops": work.flops},
            mfu=(self.name, self.run_metric),
        )

    def amounts(self, batch_size: int, num_gpus: int) -> dict[str, float]:
        return {"tokens_per_s": batch_size * self.input_length}

    def priced_tokens(self, batch_size: int) -> dict[str, int]:
        return {"total": batch_size * self.input_length}

    def energy_tokens(self, batch_size: int) -> int:
        return batch_size * self.input_length

    def profiled(self, engine, inputs, share, precision, batch_size) -> list[ProfiledPhase]:
        def step() -> None:
            self.step(engine, inputs)

        work = self.work(share, precision, batch_size)
        return [ProfiledPhase(self.name, step, step, 1, work, None, self.run_metric)]
