"""Plain PyTorch: every operation is one kernel launch. The baseline and the reference."""

from collections.abc import Callable

from torch import nn

from inference_benchmark.engines.training_engine import TrainingEngine
from inference_benchmark.model.decoder import Decoder, Forward


class EagerEngine(TrainingEngine):
    def compile(self, decoder: Decoder) -> Forward:
        return Forward(decoder, self.plan.kernels, **self.forward_options)

    def compile_training(self, decoder: Decoder) -> Callable:
        return self.loss_forward(decoder)

    def compile_model(self, model: nn.Module) -> Callable:
        return model
