"""A part of one decoder layer, timed alone: its attention, its feed-forward network, all of it.

A run is one iteration: fresh random tensors, a cold L2 cache, the step, and where that is short the
same step once more in a CUDA graph, which has no launches to wait for. With a backward pass the two
directions are timed apart. No torch here.
"""

from collections.abc import Callable

from inference_benchmark.model.config import ModelConfig, Precision
from inference_benchmark.model.layer_part import FEED_FORWARDS, LayerPart
from inference_benchmark.workloads.base import (
    CHECK_RUNS,
    CheckContext,
    Metric,
    ProfiledPhase,
    Rate,
    Run,
    Workload,
)
from inference_benchmark.workloads.cost import Cost, Phase

_TERA = 1e12


class PartWorkload(Workload):
    """A subclass has the name of its part."""

    steps_used = frozenset({"part"})
    backward_metric = Metric("backward_pass_s", "backward", headline=True)
    graph_metric = Metric("graph_s", "in a graph", headline=True)

    def __init_subclass__(cls, **arguments) -> None:
        super().__init_subclass__(**arguments)
        cls.run_metric = f"{cls.name}_s"
        cls.rates = (
            Rate("tflop_per_s", "TFLOP/s", cls.run_metric, headline=True),
            Rate("tb_per_s", "TB/s", cls.run_metric, headline=True),
        )
        cls.metrics = cls._metrics(backward=False)

    def __init__(self, input_length: int, output_length: int = 0, **options) -> None:
        """options: as LayerPart has them."""
        super().__init__(input_length, 0)
        self.part = LayerPart(self.name, input_length, **options)
        self.metrics = self._metrics(self.part.backward)

    @classmethod
    def for_request(cls, request, length: int) -> "PartWorkload":
        return cls(
            length,
            decode=request.decode,
            backward=request.backward,
            feed_forward=request.feed_forward or FEED_FORWARDS[0],
        )

    @classmethod
    def _metrics(cls, backward: bool) -> tuple[Metric, ...]:
        main = Metric(cls.run_metric, cls.name, headline=True, watched=True)
        if backward:
            return Metric("forward_pass_s", "forward", headline=True), cls.backward_metric, main
        return cls.graph_metric, main

    def record(self) -> dict:
        return super().record() | {"name": self.part.label}

    def inputs(self, vocab_size: int, batch_size: int, seed: int, run: int, device) -> int:
        """What the tensors of a run are drawn from; engines draw them where they lie."""
        return (seed * 1_000_003 + run) % 2**63

    def prepare(self, engine, inputs, timed: Callable[[str, Callable[[], None]], None]) -> None:
        engine.load(inputs)
        timed(f"compile_{self.name}_s", engine.step)
        timed("capture_s", engine.capture_if_short)

    def time(self, engine, clock_type, inputs) -> Run:
        """The clock is made, and the tensors are drawn, before the L2 cache is made cold."""
        engine.load(inputs)
        marks = 4 if engine.has_graph else 3 if self.part.backward else 2
        clock = clock_type(marks)
        engine.flush()
        clock.mark()
        engine.forward()
        clock.mark()
        if self.part.backward:
            engine.backward()
            clock.mark()
        if engine.has_graph:
            engine.flush()
            clock.mark()
            engine.replay()
            clock.mark()
        # Between the marks the host runs ahead, so that its own clock has nothing to say.
        return Run(clock.gaps_s(), None)

    def times(self, run: Run) -> dict[str, float]:
        if self.part.backward:
            forward_s, backward_s = run.gaps_s
            both = {"forward_pass_s": forward_s, "backward_pass_s": backward_s}
            return both | {self.run_metric: forward_s + backward_s}
        step_s, *further = run.gaps_s
        graph = {"graph_s": further[-1]} if further else {}
        return graph | {self.run_metric: step_s}

    def cost(self, share: ModelConfig, precision: Precision, batch_size: int) -> Cost:
        work = self.part.work(share, precision, batch_size)
        phase = Phase(work.flops, work.bytes, work.attention_flops, work.attention_bytes)
        phases, metrics = {self.name: phase}, {self.run_metric: {self.name: 1}}
        if self.part.backward:
            for name, factor in (("forward", 1 / 3), ("backward", 2 / 3)):
                part = work.times(factor)
                phases[name] = Phase(
                    part.flops, part.bytes, part.attention_flops, part.attention_bytes
                )
                metrics[f"{name}_pass_s"] = {name: 1}
        else:
            metrics["graph_s"] = {self.name: 1}
        return Cost(
            phases=phases,
            metrics=metrics,
            facts={f"{self.name}_flops": work.flops, f"{self.name}_bytes": work.bytes},
            mfu=(self.name, self.run_metric),
            mbu=(self.name, self.run_metric),
            amounts={"tflop_per_s": work.flops / _TERA, "tb_per_s": work.bytes / _TERA},
        )

    def amounts(self, batch_size: int, num_gpus: int) -> dict[str, float]:
        """Its rates count work, which `cost` knows."""
        return {}

    def priced_tokens(self, batch_size: int) -> dict[str, int]:
        return {}

    def energy_tokens(self, batch_size: int) -> int:
        return batch_size * self.part.tokens

    def output_bytes(self, model: ModelConfig, precision: Precision, batch_size: int) -> int:
        """Tensors of a cell, the largest of its steps, and what the check holds: scores that lie in
        memory, in the wider type too."""
        work = self.part.work(model, precision, batch_size)
        tokens = batch_size * self.part.tokens
        layer = model.layers[0]
        scores = 0
        if self.name == "attention":
            scores = layer.attention.num_heads * tokens * self.part.length
        return round(2 * work.bytes) + 2 * scores * precision.base_bytes

    def profiled(self, engine, inputs, share, precision, batch_size) -> list[ProfiledPhase]:
        work = self.cost(share, precision, batch_size).phases[self.name]

        def prepare() -> None:
            engine.load(inputs)

        return [ProfiledPhase(self.name, prepare, engine.step, 1, work, None, self.run_metric)]

    def check(self, engine, context: CheckContext) -> dict:
        from inference_benchmark.output_check.part import check_part_before

        return check_part_before(engine, context.inputs(CHECK_RUNS[0]), context.precision)

    def keep_output(self, engine, inputs):
        """The engine holds the output of its last run."""
        return inputs

    def check_timed(self, engine, context: CheckContext, outputs, before: dict) -> dict:
        from inference_benchmark.output_check.part import check_timed_part

        return check_timed_part(engine, context.precision, before)


class Attention(PartWorkload):
    name = "attention"


class FeedForward(PartWorkload):
    name = "ffn"


class Layer(PartWorkload):
    name = "layer"
