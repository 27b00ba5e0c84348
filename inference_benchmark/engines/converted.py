"""PyTorch with weights of another type than the session's: what precision costs, what compiling brings.

`pytorch-base` is eager in fp32, `pytorch-fp16` eager in fp16, `pytorch-optimised` compiled in fp16.
Each converts the session's weights into a copy of its own, and is checked against the reference with
that copy.
"""

from dataclasses import replace
from typing import ClassVar

import torch

from inference_benchmark.engines.base import EnginePlan, Resources
from inference_benchmark.engines.eager import EagerEngine
from inference_benchmark.engines.inductor import InductorEngine
from inference_benchmark.engines.step_engine import StepEngine
from inference_benchmark.model.decoder import Decoder
from inference_benchmark.model.weights import empty_decoder


@torch.no_grad()
def converted(decoder: Decoder, precision: str) -> Decoder:
    """A copy of the decoder, its weights rounded to another base type."""
    weight = decoder.norm.weight
    copy = empty_decoder(decoder.config, precision, weight.device)
    for rounded, original in zip(copy.parameters(), decoder.parameters(), strict=True):
        rounded.copy_(original)
    copy.set_context_length(decoder.rope_cos.shape[0])
    return copy


class _Converted:
    precision: ClassVar[str]
    capabilities = replace(StepEngine.capabilities, takes_weights=True)

    def __init__(self, plan: EnginePlan, resources: Resources) -> None:
        decoder = resources.decoder
        if plan.num_layers is not None and plan.num_layers < decoder.config.num_layers:
            decoder = decoder.prefix(plan.num_layers)
        self.decoder = converted(decoder, self.precision)
        super().__init__(plan, replace(resources, decoder=self.decoder))

    def close(self) -> None:
        super().close()
        self.decoder = None


class Fp32Eager(_Converted, EagerEngine):
    precision = "fp32"


class Fp16Eager(_Converted, EagerEngine):
    precision = "fp16"


class Fp16Inductor(_Converted, InductorEngine):
    precision = "fp16"
