"""One forward over batch x input length tokens: logits of all positions, no KV cache.

What scoring, embedding and the forward half of training do. Every token goes through all layers and
the head, so it is bound by arithmetic unless it is tiny. No torch here.
"""

from inference_benchmark.model.config import ModelConfig, Precision
from inference_benchmark.workloads.base import CHECK_RUNS, CheckContext
from inference_benchmark.workloads.cost import Phase
from inference_benchmark.workloads.single_step import SingleStep


class SingleForward(SingleStep):
    name = "forward"
    steps_used = frozenset({"forward"})

    def step(self, engine, inputs) -> None:
        engine.forward(inputs)

    def work(self, share: ModelConfig, precision: Precision, batch_size: int) -> Phase:
        """A prefill whose head runs on every token; the weights read and the logits written once."""
        length = self.input_length
        tokens = batch_size * length
        further_heads = batch_size * (length - 1) * share.head_flops
        logits_bytes = self.output_bytes(share, precision, batch_size)
        return Phase(
            share.prefill_flops(batch_size, length) + further_heads,
            share.step_weight_bytes(precision, tokens) + logits_bytes,
            share.prefill_attention_flops(batch_size, length),
        )

    def output_bytes(self, model: ModelConfig, precision: Precision, batch_size: int) -> int:
        """Logits of all positions."""
        return batch_size * self.input_length * model.vocab_size * precision.base_bytes

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
