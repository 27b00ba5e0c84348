"""Plain PyTorch: every operation is one kernel launch. The baseline and the reference."""

from collections.abc import Callable

from torch import nn

from inference_benchmark.engines.base import ALL_STEPS, Capabilities
from inference_benchmark.engines.step_engine import StepEngine
from inference_benchmark.model.decoder import Decoder, Forward


class EagerEngine(StepEngine):
    capabilities = Capabilities(steps=ALL_STEPS)

    def compile(self, decoder: Decoder) -> Forward:
        return Forward(decoder, self.plan.kernels, all_positions=not self.has_cache)

    def compile_training(self, decoder: Decoder) -> Callable:
        return self.loss_forward(decoder)

    def compile_model(self, model: nn.Module) -> Callable:
        return model
