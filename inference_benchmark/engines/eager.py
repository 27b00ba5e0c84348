"""Plain PyTorch: every operation is one kernel launch. The baseline and the reference."""

from inference_benchmark.engines.step_engine import StepEngine
from inference_benchmark.model.decoder import Decoder, Forward


class EagerEngine(StepEngine):
    def compile(self, decoder: Decoder) -> Forward:
        return Forward(decoder, self.plan.kernels, **self.forward_options)
