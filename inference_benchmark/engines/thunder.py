"""lightning-thunder: the forward is traced to a program that executors claim piece by piece.

thunder.jit traces the pure function of a layer once for the prompt and once for a token and serves
all layers from those two traces; tracing a whole model costs seconds per layer. thunder turns
in-place updates into copies, so whatever updates the cache, and every kernel of ours, enters a trace
as one opaque operator.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version

from torch import nn

from inference_benchmark.engines.inductor import configure_inductor
from inference_benchmark.engines.spec import EXECUTORS
from inference_benchmark.engines.thunder_operators import OPERATORS, thunder
from inference_benchmark.engines.training_engine import TrainingEngine
from inference_benchmark.errors import CannotRun
from inference_benchmark.model.decoder import Decoder, DecodeStep, Forward

# Where one of these is asked for it gets PyTorch's attention to claim, with every head spelt out.
_ATTENTION_EXECUTORS = {"sdpa", "cudnn"}
_OWN_OPTIONS = {"cache", "sharp_edges"}


class ThunderEngine(TrainingEngine):
    capabilities = replace(
        TrainingEngine.capabilities, weight_formats=frozenset({"bf16", "fp16", "fp32", "fp8"})
    )

    def compile(self, decoder: Decoder) -> Callable:
        configure_inductor(self.plan)  # some of thunder's executors compile with it
        self._jitted: list[Callable] = []
        kernels, executors = self.plan.kernels, self.plan.executors
        further = self.forward_options
        if _ATTENTION_EXECUTORS & set(executors):
            kernels = replace(kernels, shared_heads=False, fills_cache=False)
        if self.plan.compile_scope == "model":
            return self._compile(Forward(decoder, kernels, **further))
        if self.plan.compile_scope == "step":  # prompts are compiled by layer
            self.run_step = self._compile(DecodeStep(Forward(decoder, kernels, **further)))
        per_layer = self._compile_layer if "transformerengine" in executors else None
        return Forward(decoder, kernels, self._compile, per_layer, **further)

    def compile_function(self, function: Callable) -> Callable:
        return self._compile(function)

    def compile_training(self, decoder: Decoder) -> Callable:
        """thunder's own autograd; its attention with gradients knows no shared heads."""
        configure_inductor(self.plan)
        self._jitted = []
        if "transformerengine" in self.plan.executors:
            _require_training_in_fp8()
        quantises = any(EXECUTORS[name].weight_format for name in self.plan.executors)
        forward = self.loss_forward(
            decoder, self._compile, shared_heads=False, transform_each=quantises
        )
        return _in_fp8(forward) if quantises else forward

    def compile_model(self, model: nn.Module) -> Callable:
        configure_inductor(self.plan)
        self._jitted = []
        return self._compile(model)

    def _compile(self, function: Callable) -> Callable:
        options = dict(self.plan.compile_options)
        if "dynamo" in self.plan.executors:
            from thunder.dynamo import thunderfx

            jitted = thunderfx(
                function, executors=self._executors(), fullgraph=True, dynamic=False, **options
            )
        else:
            transforms = self._transforms(function)
            jitted = thunder.jit(
                function, executors=self._executors(), transforms=transforms, **options
            )
        self._jitted.append(jitted)
        return jitted

    def _compile_layer(self, layer: nn.Module, function: Callable) -> Callable:
        """One trace per layer, of a module that owns its weights, so that a transform sees them."""
        jitted = self._compile(_LayerModule(layer, function))

        def call(update, residual, cos, sin, position, mask, weights, cache):
            return jitted(update, residual, cos, sin, position, mask, cache)

        return call

    def _executors(self) -> list:
        names = [self._name_of(name) for name in self.plan.executors]
        chosen = [thunder.get_executor(name) for name in names if name not in (None, "quant_te")]
        return [OPERATORS, *(chosen or thunder.get_default_executors())]

    def _name_of(self, executor: str) -> str | None:
        """As thunder has it."""
        entry = EXECUTORS[executor]
        trains = self.plan.training is not None
        return (trains and entry.training_name) or entry.thunder_name

    def _transforms(self, function: Callable) -> list:
        """What rewrites the trace; FP8 weights belong to modules, so functions have none."""
        infers = self.plan.training is None
        if (
            "transformerengine" in self.plan.executors
            and isinstance(function, nn.Module)
            and infers
        ):
            from thunder.transforms.te_inference import TEInference8BitTransform

            return [TEInference8BitTransform()]
        if "transformerengine_v2" in self.plan.executors:
            from thunder.executors.transformer_engineex import TransformerEngineTransform

            return [TransformerEngineTransform()]
        return []

    def _traces(self) -> list:
        """The final computation trace of everything that was traced so far."""
        return [
            entry.computation_traces[-1]
            for function in self._thunder_functions()
            for entry in thunder.compile_stats(function).interpreter_cache
        ]

    def _thunder_functions(self) -> list[Callable]:
        if "dynamo" not in self.plan.executors:
            return self._jitted
        return [
            function
            for jitted in self._jitted
            for subgraph in jitted._backend.subgraph_infos
            for function in subgraph.thunder_compiled_fns
        ]

    def compile_count(self) -> int:
        return sum(thunder.cache_misses(function) for function in self._thunder_functions())

    def compiler_stats(self) -> dict:
        operations, fusions = Counter(), Counter()
        for trace in self._traces():
            for bound in trace.bound_symbols:
                executor = getattr(bound.sym.executor, "name", None)
                if executor is not None:
                    (fusions if bound.sym.is_fusion else operations)[executor] += 1
        self._refuse_idle_executors(operations + fusions)
        self._refuse_idle_options()
        return {
            "executors": dict(operations + fusions),
            "fused_regions": sum(fusions.values()),
            "cache_misses": self.compile_count(),
        }

    def _refuse_idle_executors(self, used: Counter) -> None:
        for name in self.plan.executors:
            wanted = self._name_of(name)
            if wanted is not None and not used[wanted]:
                raise CannotRun(
                    f"executor '{name}' does nothing in this model's trace "
                    f"(used: {', '.join(sorted(used)) or 'none'}): timing it would mislabel the rest"
                )

    def _refuse_idle_options(self) -> None:
        """Options that thunder itself takes always count; the others are for executors to ask for."""
        asked = {
            name
            for function in self._thunder_functions()
            for name in thunder.compile_stats(function).last_compile_reasons
        }
        for name, _ in self.plan.compile_options:
            if name not in asked and name not in _OWN_OPTIONS:
                raise CannotRun(
                    f"--thunder-options {name} does nothing in this model's trace: no executor "
                    "asked for it"
                )


