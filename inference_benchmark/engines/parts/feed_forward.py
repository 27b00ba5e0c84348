"""Feed-forward networks of other packages."""

from torch.nn import functional as F

from inference_benchmark.engines.base import EnginePlan, Resources
from inference_benchmark.engines.parts.problems import FeedForwardProblem
from inference_benchmark.engines.parts.step import Step
from inference_benchmark.errors import CannotRun


def liger(problem: FeedForwardProblem, plan: EnginePlan, resources: Resources) -> Step:
    """As Liger's own module has it: two products, then activation and product in one kernel."""
    from liger_kernel.ops.swiglu import LigerSiLUMulFunction

    if problem.is_mixture:
        raise CannotRun("liger is timed for dense networks")
    hidden, gate_up, down = problem.tensors().values()

    def run():
        gate_weight, up_weight = gate_up.chunk(2)
        gate, up = F.linear(hidden, gate_weight), F.linear(hidden, up_weight)
        return F.linear(LigerSiLUMulFunction.apply(gate, up), down)

    return Step(run)
