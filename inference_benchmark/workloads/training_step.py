"""A training step: forward, loss, backward and the optimiser, over batch x input length tokens.

Bound by arithmetic: the backward multiplies every matrix twice, so that a step takes three times a
forward's FLOPs, 6 for each parameter and token and three times causal attention; the head is
counted, the embedding table is not, and what activation checkpointing computes again is not either
(model FLOPs, as in the PaLM paper's MFU). Lengths are the same in each run, or with --dynamic-shapes
drawn anew for each step (dynamic_training.py). No torch here.
"""

from typing import Any

from inference_benchmark.model.config import ModelConfig, Precision
from inference_benchmark.model.training_config import TrainingConfig
from inference_benchmark.workloads.base import CHECK_RUNS, CheckContext, Metric, Rate, Run
from inference_benchmark.workloads.cost import Phase
from inference_benchmark.workloads.single_step import SingleStep

CHECKED_STEPS = 10


class TrainingStep(SingleStep):
    name = "training"
    steps_used = frozenset({"train"})
    metrics = (Metric("training_s", "iteration", headline=True, watched=True),)
    rates = (
        Rate("samples_per_s", "samples/s", "training_s", headline=True),
        Rate("tokens_per_s", "tok/s", "training_s", headline=True),
    )

    def __init__(
        self, input_length: int, output_length: int = 0, training: TrainingConfig | None = None
    ) -> None:
        super().__init__(input_length, output_length)
        self._training = training or TrainingConfig()
        # What eager makes of the same steps, which all modes are held against.
        self.references: dict[tuple, Any] = {}

    @property
    def training(self) -> TrainingConfig:
        return self._training

    @property
    def conditions(self) -> list[str]:
        return self.training.words

    def inputs(self, vocab_size: int, batch_size: int, seed: int, run: int, device) -> Any:
        """[batch, input_length + 1]: every token of the input has a next one to predict."""
        from inference_benchmark.workloads.inputs import random_tokens

        return random_tokens(vocab_size, batch_size, self.input_length + 1, seed, run, device)

    def step(self, engine, inputs) -> None:
        engine.train(inputs)

    def time(self, engine, clock_type, inputs) -> Run:
        """Gradients are gone before another cell's turn, whose memory they would count to."""
        run = super().time(engine, clock_type, inputs)
        engine.forget_gradients()
        return run

    def work(self, share: ModelConfig, precision: Precision, batch_size: int) -> Phase:
        return self.work_at(self.input_length, share, precision, batch_size)

    def work_at(
        self, length: int, share: ModelConfig, precision: Precision, batch_size: int
    ) -> Phase:
        """Of a step over sequences of this length. Weights are read by forward and backward,
        gradients are written; the optimiser reads and writes what it keeps of each parameter."""
        tokens = batch_size * length
        attention = 3 * share.prefill_attention_flops(batch_size, length)
        linear = 3 * tokens * (share.linear_flops_per_token + share.head_flops)
        moved = 3 * share.step_weight_bytes(precision, tokens)
        if self.training.optimizer != "none":
            kept = self.training.bytes_per_parameter(precision.base_bytes)
            moved += 2 * kept * share.parameters
        return Phase(linear + attention, moved, attention)

    def amounts(self, batch_size: int, num_gpus: int) -> dict[str, float]:
        return {
            "samples_per_s": batch_size,
            "tokens_per_s": batch_size * self.input_length,
        }

    # Memory

    def output_bytes(self, model: ModelConfig, precision: Precision, batch_size: int) -> int:
        """What a cell keeps: weights of its own, gradients, what the optimiser remembers."""
        return self.training.bytes_per_parameter(precision.base_bytes) * model.parameters

    def working_bytes(self, share: ModelConfig, precision: Precision, batch_size: int) -> int:
        """What a backward needs of its forward, and the logits on their way to a loss in fp32."""
        tokens = batch_size * self.input_length
        kinds = share.layer_kinds
        of_layer = max(
            4 * share.hidden_size
            + layer.attention.activation_values_per_token()
            + 2 * layer.feed_forward.activation_values_per_token(share.hidden_size)
            for layer in kinds
        )
        kept = 2 * share.hidden_size if self.training.activation_checkpointing else of_layer
        wide = 4 if self.training.is_autocast else precision.base_bytes
        layers = (share.num_layers * kept + of_layer) * wide
        logits = share.vocab_size * (2 * precision.base_bytes + 3 * 4)
        return tokens * (layers + logits)

    def check_bytes(self, share: ModelConfig, precision: Precision, batch_size: int) -> int:
        """Nothing beside a run: the reference is made before the first engine is opened."""
        return 0

    # The check

    def check(self, engine, context: CheckContext) -> dict:
        from inference_benchmark.output_check.training import check_training_before

        batches = self.check_batches(context)
        return check_training_before(engine, self.reference(context), batches, context.precision)

    def prepare_check(self, context: CheckContext) -> None:
        """The reference trains weights of its own, for which there is room now."""
        self.reference(context)

    def check_batches(self, context: CheckContext) -> list[Any]:
        """Of each checked step: one batch, which has to be learned."""
        return [context.inputs(CHECK_RUNS[0])] * CHECKED_STEPS

    def reference(self, context: CheckContext):
        """Of this depth and batch size, made once for all modes of the session."""
        from inference_benchmark.output_check.training import follow_reference

        batches = self.check_batches(context)
        key = len(batches[0]), context.decoder.config.num_layers
        if key not in self.references:
            self.references[key] = follow_reference(context.decoder, self.training, batches)
        return self.references[key]

    def keep_output(self, engine, inputs):
        """The loss of a timed run."""
        return engine.loss

    def check_timed(self, engine, context: CheckContext, outputs, before: dict) -> dict:
        from inference_benchmark.output_check.training import check_after_training

        batches, reference = self.check_batches(context), self.reference(context)
        return check_after_training(engine, reference, batches, context.precision, outputs)
