"""torch.compile with the inductor backend: whole graphs, static shapes.

By default each type of layer is compiled once and reused for every layer, which costs seconds
instead of minutes; --compile-scope model compiles the forward as one graph, --compile-scope step a
decode step with all that it leaves for the next one.
"""

import logging
import warnings
from collections.abc import Callable
from dataclasses import replace

import torch
import torch._dynamo
import torch._inductor.config
from torch import nn

from inference_benchmark.engines.base import EnginePlan, Resources
from inference_benchmark.engines.training_engine import TrainingEngine
from inference_benchmark.model.decoder import Decoder, DecodeStep, Forward

# Dynamo counts compilations per code object. All types of layers, prompts and single tokens, and all
# batch sizes of a session share one.
_RECOMPILE_LIMIT = 256


def configure_inductor(plan: EnginePlan) -> None:
    """Settings of every engine that compiles with inductor; process-wide, as inductor has them, and
    in force until the next engine is opened, which is after this one's first calls."""
    torch._dynamo.config.recompile_limit = _RECOMPILE_LIMIT
    # Products of one row become reductions, which fuse with their neighbours and read the matrix
    # faster than the library's kernels, at the price of tuning each kernel's block sizes at start-up.
    # Where our kernels compute these products there is nothing to gain.
    decodes = plan.cache_length > 0
    torch._inductor.config.coordinate_descent_tuning = decodes and plan.kernels.linear == "torch"
    # Programmatic dependent launch (from Hopper on): a kernel is launched before its predecessor
    # has drained. Off by default in PyTorch.
    torch._inductor.config.triton.enable_pdl = True
    # This warning advises TF32, but routers are in fp32 on purpose, as published.
    warnings.filterwarnings("ignore", "TensorFloat32 tensor cores", UserWarning)
    # Without a GPU this logger warns that there is none.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


class InductorEngine(TrainingEngine):
    def __init__(self, plan: EnginePlan, resources: Resources) -> None:
        self._counts_before = _counts()
        super().__init__(plan, resources)

    def compile(self, decoder: Decoder) -> Callable:
        configure_inductor(self.plan)
        # Inductor fuses a prompt's rotation and cache write itself, and the host launches the
        # result in less time than a kernel of ours.
        kernels = replace(self.plan.kernels, fills_cache=False)
        further = self.forward_options
        if self.plan.compile_scope == "model":
            return self._compile(Forward(decoder, kernels, **further))
        if self.plan.compile_scope == "step":  # prompts are compiled by layer
            self.run_step = self._compile(DecodeStep(Forward(decoder, kernels, **further)))
        return Forward(decoder, kernels, self._compile, **further)

    def compile_function(self, function: Callable) -> Callable:
        return self._compile(function)

    def compile_training(self, decoder: Decoder) -> Callable:
        configure_inductor(self.plan)
        return self.loss_forward(decoder, self._compile)

    def compile_model(self, model: nn.Module) -> Callable:
        """What torch.compile can't trace of it stays eager, as wherever a user calls it."""
        configure_inductor(self.plan)
        return self._compile(model, fullgraph=False)

    def _compile(self, function: Callable, fullgraph: bool = True) -> Callable:
        training = self.plan.training
        # None: a shape that changes becomes a symbol at the second compilation.
        dynamic = None if training is not None and training.dynamic_shapes else False
        return torch.compile(
            function, fullgraph=fullgraph, dynamic=dynamic, mode=self.plan.compile_mode
        )

    def compile_count(self) -> int:
        return _counts()["graphs"]

    def compiler_stats(self) -> dict:
        """Counted since this engine was opened, so they are its own right after its first steps."""
        counts = {name: count - self._counts_before[name] for name, count in _counts().items()}
        settings = torch._inductor.config
        return counts | {
            "programmatic_launch": settings.triton.enable_pdl,
            "coordinate_descent_tuning": settings.coordinate_descent_tuning,
        }


def _counts() -> dict[str, int]:
    """Dynamo's and inductor's counters of this process."""
    inductor = torch._dynamo.utils.counters["inductor"]
    return {
        "graphs": torch._dynamo.utils.counters["stats"]["unique_graphs"],
        "disk_cache_hits": inductor["fxgraph_cache_hit"],
        "disk_cache_misses": inductor["fxgraph_cache_miss"],
    }
