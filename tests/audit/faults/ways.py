"""How faults are put into an engine, and what several of them do."""

import copy
from collections.abc import Callable

import torch

from inference_benchmark.engines.step_engine import StepEngine


def around_steps(engine: StepEngine, change: Callable, prompts: bool = False) -> None:
    """change(forward, tokens, position, caches) instead of the forward of single tokens."""
    forward = engine.run_decoder

    def changed(tokens, position, caches, *rest):
        if tokens.shape[1] > 1 and not prompts:
            return forward(tokens, position, caches, *rest)
        return change(forward, tokens, position, caches)

    engine.run_decoder = changed


def with_other_weights(engine: StepEngine, change: Callable) -> None:
    """change(decoder) alters a copy of the weights, which the engine then uses."""
    forward = engine.run_decoder
    with torch.no_grad():
        other = copy.deepcopy(forward.decoder)
        change(other)
    forward.decoder = other
    if not hasattr(forward, "layer_functions"):
        raise TypeError("a forward that is compiled as a whole keeps its weights")


def at(position: torch.Tensor, where: int) -> torch.Tensor:
    return position == where


def blend(is_wrong: torch.Tensor, wrong: torch.Tensor, right: torch.Tensor) -> None:
    """right becomes wrong where it is so, in place."""
    right.copy_(torch.where(is_wrong, wrong, right))


def int8(weight: torch.Tensor) -> torch.Tensor:
    """Rounded to 8 bits with one scale per row."""
    scale = weight.float().abs().amax(dim=-1, keepdim=True).clamp(min=1e-12) / 127
    return ((weight.float() / scale).round() * scale).to(weight.dtype)


def fp8(values: torch.Tensor) -> torch.Tensor:
    return values.to(torch.float8_e4m3fn).to(values.dtype)
