"""torch.compile with the inductor backend: whole graphs, static shapes.

By default each kind of layer is compiled once and reused for every layer, which costs seconds
instead of minutes; --compile-scope model compiles the forward as one graph.
"""

import torch
import torch._dynamo

from architectures.decoder import Decoder, Forward
from modes import base


class Mode(base.Mode):
    def __init__(self, decoder: Decoder, options: base.ModeOptions) -> None:
        self.options = options
        base.allow_recompilations()
        if options.compile_scope == "layer":
            self.forward = Forward(decoder, options.attention, transform=self._compile)
        else:
            self.forward = self._compile(Forward(decoder, options.attention))

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
            "disk_cache_hits": inductor["fxgraph_cache_hit"],
            "disk_cache_misses": inductor["fxgraph_cache_miss"],
        }
