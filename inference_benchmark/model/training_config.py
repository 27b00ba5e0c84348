"""How a model is trained: what a training step keeps, in which types, and what it changes. No torch."""

from dataclasses import asdict, dataclass

OPTIMIZERS = ("adamw", "none")
# Of steps in bf16: what is rounded to it.
MIXED_PRECISION = ("master-weights", "autocast")


@dataclass(frozen=True)
class TrainingConfig:
    """
    optimizer: "adamw", or "none": gradients are made and nothing is changed.
    mixed_precision: "master-weights": weights, activations and gradients in bf16, and the optimiser
        keeps an fp32 copy of the weights, which it updates and rounds; "autocast": weights and
        gradients in fp32, products in bf16 under torch.autocast; None: everything in fp32.
    activation_checkpointing: a layer keeps its inputs only, and is computed again in the backward.
    dynamic_shapes: lengths change from step to step.
    """

    optimizer: str = "adamw"
    mixed_precision: str | None = "master-weights"
    activation_checkpointing: bool = False
    dynamic_shapes: bool = False

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
