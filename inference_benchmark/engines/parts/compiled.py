"""The feed-forward network and the whole layer, by the engines that execute models.

Each compiles the part alone, with the kernels that its mode uses.
"""

from inference_benchmark.engines.base import EnginePlan, Resources
from inference_benchmark.engines.parts.problems import FeedForwardProblem, LayerProblem
from inference_benchmark.engines.parts.step import Step, inner_engine


def feed_forward(problem: FeedForwardProblem, plan: EnginePlan, resources: Resources) -> Step:
    engine = inner_engine(plan.mode, plan, resources)
    function = engine.compile_function(problem.function(plan.kernels))
    hidden, *weights = problem.tensors().values()
    weights = tuple(weights)
    return Step(lambda: function(hidden, weights, None), engine)


def layer(problem: LayerProblem, plan: EnginePlan, resources: Resources) -> Step:
    engine = inner_engine(plan.mode, plan, resources)
    function = engine.run_decoder.layer_functions[0]
    arguments = problem.arguments(problem.tensors())
    return Step(lambda: function(*arguments), engine)
