"""What engines share that also train: the trainer, and the loss that they compile for it.

Opened with `plan.training`, such an engine makes training steps of a copy of the weights; without, it
is the step engine that it derives from.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from inference_benchmark.engines.step_engine import StepEngine
from inference_benchmark.model.decoder import Decoder, Transform
from inference_benchmark.model.own_model import OwnLoss
from inference_benchmark.model.trainer import Trainer
from inference_benchmark.model.training import LossForward


class TrainingEngine(StepEngine):
    """`trainer` holds the weights, the optimiser and what the newest step left; None: no training."""

    capabilities = replace(StepEngine.capabilities, steps=StepEngine.capabilities.steps | {"train"})
    trainer: Trainer | None = None

    def open_model(self, decoder: Decoder, model: nn.Module | None) -> None:
        if self.plan.training is None:
            super().open_model(decoder, model)
        elif model is None:
            self.trainer = Trainer(decoder, self.plan.training, self.compile_training)
        else:
            self.trainer = Trainer(model, self.plan.training, self._own_loss)

    @abstractmethod
    def compile_training(self, decoder: Decoder) -> Callable:
        """(tokens, targets) -> loss, with gradients, as model.training.LossForward."""

    def loss_forward(
        self, decoder: Decoder, transform: Transform | None = None, **settings: bool
    ) -> Callable:
        """Compiled by `transform` function by function, or whole; settings: of LossForward."""
        checkpointing = self.plan.training.activation_checkpointing
        if transform is not None and self.plan.compile_scope == "model":
            return transform(LossForward(decoder, None, checkpointing, **settings))
        return LossForward(decoder, transform, checkpointing, **settings)

    def _own_loss(self, model: nn.Module) -> Callable:
        return self.compile_model(OwnLoss(model))

    @property
    def loss(self) -> Tensor:
        """Of the newest training step, a scalar in fp32 on the device."""
        return self.trainer.loss

    def train(self, token_ids: Tensor) -> None:
        """One training step; token_ids [batch, length + 1]."""
        self.trainer.step(token_ids)

    def forget_gradients(self) -> None:
        self.trainer.forget_gradients()

    def gradient_norms(self) -> dict[str, Tensor]:
        """Of the newest training step, by weight."""
        return self.trainer.gradient_norms()

    @torch.inference_mode()
    def reset(self, fill: float = 0.0) -> None:
        """In training: back to the initial weights."""
        if self.trainer is not None:
            self.trainer.reset()
        super().reset(fill)

    def close(self) -> None:
        super().close()
        self.trainer = None
