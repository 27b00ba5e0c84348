"""Runs one implementation of a part of a layer: on tensors drawn for each run, from a cold L2.

In a model the tensors of a layer come from far: 100 MB of other weights and activations went through
the L2 cache since they were written. So a buffer of several times its size is read before each timed
step; reading leaves no lines that would have to be written back meanwhile. It is read again and again
until the GPU is busy for as long as a slow host needs to launch a step, so that launches are hidden.
What of a step the host cannot hide even so shows in its time, and beside it stands the time of the
same step in a CUDA graph.
"""

from collections.abc import Callable
from math import ceil
from statistics import median

import torch
from torch import Tensor

from inference_benchmark.engines.base import Capabilities, Engine, EnginePlan, Resources
from inference_benchmark.engines.parts import IMPLEMENTATIONS
from inference_benchmark.engines.parts.problem import Tensors
from inference_benchmark.engines.parts.problems import make_problem
from inference_benchmark.engines.parts.step import Step

# Of the L2 cache's size, read before each timed step.
_FLUSH_FACTOR = 4
# For so long the GPU reads. Right after a run's bookkeeping a host took up to 1.5 ms for the launches
# of one layer.
_LEAD_S = 2.5e-3
# A step that takes less is timed in a CUDA graph too: launches may be a good part of its time.
GRAPH_UNDER_S = 1e-3
_TRIALS = 3
_WARMUP_STEPS = 3


class PartEngine(Engine):
    """load, flush, then forward, and backward where that is asked for; `results` is what they left.
    replay does the same as forward by a CUDA graph, where capture_if_short made one."""

    capabilities = Capabilities(
        capturable=False, evidence=frozenset({"output"}), steps=frozenset({"part"})
    )

    def __init__(self, plan: EnginePlan, resources: Resources) -> None:
        super().__init__(plan, resources)
        decoder = resources.decoder
        self.part = plan.part
        self.device = decoder.norm.weight.device
        self.problem = make_problem(plan, decoder)
        implementation = IMPLEMENTATIONS[plan.part.name][plan.mode]
        self._step: Step = implementation.load_function()(self.problem, plan, resources)
        self._outputs: tuple[Tensor, ...] = ()
        self._choice: Tensor | None = None
        self._gradients: tuple[Tensor, ...] = ()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._graph_outputs: tuple[Tensor, ...] = ()
        self._flush_buffer: Tensor | None = None
        self._flush_reads: int | None = None
        if self.device.type == "cuda":
            l2_bytes = torch.cuda.get_device_properties(self.device).L2_cache_size
            count = _FLUSH_FACTOR * l2_bytes // 4
            # In a type that needs no conversion: that would write, and leave lines to be written back.
            self._flush_buffer = torch.zeros(count, dtype=torch.float32, device=self.device)
            self._flush_result = torch.zeros((), dtype=torch.float32, device=self.device)
            self._flush_reads = 1
            read_s = median(self._timed_s(self.flush) for _ in range(_TRIALS))
            self._flush_reads = max(1, ceil(_LEAD_S / read_s))

    def load(self, number: int) -> None:
        """The tensors of a run; what an earlier step left is gone."""
        self._outputs = self._gradients = ()
        self.problem.draw(number)

    def flush(self) -> None:
        """Everything that the step will read leaves the L2 cache; on a CPU caches stay as they are."""
        if self._flush_buffer is None:
            return
        for _ in range(self._flush_reads):
            torch.sum(self._flush_buffer, dim=0, out=self._flush_result)

    def forward(self, input_ids=None) -> None:
        with torch.enable_grad() if self.part.backward else torch.inference_mode():
            self._outputs, self._choice = self._split(self._step.run())

    def _split(self, returned) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """Outputs, and of a mixture the chosen experts, which come last."""
        returned = (returned,) if isinstance(returned, Tensor) else tuple(returned)
        return (returned[:-1], returned[-1]) if self.problem.is_mixture else (returned, None)

    def backward(self) -> None:
        self._gradients = self.problem.backward(self._outputs, self.problem.tensors())

    def step(self) -> None:
        self.forward()
        if self.part.backward:
            self.backward()

    def results(self) -> Tensors:
        """Of the newest step, by name."""
        return self._named(self._outputs, self._gradients)

    def graph_results(self) -> Tensors:
        """Of the newest replay; nothing without a graph."""
        return self._named(self._graph_outputs) if self.has_graph else {}

    def _named(self, outputs, gradients=()) -> Tensors:
        outputs = [output.detach() for output in outputs]
        if self.part.name == "layer":  # the cache is updated where it lies
            outputs += [self.problem.inputs[name] for name in self.problem.cache_names]
        return self.problem.named(outputs, gradients)

    @property
    def choice(self) -> Tensor | None:
        """Of a mixture the experts [tokens, k] that the newest step chose."""
        return self._choice

    @property
    def has_graph(self) -> bool:
        return self._graph is not None

    def capture_if_short(self) -> None:
        """A CUDA graph of the forward step, where a launched one is short and has no gradients."""
        if self.device.type != "cuda" or self.part.backward:
            return
        launched_s = (self._timed_s(self.forward, self.flush) for _ in range(_TRIALS))
        if median(launched_s) > GRAPH_UNDER_S:
            return
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            for _ in range(_WARMUP_STEPS):
                self.forward()
        torch.cuda.current_stream(self.device).wait_stream(stream)
        self._outputs = ()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.forward()
        self._graph, self._graph_outputs, self._outputs = graph, self._outputs, ()

    def _timed_s(
        self, action: Callable[[], None], before: Callable[[], None] | None = None
    ) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        if before is not None:
            before()
        start.record()
        action()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) * 1e-3

    def replay(self) -> None:
        self._graph.replay()

    def step_peak_bytes(self) -> int | None:
        """Memory that a step takes beside its tensors and weights: outputs, and what lies between."""
        if self.device.type != "cuda":
            return None
        self.load(0)
        torch.cuda.synchronize()
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        self.step()
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() - held
        self._outputs = self._gradients = ()
        return peak

    def cache_state(self) -> dict:
        """How cold the L2 cache is, for the result file."""
        size = None if self._flush_buffer is None else self._flush_buffer.nbytes
        return {"flush_bytes": size, "flush_reads": self._flush_reads}

    def compile_count(self) -> int:
        return 0 if self._step.engine is None else self._step.engine.compile_count()

    def compiler_stats(self) -> dict:
        stats = {} if self._step.engine is None else self._step.engine.compiler_stats()
        return stats | self.cache_state()

    def graph_pool_bytes(self) -> int | None:
        return None

    def close(self) -> None:
        if self._step is not None and self._step.engine is not None:
            self._step.engine.close()
        self._graph = self._flush_buffer = self._step = self.problem = None
        self._outputs = self._gradients = self._graph_outputs = ()
