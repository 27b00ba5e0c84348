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
        said = {"adamw": "AdamW", "none": "no optimiser"}
        types = {"master-weights": "fp32 master weights", "autocast": "autocast of fp32 weights"}
        words = [said[self.optimizer]]
        if self.mixed_precision is not None and self.optimizer + self.mixed_precision != (
            "nonemaster-weights"
        ):
            words.append(types[self.mixed_precision])
        return words + ["activation checkpointing"] * self.activation_checkpointing
