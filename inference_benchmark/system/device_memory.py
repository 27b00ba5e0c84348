"""What torch's allocator says about each cell, where several cells share one process."""

from collections.abc import Callable

import torch

from inference_benchmark.system.process_memory import used_bytes


class MemoryTracker:
    """Brackets the runs of cells; a cell's figures are net of what the other cells hold.

    Of a cell whose engine computes in processes of its own the driver is asked: `process_bytes` is
    what these held at most after a run, contexts and reserved pools included.
    """

    def __init__(self, cells: list, idle_bytes: Callable = lambda plan: 0) -> None:
        """idle_bytes(plan): of weights that a cell does not use."""
        self._cells = cells
        self._idle_bytes = idle_bytes
        self._retries = 0

    def before_run(self, cell) -> None:
        torch.cuda.reset_peak_memory_stats()
        self._retries = _retries()

    def after_run(self, cell) -> None:
        others = sum(
            other.record.memory.get("held_bytes") or 0
            for other in self._cells
            if other is not cell and other.engine is not None
        )
        others += self._idle_bytes(cell.plan)
        memory = cell.record.memory
        if cell.engine.capabilities.process == "workers":
            held = used_bytes(cell.pids)
            if held is not None:
                memory["process_bytes"] = max(held, memory.get("process_bytes") or 0)
            memory["reported"] = cell.engine.reported_memory()
            return
        peak = torch.cuda.max_memory_allocated() - others
        memory["peak_allocated_bytes"] = max(peak, memory.get("peak_allocated_bytes") or 0)
        memory["current_allocated_bytes"] = torch.cuda.memory_allocated() - others
        alone = len(self._cells) == 1
        memory["peak_reserved_bytes"] = torch.cuda.max_memory_reserved() if alone else None
        memory["allocator_retries"] = (
            (memory.get("allocator_retries") or 0) + _retries() - self._retries
        )


def _retries() -> int:
    return torch.cuda.memory_stats().get("num_alloc_retries", 0)
