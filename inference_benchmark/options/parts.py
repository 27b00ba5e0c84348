"""What a request for a part of a layer resolves to: lengths, implementations, iterations. No torch."""

import importlib.util
from argparse import Namespace

from inference_benchmark.engines.parts import IMPLEMENTATIONS, Implementation
from inference_benchmark.errors import CannotRun, RequestError
from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.kernel_choice import FEW_ROWS
from inference_benchmark.model.layer_part import FEED_FORWARDS, LayerPart
from inference_benchmark.model.weight_format import BASE_TYPES
from inference_benchmark.options.checks import given_flags

DEFAULT_MODEL = {"cuda": "llama2-7b", "cpu": "llama-tiny"}
_LENGTHS = {"cuda": (512, 1024, 2048, 4096), "cpu": (128, 256)}
# Of the kernels that a flag chooses those that a part does not have.
_IDLE = {"attention": frozenset({"attention", "linear"}), "ffn": frozenset({"attention"})}
_ITERATIONS = {"cuda": 100, "cpu": 10}
_WARMUP_ITERATIONS = {"cuda": 10, "cpu": 2}


def check_part(arguments: Namespace, ranks: int) -> None:
    """What can be refused before there is a device or a model.

    Raises:
        RequestError: a flag that would do nothing, or a combination that makes no sense.
    """
    if arguments.decode and arguments.backward:
        raise RequestError("--decode and --backward exclude each other: a step has no gradients")
    for flag in given_flags(arguments) & _IDLE.get(arguments.workload, frozenset()):
        raise RequestError(f"--{flag} does nothing for --workload {arguments.workload}")
    if arguments.workload != "ffn" and arguments.feed_forward is not None:
        raise RequestError("--feed-forward needs --workload ffn")
    if _takes_one_token(arguments) and arguments.sequence_lengths:
        raise RequestError(
            "--sequence-lengths does nothing for --workload ffn --decode: a feed-forward network "
            "does not see the context"
        )
    if arguments.precision not in BASE_TYPES:
        raise RequestError(
            f"--workload {arguments.workload} knows --precision {', '.join(BASE_TYPES)}"
        )
    if ranks > 1:
        raise RequestError(
            f"--workload {arguments.workload} runs on one GPU: start it without torchrun"
        )


def _takes_one_token(arguments: Namespace) -> bool:
    return arguments.workload == "ffn" and arguments.decode


def lengths(arguments: Namespace, device: str) -> tuple[int, ...]:
    if _takes_one_token(arguments):
        return (1,)
    return tuple(dict.fromkeys(arguments.sequence_lengths or _LENGTHS[device]))


def check_model(arguments: Namespace, model: ModelConfig, sizes: tuple[int, ...]) -> None:
    """Raise CannotRun where the model has no such part."""
    part = _part(arguments, max(sizes))
    problem = part.unsupported(model)
    if problem is not None:
        raise CannotRun(problem)


def _part(arguments: Namespace, length: int) -> LayerPart:
    feed_forward = arguments.feed_forward or FEED_FORWARDS[0]
    return LayerPart(arguments.workload, length, arguments.decode, arguments.backward, feed_forward)


def usable(arguments: Namespace, model: ModelConfig, device: str) -> tuple[str, ...]:
    """The implementations that are timed where none is named: those that can serve and are there,
    and with this project's kernels where these have something to do."""
    part = _part(arguments, 1)
    modes = [
        entry.name
        for entry in IMPLEMENTATIONS[arguments.workload].values()
        if entry.refusal(part, arguments.precision, device) is None
        and entry.suits(model, part)
        and all(map(importlib.util.find_spec, entry.packages))
    ]
    entries = IMPLEMENTATIONS[arguments.workload]
    if device == "cpu" or not has_kernels(arguments) or not model.supports_flash_decode:
        return tuple(modes)
    return (*modes, *(f"{name}+kernels" for name in modes if entries[name].takes_kernels))


def has_kernels(arguments: Namespace) -> bool:
    """Whether this project's kernels do something in this part of a dense model: of a feed-forward
    network where a step has few tokens."""
    if arguments.backward:
        return False
    if arguments.workload == "layer":
        return True
    sizes = [size if isinstance(size, int) else 1 for size in arguments.batch_size]  # of a sweep
    return arguments.decode and min(sizes) <= FEW_ROWS


def check_implementation(arguments: Namespace, entry: Implementation, device: str) -> None:
    """Raise CannotRun for one that was named and can't serve."""
    problem = entry.refusal(_part(arguments, 1), arguments.precision, device)
    if problem is not None:
        raise CannotRun(f"--mode {entry.name} {problem}")


def iterations(arguments: Namespace, device: str) -> dict[str, int]:
    """A fixed number, unless a precision or a time was asked for."""
    given = given_flags(arguments)
    defaults = {}
    if not given & {"num_iterations", "target_ci", "max_seconds"}:
        defaults["num_iterations"] = _ITERATIONS[device]
    if "warmup_iterations" not in given:
        defaults["warmup_iterations"] = _WARMUP_ITERATIONS[device]
    return defaults
