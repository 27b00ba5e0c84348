"""Ways in which an engine can be wrong, each put into a StepEngine so that it acts in what is timed.

Most act on tensors alone, without a word from the host, so that they are captured in a CUDA graph
like everything else in a step. `listed` are those that an earlier check let pass.
"""

from audit.faults import caches, logits, steps, tokens, weights  # noqa: F401
from audit.faults.registry import FAULTS, Fault, injected

__all__ = ["FAULTS", "Fault", "injected"]
