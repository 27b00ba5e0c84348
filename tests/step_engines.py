"""Engines over a decoder, without a session."""

from inference_benchmark.engines import ENGINES
from inference_benchmark.engines.base import EnginePlan, Resources
from inference_benchmark.engines.step_engine import StepEngine
from inference_benchmark.model.kernel_choice import KernelConfig


def make_engine(
    name: str,
    decoder,
    batch_size: int,
    input_length: int,
    cache_length: int,
    kernels: KernelConfig | None = None,
    **options,
) -> StepEngine:
    """The engine of that name; options as in EnginePlan."""
    plan = EnginePlan(
        batch_size, input_length, cache_length, kernels=kernels or KernelConfig(), **options
    )
    return ENGINES[name].load()(plan, Resources(decoder))
