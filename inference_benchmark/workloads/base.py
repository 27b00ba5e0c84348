"""What a workload is: inputs, what is timed, metrics, cost and check, each declared once.

Session, statistics, analysis and tables go through these declarations and know no metric by name.
To add a workload, write one file with a subclass of `Workload` and one entry of the table in
workloads/__init__.py. No torch here, but in what makes inputs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from typing import Any, ClassVar, Self

from inference_benchmark.model.config import ModelConfig, Precision
from inference_benchmark.model.layer_part import LayerPart
from inference_benchmark.model.training_config import TrainingConfig
from inference_benchmark.workloads.cost import Cost, Phase


@dataclass(frozen=True)
class Metric:
    """A time of a run.

    headline: it stands in the summary. watched: the stopping rule waits until it is precise.
    """

    name: str
    title: str
    unit: str = "s"
    better: str = "lower"
    headline: bool = False
    watched: bool = False


@dataclass(frozen=True)
class Rate:
    """An amount over the median of the metric named in `over`, never a mean of rates."""

    name: str
    title: str
    over: str
    headline: bool = False


@dataclass(frozen=True)
class Run:
    """Raw times of one run: the gaps between the marks that its clock made."""

    gaps_s: list[float]
    # The same span by the host's clock, to cross-check the device's; None: it tells nothing.
    wall_s: float | None

    @property
    def total_s(self) -> float:
        return sum(self.gaps_s)

    @classmethod
    def slowest(cls, runs: Sequence[Self]) -> Self:
        """Of several ranks: a mark counts when the last rank has made it."""
        if len(runs) == 1:
            return runs[0]
        marks = [max(times) for times in zip(*(accumulate(r.gaps_s) for r in runs), strict=True)]
        gaps_s = [after - before for before, after in pairwise([0.0, *marks])]
        return cls(gaps_s, max(run.wall_s for run in runs))


@dataclass(frozen=True)
class ProfiledPhase:
    """Steps that the profiler sees one by one, and the work that they really do.

    prepare brings the engine to where they start; repeats of step follow.
    """

    name: str  # as in Cost.phases
    prepare: Callable[[], None]
    step: Callable[[], None]
    repeats: int
    work: Phase  # of one step, the mean of those profiled
    contexts: range | None  # of these steps; None where there is no context but the inputs
    metric: str  # whose time a step takes


class Workload(ABC):
    """One kind of thing to time, at given lengths; batch size and model come with each cell.

    Args:
        input_length: tokens of a prompt.
        output_length: tokens that are generated per sequence, the prefill's own included.
    """

    name: ClassVar[str]
    steps_used: ClassVar[frozenset[str]]  # of an engine: "prefill", "decode", "forward", "train"
    metrics: ClassVar[tuple[Metric, ...]]
    rates: ClassVar[tuple[Rate, ...]]
    run_metric: ClassVar[str]  # the time of a run from its start to its end
    # Seconds per output token, whose gain over the plain engine pays back a cold start; None: a
    # cold start is not reckoned in tokens.
    payback_metric: ClassVar[str | None] = None
    # The stage of `prepare` after which the first token is there; None: there are no tokens.
    first_token_stage: ClassVar[str | None] = None
    # How far estimates from two depths were off, relative, by metric; others as the default.
    estimate_errors: ClassVar[Mapping[str, float]] = {}
    estimate_error: ClassVar[float] = 0.017
    # Slots of the cache that are filled before a run; None where a run begins with an empty one.
    context_depth: int | None = None

    def __init__(self, input_length: int, output_length: int) -> None:
        self.input_length = input_length
        self.output_length = output_length

    part: ClassVar[LayerPart | None] = None  # where that is all that is timed

    @classmethod
    def for_request(cls, request, length: int) -> Self:
        """The workload that a request asks for, at this input length."""
        return cls(length, request.output_length)

    @property
    def training(self) -> TrainingConfig | None:
        """How engines are to train; None: they are not."""
        return

    @property
    def conditions(self) -> list[str]:
        """In words, how the work is done where that can be chosen."""
        return []

    @property
    def cache_length(self) -> int:
        """Slots of the KV cache that a sequence needs; 0: none is kept."""
        return 0

    def serves(self, steps: frozenset[str]) -> bool:
        """Whether an engine that implements these can run it."""
        return self.steps_used <= steps

    def record(self) -> dict:
        """For the result file."""
        metrics, rates = (
            [asdict(declared) for declared in group] for group in (self.metrics, self.rates)
        )
        record = {"name": self.name, "metrics": metrics, "rates": rates}
        return record | ({"conditions": self.conditions} if self.conditions else {})

    def inputs(self, vocab_size: int, batch_size: int, seed: int, run: int, device) -> Any:
        """The prompts of a run [batch, input_length]: random, the same in every mode."""
        from inference_benchmark.workloads.inputs import random_tokens

        return random_tokens(vocab_size, batch_size, self.input_length, seed, run, device)

    @abstractmethod
    def prepare(self, engine, inputs, timed: Callable[[str, Callable[[], None]], None]) -> None:
        """The first calls, in which engines compile: timed(stage, action) runs and times each; the
        stages are named as in the result file's cold_start."""

    def token_ids(self, inputs) -> dict[str, list]:
        """The tokens of a run's inputs as lists, by what they are."""
        return {"token_ids": inputs.tolist()}

    def before_run(self, engine, inputs) -> None:
        """Bring the engine to where a run starts; not timed, and returns when it is there."""
        return

    @abstractmethod
    def time(self, engine, clock_type, inputs) -> Run:
        """One run. clock_type makes a clock for a number of marks, as in system.clock."""

    @abstractmethod
    def times(self, run: Run) -> dict[str, float]:
        """The metrics of a run, by name; without those that it has not."""

    def steps(self, run: Run) -> dict[str, list[float]]:
        """Times of single steps that are kept raw, by name."""
        return {}

    def metric_samples(self, runs: Sequence[Run]) -> dict[str, list[float]]:
        """{metric: one value per run, or none where runs have no such time}."""
        times = [self.times(run) for run in runs]
        return {m.name: [t[m.name] for t in times if m.name in t] for m in self.metrics}

    def samples(self, runs: Sequence[Run]) -> dict:
        """{"metrics": metric_samples, "steps": {name: [values] per run}}."""
        steps = [self.steps(run) for run in runs]
        names = self.steps(Run([], 0.0))
        return {
            "metrics": self.metric_samples(runs),
            "steps": {name: [step[name] for step in steps] for name in names},
        }

    def watched(self, times: Mapping[str, list[float]]) -> dict[str, list[float]]:
        """Of all metrics those that the stopping rule waits for."""
        return {metric.name: times[metric.name] for metric in self.metrics if metric.watched}

    @abstractmethod
    def cost(self, share: ModelConfig, precision: Precision, batch_size: int) -> Cost:
        """What one run has to do. share: of one rank."""

    @abstractmethod
    def amounts(self, batch_size: int, num_gpus: int) -> dict[str, float]:
        """What each rate divides by its metric's median."""

    @abstractmethod
    def priced_tokens(self, batch_size: int) -> dict[str, int]:
        """Tokens of a run that a cost per million refers to, by name."""

    @abstractmethod
    def energy_tokens(self, batch_size: int) -> int:
        """Tokens of a run that energy is divided by."""

    def s_per_token(self, medians: Mapping[str, float | None]) -> float | None:
        """Latency per output token from the medians of the metrics."""
        return

    def output_bytes(self, model: ModelConfig, precision: Precision, batch_size: int) -> int:
        """What a cell keeps in memory beside the KV cache, where that is large."""
        return 0

    def working_bytes(self, share: ModelConfig, precision: Precision, batch_size: int) -> int:
        """What a run needs for a while, where that is more than a prefill does."""
        return 0

    def check_bytes(self, share: ModelConfig, precision: Precision, batch_size: int) -> int:
        """What the output check holds at a time."""
        from inference_benchmark.output_check.memory import replay_bytes

        depth = self.context_depth or 0
        lengths = self.input_length, self.output_length
        return replay_bytes(share, precision, batch_size, *lengths, depth)

    @abstractmethod
    def profiled(
        self, engine, inputs, share: ModelConfig, precision: Precision, batch_size: int
    ) -> list[ProfiledPhase]:
        """What a profile of this workload shows."""

    def prepare_check(self, context: "CheckContext") -> None:
        """What of the check is better done before an engine is opened, when there is more memory."""
        return

    @abstractmethod
    def check(self, engine, context: "CheckContext") -> dict:
        """Compare an engine's outputs with the reference's, before the timing; see
        output_check.check_before for what it returns."""

    def keep_output(self, engine, inputs) -> Any:
        """What a timed run left, to be looked at after the timing; called right after each run.
        None: nothing can be kept."""
        return

    def check_timed(
        self, engine, context: "CheckContext", outputs: Sequence[Any], before: dict
    ) -> dict | None:
        """Compare what keep_output kept of the first and of the last timed run with the reference;
        see output_check.check_timed_runs. before: what `check` found."""
        return


@dataclass(frozen=True)
class CheckContext:
    """What a check needs of its session.

    decoder: the weights of the very layers that the engine runs.
    precision: of the products, as output_check knows it.
    inputs: makes the inputs of a run of that number; no run has one of CHECK_RUNS.
    """

    decoder: Any
    precision: str
    seed: int
    inputs: Callable[[int], Any]


# The first prefill has 0, timed runs count up from there and warm-up runs down from -1.
CHECK_RUNS = (-500_001, -500_002)
