"""A step as one CUDA graph: launched by the host in one go, over memory that does not move."""

from collections.abc import Callable

import torch
from torch import Tensor

_WARMUP_STEPS = 3


class CapturedStep:
    """A captured step, and what it leaves in memory of its own whenever it is replayed.

    step: () -> (logits, choices); it was called before, so that nothing is compiled any more.
    inputs: memory that the step reads and that replay fills; None: it feeds itself.
    before: called before each of the warm-up steps, which another stream runs.
    """

    def __init__(
        self,
        step: Callable[[], tuple[Tensor, list[Tensor]]],
        device: torch.device,
        num_ranks: int,
        inputs: Tensor | None = None,
        before: Callable[[], object] = lambda: None,
        warmup_steps: int = _WARMUP_STEPS,
    ) -> None:
        self.inputs = inputs
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(warmup_steps):
                before()
                step()
        torch.cuda.current_stream(device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # NCCL's watchdog thread may ask for its events meanwhile.
        mode = "global" if num_ranks == 1 else "thread_local"
        with torch.cuda.graph(self._graph, capture_error_mode=mode):
            self._logits, self._choices = step()

    def replay(self, inputs: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        if inputs is not None:
            self.inputs.copy_(inputs)
        self._graph.replay()
        return self._logits, self._choices

    def pool_bytes(self) -> int:
        """Memory that belongs to the graph alone."""
        pool = self._graph.pool()
        segments = torch.cuda.memory_snapshot()
        return sum(s["total_size"] for s in segments if tuple(s["segment_pool_id"]) == tuple(pool))
