"""What a session finds out about one mode at one batch size and one depth of the model. No torch.

workloads fills cells, reporting reads them; neither has to know the other.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

from inference_benchmark.model.extrapolation import Extrapolation
from inference_benchmark.models import ModelConfig, Precision
from inference_benchmark.workloads.metrics import Work

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


class Spec(Protocol):
    """A mode as it was asked for; measurement knows none by name."""

    @property
    def name(self) -> str: ...

    @property
    def label(self) -> str: ...

    @property
    def executors(self) -> tuple[str, ...]: ...

    @property
    def cuda_graphs(self) -> bool: ...


@dataclass(frozen=True)
class Run:
    """Times of one run. step_s are the gaps between consecutive tokens."""

    ttft_s: float
    step_s: list[float]
    wall_s: float  # the same span by the host's clock, to cross-check the device's

    @property
    def decode_s(self) -> float:
        return sum(self.step_s)

    @property
    def total_s(self) -> float:
        return self.ttft_s + self.decode_s


@dataclass(frozen=True)
class EstimatedRun:
    """What a run of the full model would have taken; nothing is said of its single steps, in which
    the noise of two depths would be all there is."""

    ttft_s: float
    decode_s: float

    @property
    def total_s(self) -> float:
        return self.ttft_s + self.decode_s


@dataclass
class Cell:
    """One mode at one batch size and depth: its engine while it runs, and what was found out.

    With `extrapolation` it never ran: its runs are estimates from those of two other cells.
    """

    spec: Spec
    mode_label: str
    batch_size: int
    model: ModelConfig  # the whole of it, of which several ranks have shares
    precision: Precision
    kernels: Any  # what computes attention and linear layers of a single token
    work: Work  # of one rank
    qualifier: str = ""  # where several cells of a session differ in depth alone
    extrapolation: Extrapolation | None = None
    timer: str = "cuda_event"
    engine: Any = None
    clock_type: Any = None
    warmup_runs: list[Run] = field(default_factory=list)
    runs: list[Run] | list[EstimatedRun] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    # GPU state before and after each run; of several GPUs one after the other
    snapshots: list[tuple] = field(default_factory=list)
    compile_counts: list[int] = field(default_factory=list)  # after each warm-up run
    recompilations: int | None = None
    cold_start: dict | None = field(default_factory=lambda: dict.fromkeys(COLD_START))
    memory: dict = field(default_factory=lambda: dict.fromkeys(MEMORY))
    rank_memory: list[dict] = field(default_factory=list)  # of each rank, after its newest run
    details: dict = field(default_factory=dict)
    routing: dict | None = None  # how evenly a mixture's experts were used by one prompt
    agreement: dict | None = None
    check_before: dict | None = None  # what the check of timed runs builds on
    timed_runs: list = field(default_factory=list)  # outputs of the first and the last measured run
    host: dict | None = None
    profile: dict | None = None
    status: str = "ok"
    stop_reason: str | None = None
    error: str | None = None

    @property
    def label(self) -> str:
        return f"{self.mode_label} b{self.batch_size} {self.qualifier}".rstrip()

    @property
    def is_sound(self) -> bool:
        """Whether it has times, and these count: a wrong output has no speed."""
        return bool(self.runs) and self.status in ("ok", "partial")

    @property
    def is_running(self) -> bool:
        return self.engine is not None and self.error is None

    def samples(self) -> dict[str, list]:
        return {
            "ttft_s": [run.ttft_s for run in self.runs],
            "decode_s": [run.decode_s for run in self.runs],
            "step_s": [run.step_s for run in self.runs if isinstance(run, Run)],
        }

    def interrupt(self) -> None:
        """What was measured stays; what was wrong or failed before stays so."""
        if self.error is None:
            self.stop_reason = "interrupted"
        if self.status == "ok":
            self.status = "partial"

    def fail(self, status: str, error: str) -> None:
        """The cell becomes a row with a reason; the session goes on with the others."""
        self.status, self.error = status, error
        if self.engine is not None:
            self.engine.close()
        self.engine = None
