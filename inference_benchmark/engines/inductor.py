"""torch.compile with the inductor backend: whole graphs, static shapes.

By default each kind of layer is compiled once and reused for every layer, which costs seconds
instead of minutes; --compile-scope model compiles the forward as one graph.
"""

import warnings
from dataclasses import replace

import torch
import torch._dynamo
import torch._inductor.config

from inference_benchmark.engines import base
from inference_benchmark.model.decoder import Decoder, Forward

# Dynamo counts compilations per code object, which kinds of layers, prompt and token, and cells of
# several batch sizes share.
_RECOMPILE_LIMIT = 256


def configure_inductor() -> None:
    """Settings of every mode that compiles with inductor; process-wide, as inductor has them."""
    torch._dynamo.config.recompile_limit = _RECOMPILE_LIMIT
    # Kernels that are launched before their predecessor has drained, where the GPU can (from
    # Hopper on); off by default in PyTorch.
    torch._inductor.config.triton.enable_pdl = True
    # Routers are in fp32 on purpose, as published.
    warnings.filterwarnings("ignore", "TensorFloat32 tensor cores", UserWarning)


class Mode(base.Mode):
    def __init__(self, decoder: Decoder, options: base.ModeOptions) -> None:
        self.options = options
        configure_inductor()
        # Inductor fuses rotation and cache write of a prompt itself, and launches what it made
        # with less work of the host than a kernel of ours takes.
        kernels = replace(options.kernels, fills_cache=False)
        if options.compile_scope == "layer":
            self.forward = Forward(decoder, kernels, transform=self._compile)
        else:
            self.forward = self._compile(Forward(decoder, kernels))

    def _compile(self, function):
        return torch.compile(
            function, fullgraph=True, dynamic=False, mode=self.options.compile_mode
        )

    def compile_count(self) -> int:
        return torch._dynamo.utils.counters["stats"]["unique_graphs"]

    def details(self) -> dict:
        inductor = torch._dynamo.utils.counters["inductor"]
        return {
            "graphs": self.compile_count(),
            "programmatic_launch": torch._inductor.config.triton.enable_pdl,
            "disk_cache_hits": inductor["fxgraph_cache_hit"],
            "disk_cache_misses": inductor["fxgraph_cache_miss"],
        }
