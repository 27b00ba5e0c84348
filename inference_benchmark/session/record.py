"""What was seen of a cell: raw data only, no verdict. No torch."""

from dataclasses import dataclass, field
from typing import Any

from inference_benchmark.session.plan import CellPlan
from inference_benchmark.workloads.base import Run

COLD_START = (
    "build_s",
    "setup_s",
    "compile_prefill_s",
    "compile_decode_s",
    "capture_s",
    "first_token_s",
)
MEMORY = (
    "weights_bytes",
    "kv_cache_bytes",
    "graph_pool_bytes",
    "held_bytes",
    "current_allocated_bytes",
    "peak_allocated_bytes",
    "peak_reserved_bytes",
    "predicted_bytes",
    "allocator_retries",
)


@dataclass
class CellRecord:
    """Everything a session finds out about one cell, as raw as it came."""

    warmup_runs: list[Run] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    # Of a cell that never ran: what is estimated of each round, by metric.
    estimates: dict[str, list[float]] | None = None
    rounds: list[int] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    # GPU state before and after each run; of several GPUs one after the other.
    snapshots: list[tuple] = field(default_factory=list)
    compilations: list[int] = field(default_factory=list)  # in each warm-up run of this cell
    recompilations: int | None = None  # in its timed runs
    engine: dict | None = None  # what the engine says it can do
    timer: str | None = None
    cold_start: dict | None = field(default_factory=lambda: dict.fromkeys(COLD_START))
    memory: dict = field(default_factory=lambda: dict.fromkeys(MEMORY))
    rank_memory: list[dict] = field(default_factory=list)  # of each rank, after its newest run
    compiler_stats: dict = field(default_factory=dict)
    routing: dict | None = None  # how evenly a mixture's experts were used by one prompt
    output_check: dict | None = None
    # (inputs, what the workload kept of the run's output), of the first and the last timed run
    timed_outputs: list[tuple[Any, Any]] = field(default_factory=list)
    host: dict | None = None
    profile: dict | None = None
    status: str = "ok"
    stop_reason: str | None = None
    error: str | None = None

    @property
    def is_sound(self) -> bool:
        """Whether it has times, and these count: a wrong output has no speed."""
        return bool(self.rounds) and self.status in ("ok", "partial")

    def keep_output(self, inputs: Any, output: Any) -> None:
        if output is not None:
            self.timed_outputs = [*self.timed_outputs[:1], (inputs, output)]

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


@dataclass
class MeasuredCell:
    """A cell's plan and what was seen of it."""

    plan: CellPlan
    record: CellRecord = field(default_factory=CellRecord)

    @property
    def label(self) -> str:
        return self.plan.label

    def samples(self) -> dict:
        """{"metrics": {metric: one value per run}, "steps": {name: [values] per run}}."""
        samples = self.plan.workload.samples(self.record.runs)
        if self.record.estimates is None:
            return samples
        return {"metrics": self.record.estimates, "steps": {name: [] for name in samples["steps"]}}

    def times(self) -> dict[str, list[float]]:
        """The metrics of all runs."""
        if self.record.estimates is not None:
            return self.record.estimates
        return self.plan.workload.metric_samples(self.record.runs)