def _require_training_in_fp8() -> None:
    """This executor uses internals of Transformer Engine, and where they changed it claims nothing."""
    from thunder.executors import transformer_engine_v1ex

    if not transformer_engine_v1ex.TE_AVAILABLE:
        raise CannotRun(
            "executor 'transformerengine': this thunder trains with parts of Transformer Engine that "
            f"version {version('transformer_engine')} no longer has; transformerengine_v2 needs none"
        )


def _in_fp8(forward: Callable) -> Callable:
    """Scales are those of the steps before: one recipe for all steps, in tracing and afterwards."""
    from transformer_engine.common.recipe import DelayedScaling
    from transformer_engine.pytorch import fp8_autocast

    recipe = DelayedScaling()

    def in_fp8(tokens, targets):
        with fp8_autocast(enabled=True, fp8_recipe=recipe):
            return forward(tokens, targets)

    return in_fp8


class _LayerModule(nn.Module):
    """A layer's weights and its pure function as one module."""

    def __init__(self, layer: nn.Module, function: Callable) -> None:
        super().__init__()
        self.layer = layer
        self.function = function

    def forward(self, update, residual, cos, sin, position, mask, cache):
        weights = self.layer.weights()
        return self.function(update, residual, cos, sin, position, mask, weights, cache)
