"""--nvtx: names for what the host enqueues, so that Nsight shows prefill, steps and layers.

A range costs the host about a microsecond, and spans what is enqueued inside it; Nsight projects it
on the kernels. A step that was captured in a CUDA graph is one launch: its layers show in an uncaptured
prefill only. A forward that is compiled whole has no layers left to be marked.
"""

from collections.abc import Callable

import torch

from inference_benchmark.engines.base import Engine, Resources
from inference_benchmark.model.decoder import Forward
from inference_benchmark.session.plan import CellPlan

_STEPS = ("prefill", "decode", "forward")

OpenEngine = Callable[[CellPlan, Resources], Engine]


def marked(open_engine: OpenEngine) -> OpenEngine:
    """Opens engines whose steps and layers are inside NVTX ranges."""

    def open_marked(plan: CellPlan, resources: Resources) -> Engine:
        engine = open_engine(plan, resources)
        for name in _STEPS:
            if name in engine.capabilities.steps:
                setattr(engine, name, within(f"{plan.label}: {name}", getattr(engine, name)))
        decoder = getattr(engine, "run_decoder", None)
        if isinstance(decoder, Forward):
            decoder.layer_functions = [
                within(f"layer {number}", function)
                for number, function in enumerate(decoder.layer_functions)
            ]
        return engine

    return open_marked


def within(name: str, function: Callable) -> Callable:
    """The function inside a range of that name, which ends where it raises too."""

    def in_range(*arguments, **options):
        torch.cuda.nvtx.range_push(name)
        try:
            return function(*arguments, **options)
        finally:
            torch.cuda.nvtx.range_pop()

    return in_range
