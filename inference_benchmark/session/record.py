"""What was seen of a cell: raw data only, no verdict. No torch."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from inference_benchmark.session.plan import CellPlan
from inference_benchmark.workloads.base import Run

COLD_START = (
    "build_s",
    "setup_s",
    "compile_prefill_s",
    "compile_decode_s",
    "capture_s",
    "first_token_s",
    "compilations",
)
MEMORY = (
    "weights_bytes",
    "kv_cache_bytes",
    "graph_pool_bytes",
    "held_bytes",
    "step_peak_bytes",
    "current_allocated_bytes",
    "peak_allocated_bytes",
    "peak_reserved_bytes",
    "predicted_bytes",
    "allocator_retries",
)


class TimedRun(NamedTuple):
    """A timed run; one append adds all of it, wherever an interrupt comes."""

    number: int  # of its round
    started: str
    run: Run
    # GPU state before and after it; of several GPUs one pair each
    snapshots: tuple[tuple[Any, Any], ...]


@dataclass
class CellRecord:
    """Everything a session finds out about one cell, as raw as it came."""

    warmup_runs: list[Run] = field(default_factory=list)
    timed_runs: list[TimedRun] = field(default_factory=list)
    # Of a cell that never ran: what is estimated of each round, by metric, and which rounds.
    estimates: dict[str, list[float]] | None = None
    estimated_rounds: list[int] = field(default_factory=list)
    compilations: list[int] = field(default_factory=list)  # in each warm-up run of this cell
    recompilations: int | None = None  # in its timed runs
    involuntary_switches: int | None = None  # of the CPU, away from this process, in timed runs
    engine: dict | None = None  # what the engine says it can do
    timer: str | None = None
    cold_start: dict | None = field(default_factory=lambda: dict.fromkeys(COLD_START))
    memory: dict = field(default_factory=lambda: dict.fromkeys(MEMORY))
    rank_memory: list[dict] = field(default_factory=list)  # of each rank, after its newest run
    compiler_stats: dict = field(default_factory=dict)
    routing: dict | None = None  # how evenly a mixture's experts were used by one prompt
    output_check: dict | None = None
    check_before: dict | None = None  # what the check of timed runs builds on
    timed_outputs: list[Any] = field(default_factory=list)  # of the first and the last timed run
    accuracy: dict | None = None  # of quantised weights against the model as it is
    host: dict | None = None
    profile: dict | None = None
    status: str = "ok"
    stop_reason: str | None = None
    error: str | None = None

    @property
    def runs(self) -> list[Run]:
        return [timed.run for timed in self.timed_runs]

    @property
    def rounds(self) -> list[int]:
        return [timed.number for timed in self.timed_runs] or self.estimated_rounds

    @property
    def started(self) -> list[str]:
        return [timed.started for timed in self.timed_runs]

    @property
    def snapshots(self) -> list[tuple]:
        return [pair for timed in self.timed_runs for pair in timed.snapshots]

    @property
    def gpu_after_runs(self) -> dict[str, list[float | None]] | None:
        """Clock and temperature at the end of each run; of several GPUs the slowest, the hottest.
        None where no GPU was read."""
        after = [[pair[1] for pair in timed.snapshots if pair[1]] for timed in self.timed_runs]
        if not any(after):
            return None
        return {
            "sm_clock_hz": [_extreme(min, "sm_clock_hz", seen) for seen in after],
            "temperature_c": [_extreme(max, "temperature_c", seen) for seen in after],
        }

    @property
    def is_sound(self) -> bool:
        """Whether it has times, and these count: a wrong output has no speed."""
        return bool(self.rounds) and self.status in ("ok", "partial")

    def keep_output(self, output: Any) -> None:
        if output is not None:
            self.timed_outputs = [*self.timed_outputs[:1], output]

    def take_check(self, output_check: dict) -> None:
        self.output_check = output_check
        if not output_check["passed"] and self.error is None:
            self.status = "wrong_output"

    def interrupt(self) -> None:
        """What was measured stays; what was wrong or failed before stays so."""
        if self.error is None and self.stop_reason is None:
            self.stop_reason = "interrupted"
            if self.status == "ok":
                self.status = "partial"


def _extreme(choose, name: str, snapshots: list) -> float | None:
    known = [value for seen in snapshots if (value := getattr(seen, name)) is not None]
    return choose(known, default=None)


@dataclass
class MeasuredCell:
    """A cell's plan and what was seen of it."""

    plan: CellPlan
    record: CellRecord = field(default_factory=CellRecord)
    # Made of the runs so far; lists of steps stay the same objects, so that they are encoded once.
    _samples: dict | None = field(default=None, repr=False)
    _num_sampled: int = 0

    @property
    def label(self) -> str:
        return self.plan.label

    def samples(self) -> dict:
        """{"round", "started", "gpu", "metrics": {metric: one value per run}, "steps": {name: [values]
        per run}}, as the result file has them."""
        record, workload = self.record, self.plan.workload
        if self._samples is None:
            self._samples = workload.samples([])
        timed = record.timed_runs[self._num_sampled :]
        newer = workload.samples([timed_run.run for timed_run in timed])
        for part in ("metrics", "steps"):
            for name, values in newer[part].items():
                self._samples[part][name] += values
        self._num_sampled += len(timed)
        by_round = {
            "round": record.rounds,
            "started": record.started,
            "gpu": record.gpu_after_runs,
        }
        if record.estimates is not None:
            no_steps = {name: [] for name in self._samples["steps"]}
            return {**by_round, "metrics": record.estimates, "steps": no_steps}
        return {**by_round, **self._samples}

    def times(self) -> dict[str, list[float]]:
        """The metrics of all runs."""
        return self.samples()["metrics"]
