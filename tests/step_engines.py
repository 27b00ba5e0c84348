"""Engines over a decoder, without a session."""

import thunder_tracing

from inference_benchmark.engines import ENGINES
from inference_benchmark.engines.base import EnginePlan, Resources
from inference_benchmark.engines.step_engine import StepEngine
from inference_benchmark.model.kernel_choice import KernelConfig

_LEAVES_ALL = "fallback_by_default"  # from torch 2.10 on; before, code is generated always


def generate_code(wanted: bool) -> None:
    """Whether inductor generates C++ for a CPU, in this process and from here on.

    Where it does not, each operation stays a call of PyTorch's own kernel, and all that concerns
    this project runs as ever: one graph without breaks, opaque operators, updates in place,
    inductor's passes and its wrapper. The C++ of fused loops costs more than a second of CPU time
    per kernel, dozens of them per model, and no GPU ever sees it.
    """
    import torch._inductor.config  # which takes seconds to load, and is nothing to eager engines

    if hasattr(torch._inductor.config, _LEAVES_ALL):
        setattr(torch._inductor.config, _LEAVES_ALL, not wanted)


def make_engine(
    name: str,
    decoder,
    batch_size: int,
    input_length: int,
    cache_length: int,
    kernels: KernelConfig | None = None,
    generates_code: bool = False,
    **options,
) -> StepEngine:
    """The engine of that name; options as in EnginePlan.

    generates_code: see generate_code; on a GPU always.
    """
    plan = EnginePlan(
        batch_size, input_length, cache_length, kernels=kernels or KernelConfig(), **options
    )
    is_cuda = next(decoder.parameters()).is_cuda
    if name != "eager":
        generate_code(generates_code or is_cuda)
    if name == "thunder" and not is_cuda:
        thunder_tracing.shorten()
    return ENGINES[name].load()(plan, Resources(decoder))
