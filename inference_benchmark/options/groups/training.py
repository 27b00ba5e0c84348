"""What a training step is."""

from dataclasses import dataclass

from inference_benchmark.model.training_config import MIXED_PRECISION, OPTIMIZERS
from inference_benchmark.options import values
from inference_benchmark.options.flag import flag


@dataclass(frozen=True, kw_only=True)
class TrainingFlags:
    optimizer: str | None = flag(
        "training",
        "of a training step; none: gradients only (default: adamw)",
        choices=OPTIMIZERS,
        role="work",
        serves=("training",),
    )
    mixed_precision: str | None = flag(
        "training",
        "of --precision bf16: weights in bf16 of which the optimizer keeps an fp32 copy, or "
        "fp32 weights under torch.autocast (default: master-weights)",
        choices=MIXED_PRECISION,
        role="condition",
        serves=("training",),
    )
    activation_checkpointing: bool | None = flag(
        "training",
        "keep a layer's inputs only, and compute it again in the backward",
        default=False,
        role="condition",
        serves=("training",),
    )
    dynamic_shapes: int | None = flag(
        "training",
        "a run makes a step at each of N lengths, a seeded list up to the input length, and "
        "recompilations count (default N: 16)",
        parse=values.positive_int,
        nargs="?",
        const=16,
        metavar="N",
        role="work",
        serves=("training",),
    )
