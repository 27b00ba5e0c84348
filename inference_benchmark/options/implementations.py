"""Which implementations of a model a request names, and when these can't be had. Imports no torch."""

from argparse import Namespace
from collections.abc import Sequence

from inference_benchmark.engines.spec import ModeSpec
from inference_benchmark.errors import CannotRun, RequestError
from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.implementation import (
    Implementation,
    PlainConfig,
    named_apart,
    parse,
)
from inference_benchmark.model.weight_format import BASE_TYPES


def resolve_implementations(
    arguments: Namespace, model: ModelConfig, specs: Sequence[ModeSpec], ranks: int
) -> tuple[Implementation, ...]:
    """
    Raises:
        RequestError, CannotRun: there is no such file, or what they are to do they can't.
    """
    try:
        implementations = [parse(text) for text in dict.fromkeys(arguments.implementation)]
    except ValueError as error:
        raise RequestError(f"--implementation: {error}") from None
    others = [
        implementation.name for implementation in implementations if not implementation.is_default
    ]
    if others:
        _refuse(arguments, model, specs, ranks, others[0])
    return tuple(named_apart(implementations))


def _refuse(
    arguments: Namespace, model: ModelConfig, specs: Sequence[ModeSpec], ranks: int, name: str
) -> None:
    flag = f"--implementation {name}"
    try:
        PlainConfig.of(model)
    except ValueError as error:
        raise CannotRun(f"{flag}: {error}") from None
    if ranks > 1:
        raise RequestError(f"{flag} is for one GPU: start it without torchrun")
    if arguments.precision not in BASE_TYPES:
        raise RequestError(f"{flag} needs --precision {', '.join(BASE_TYPES)}")
    if arguments.extrapolate is not None:
        raise RequestError(f"{flag} and --extrapolate exclude each other: use --num-layers")
    if getattr(arguments, "activation_checkpointing", False):
        raise RequestError(f"--activation-checkpointing is of our layers; leave it out with {flag}")
    if arguments.compile_scope == "step":
        raise RequestError(f"{flag} is compiled whole: leave out --compile-scope step")
    if arguments.sampling == "multinomial":
        raise RequestError(f"{flag} decodes greedily: leave out --sampling multinomial")
    ours = [
        spec.label
        for spec in specs
        if spec.kernels or spec.weight_format or spec.engine.has_own_loop
    ]
    if ours:
        raise RequestError(f"{flag}: {ours[0]} has a build of its own or of this project only")
