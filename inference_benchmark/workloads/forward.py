"""One forward over batch x input length tokens: logits of all positions, no KV cache.

What scoring, embedding and the forward half of training do. Every token goes through all layers and
the head, so it is bound by arithmetic unless it is tiny. No torch here.
"""

import time
from collections.abc import Callable

from inference_benchmark.model.config import ModelConfig, Precision
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


class SingleForward(Workload):
    name = "forward"
    metrics = (Metric("forward_s", "forward", headline=True, watched=True),)
    rates = (Rate("tokens_per_s", "tok/s", "forward_s", headline=True),)
    run_metric = "forward_s"

    def prepare(self, engine, inputs, timed: Callable[[str, Callable[[], None]], None]) -> None:
        timed("compile_forward_s", lambda: engine.forward(inputs))

    def time(self, engine, clock_type, inputs) -> Run:
        clock = clock_type(2)
        started = time.perf_counter()
        clock.mark()
        engine.forward(inputs)
        clock.mark()
        gaps_s = clock.gaps_s()
        return Run(gaps_s, time.perf_counter() - started)

    def times(self, run: Run) -> dict[str, float]:
        return {"forward_s": run.total_s}

    def cost(self, share: ModelConfig, precision: Precision, batch_size: int) -> Cost:
        forward = self._phase(share, precision, batch_size)
        return Cost(
            phases={"forward": forward},
            metrics={"forward_s": {"forward": 1}},
            facts={"forward_flops": forward.flops},
            mfu=("forward", "forward_s"),
        )

    def _phase(self, share: ModelConfig, precision: Precision, batch_size: int) -> Phase:
        """A prefill whose head runs on every token; the weights read and the logits written once."""
        length = self.input_length
        tokens = batch_size * length
        further_heads = batch_size * (length - 1) * share.head_flops
        logits_bytes = tokens * share.vocab_size * precision.base_bytes
        return Phase(
            share.prefill_flops(batch_size, length) + further_heads,
            share.step_weight_bytes(precision, tokens) + logits_bytes,
            share.prefill_attention_flops(batch_size, length),
        )

    def amounts(self, batch_size: int, num_gpus: int) -> dict[str, float]:
        return {"tokens_per_s": batch_size * self.input_length}

    def priced_tokens(self, batch_size: int) -> dict[str, int]:
        return {"total": batch_size * self.input_length}

    def energy_tokens(self, batch_size: int) -> int:
        return batch_size * self.input_length

    def output_bytes(self, model: ModelConfig, precision: Precision, batch_size: int) -> int:
        """Logits of all positions."""
        return batch_size * self.input_length * model.vocab_size * precision.base_bytes

    def profiled(self, engine, inputs, share, precision, batch_size) -> list[ProfiledPhase]:
        def run_forward() -> None:
            engine.forward(inputs)

        work = self._phase(share, precision, batch_size)
        return [ProfiledPhase("forward", run_forward, run_forward, 1, work, None, "forward_s")]

    def check(self, engine, context: CheckContext) -> dict:
        from inference_benchmark.output_check import check_forward_before

        inputs = context.inputs(CHECK_RUNS[0])
        return check_forward_before(engine, context.decoder, inputs, context.precision)

    def keep_output(self, engine, inputs):
        """The logits are too large to be kept; the engine holds those of its last run."""
        return inputs if "logits" in engine.capabilities.evidence else None

    def check_timed(self, engine, context: CheckContext, outputs, before: dict) -> dict:
        from inference_benchmark.output_check import check_timed_forward

        last = outputs[-1]
        return check_timed_forward(engine, context.decoder, last, context.precision, before)
