"""What an implementation of a part gives: a function of the problem's tensors, ready to be called."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from inference_benchmark.engines import ENGINES
from inference_benchmark.engines.base import Engine, EnginePlan, Resources


@dataclass
class Step:
    """
    run: computes the part from the problem's tensors as they are; returns its output.
    engine: the engine that compiled it, whose compilations and facts count; None: none did.
    """

    run: Callable[[], Tensor | tuple[Tensor, ...]]
    engine: Engine | None = None


def inner_engine(mode: str, plan: EnginePlan, resources: Resources) -> Engine:
    """The engine of this mode for one layer without a cache, to compile with."""
    inner = replace(plan, cache_length=0, num_layers=1, compile_scope="layer")
    return ENGINES[mode].load()(inner, resources)
