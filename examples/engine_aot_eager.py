"""An engine in one file: torch.compile that traces and differentiates nothing, kernel by kernel.

    python examples/engine_aot_eager.py --mode aot_eager eager --model-name llama-tiny

It shares the session's weights, so it says only how a forward is compiled; steps, CUDA graphs and
what the output check looks at come with `StepEngine`. An engine that brings its own weights builds
on `Engine` (engines/base.py) and says so in its capabilities. In the project itself this is a file
in inference_benchmark/engines and an entry of the table in engines/__init__.py.
"""

import torch

from inference_benchmark.engines import EngineEntry, register
from inference_benchmark.engines.step_engine import StepEngine
from inference_benchmark.model.decoder import Forward


class AotEagerEngine(StepEngine):
    def compile(self, decoder):
        """(tokens, position, caches) -> (logits, next token, *choices), as Forward gives it."""
        return Forward(decoder, self.plan.kernels, self._compile, **self.forward_options)

    def _compile(self, function):
        return torch.compile(function, backend="aot_eager", fullgraph=True, dynamic=False)

    def compile_count(self) -> int:
        return torch._dynamo.utils.counters["stats"]["unique_graphs"]


register(
    EngineEntry(
        "aot_eager",
        f"{__name__}:AotEagerEngine",
        "torch.compile's tracer without its code generator",
        graphs_by_default=False,
    )
)

if __name__ == "__main__":
    from inference_benchmark.benchmark_inference import run_program

    run_program()
