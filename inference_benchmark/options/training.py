"""What of a request for training is refused, and what its flags resolve to. Imports no torch."""

from argparse import Namespace
from collections.abc import Sequence

from inference_benchmark.engines.spec import ModeSpec
from inference_benchmark.errors import CannotRun, RequestError
from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.training_config import MIXED_PRECISION, OPTIMIZERS
from inference_benchmark.workloads import WORKLOADS

_FLAGS = ("optimizer", "mixed_precision", "activation_checkpointing", "dynamic_shapes")
# Our kernels have no gradients.
_KERNELS = {"attention": "auto", "linear": "auto"}


def resolve_training(
    arguments: Namespace, model: ModelConfig, specs: Sequence[ModeSpec], ranks: int
) -> dict:
    """The values of training's own flags, all None for another workload.

    Raises:
        RequestError, CannotRun: what can't be trained, or not like this.
    """
    if not WORKLOADS[arguments.workload].trains:
        return dict.fromkeys(_FLAGS)
    _refuse(arguments, model, specs, ranks)
    is_mixed = arguments.precision != "fp32"
    return {
        "optimizer": arguments.optimizer or OPTIMIZERS[0],
        "mixed_precision": (arguments.mixed_precision or MIXED_PRECISION[0]) if is_mixed else None,
        "activation_checkpointing": arguments.activation_checkpointing,
        "dynamic_shapes": arguments.dynamic_shapes,
    }


def _refuse(
    arguments: Namespace, model: ModelConfig, specs: Sequence[ModeSpec], ranks: int
) -> None:
    flag = f"--workload {arguments.workload}"
    if ranks > 1:
        raise RequestError(f"{flag} is for one GPU: start it without torchrun")
    if model.num_experts is not None:
        raise CannotRun(f"{flag} is for dense models, not for the experts of {model.name}")
    if arguments.precision not in ("bf16", "fp32"):
        raise RequestError(f"{flag} knows --precision bf16 and fp32, not {arguments.precision}")
    if arguments.precision == "fp32" and arguments.mixed_precision is not None:
        raise RequestError("--mixed-precision does nothing with --precision fp32")
    if arguments.extrapolate is not None:
        raise RequestError("--extrapolate estimates no training steps: use --num-layers")
    if arguments.compile_scope not in ("layer", "model"):
        raise RequestError(f"--compile-scope {arguments.compile_scope} is not for {flag}")
    for name, default in _KERNELS.items():
        if getattr(arguments, name) != default:
            raise RequestError(f"--{name}: our kernels have no gradients; leave it out with {flag}")
    with_ours = [spec.label for spec in specs if spec.kernels]
    if with_ours:
        raise RequestError(f"{with_ours[0]}: our kernels have no gradients: leave out +kernels")
    captured = [spec.label for spec in specs if spec.cuda_graphs]
    if captured:
        raise RequestError(f"{flag} is not captured in a CUDA graph: leave out {captured[0]}")
