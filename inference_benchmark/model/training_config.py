"""How a model is trained: what a training step keeps, in which types, and what it changes. No torch."""

from dataclasses import asdict, dataclass

OPTIMIZERS = ("adamw", "none")
# Of steps in bf16: what is rounded to it.
MIXED_PRECISION = ("master-weights", "autocast")
# Of a hidden size of 512: small enough that modes which round differently stay together for ten
# steps, large enough that these lower the loss of a batch.
LEARNING_RATE = 1e-4
_ITS_HIDDEN_SIZE = 512


def learning_rate_for(hidden_size: int) -> float:
    """AdamW's first updates move all weights of a row alike, so that what a step changes in a layer's
    output grows with the width (Yang et al. 2022, "Tensor Programs V"); with a rate that falls like
    the width, models of any size learn alike, and none runs away from its rounding errors."""
    return LEARNING_RATE * _ITS_HIDDEN_SIZE / hidden_size


@dataclass(frozen=True)
class TrainingConfig:
    """
    optimizer: "adamw", or "none": gradients are made and nothing is changed.
    mixed_precision: "master-weights": weights, activations and gradients in bf16, and the optimiser
        keeps an fp32 copy of the weights, which it updates and rounds; "autocast": weights and
        gradients in fp32, products in bf16 under torch.autocast; None: everything in fp32.
    activation_checkpointing: a layer keeps its inputs only, and is computed again in the backward.
    dynamic_shapes: lengths change from step to step.
    learning_rate: of AdamW.
    """

    optimizer: str = "adamw"
    mixed_precision: str | None = "master-weights"
    activation_checkpointing: bool = False
    dynamic_shapes: bool = False
    learning_rate: float = LEARNING_RATE

    @property
    def has_master_weights(self) -> bool:
        return self.mixed_precision == "master-weights"

    @property
    def is_autocast(self) -> bool:
        return self.mixed_precision == "autocast"

    def bytes_per_parameter(self, base_bytes: int) -> int:
        """Of weights, gradients and what the optimiser keeps: AdamW two fp32 values, and a master
        copy where weights are in a narrower type."""
        kept = base_bytes if self.has_master_weights else 4
        adamw = 8 + (4 if self.has_master_weights else 0)
        return 2 * kept + (adamw if self.optimizer == "adamw" else 0)

    def record(self) -> dict:
        """For the result file."""
        return asdict(self)

    @property
    def words(self) -> list[str]:
        """As tables say it."""
        words = ["no optimizer" if self.optimizer == "none" else "AdamW"]
        if self.is_autocast:
            words.append("autocast of fp32 weights")
        elif self.has_master_weights:
            keeps_copy = self.optimizer != "none"
            words.append("fp32 master weights" if keeps_copy else "bf16 weights")
        return words + ["activation checkpointing"] * self.activation_checkpointing
