"""A cell while its group is being measured: its plan, its engine, and what is found out."""

from dataclasses import dataclass
from typing import Any

from inference_benchmark.engines.base import Engine
from inference_benchmark.errors import CannotRun, Stopped
from inference_benchmark.session.record import MeasuredCell


@dataclass
class LiveCell(MeasuredCell):
    engine: Engine | None = None
    clock_type: Any = None
    pids: frozenset[int] = frozenset()  # of its worker processes, as the driver numbers them

    @property
    def is_running(self) -> bool:
        return self.engine is not None and self.record.error is None

    @property
    def has_steps(self) -> bool:
        """Whether its engine is driven step by step."""
        return self.engine is not None and self.engine.capabilities.granularity == "steps"

    def fail(self, status: str, error: str) -> None:
        """The cell becomes a row with a reason; the session goes on with the others."""
        self.record.status, self.record.error = status, error
        self.close()

    def close(self) -> None:
        if self.engine is not None:
            self.engine.close()
        self.engine = None


def failure(error: Exception) -> tuple[str, str]:
    """(status, one line) for what went wrong in a cell."""
    if isinstance(error, CannotRun):
        return "unsupported", str(error)
    if isinstance(error, Stopped):
        return "failed", str(error)
    if type(error).__name__ == "OutOfMemoryError":
        advice = "try a smaller --batch-size, fewer modes at once or fewer --num-layers"
        return "oom", f"out of GPU memory: {_first_line(error)}; {advice}"
    return "failed", f"{type(error).__name__}: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else "no message"
