"""The model that was asked for, and whether it can be had at these lengths and on these ranks. No torch."""

from inference_benchmark.engines import ENGINES
from inference_benchmark.engines.spec import (
    unknown,
)
from inference_benchmark.errors import CannotRun, RequestError
from inference_benchmark.model.checkpoint_config import CheckpointError, UnknownModel, read_model
from inference_benchmark.model.config import ModelConfig, Precision
from inference_benchmark.model.extrapolation import Extrapolation, choose
from inference_benchmark.models import MODELS
from inference_benchmark.options import parts
from inference_benchmark.parallel.shared_sums import SHARED_SUMS
from inference_benchmark.workloads import WORKLOADS

_DEFAULT_MODEL = {"cuda": "llama3.1-8b", "cpu": "llama-tiny"}
_FEW_LAYERS = 4


def check_model_name(name: str | None) -> None:
    if name is not None and name not in MODELS:
        raise unknown("model", name, list(MODELS))


def choose_model(arguments, device: str) -> tuple[ModelConfig, list[str]]:
    full = _full_model(arguments, device)
    try:
        model = full.with_layers(arguments.num_layers)
    except ValueError as error:
        raise RequestError(f"--num-layers {arguments.num_layers}: {error}") from None
    notices = []
    if arguments.num_layers is not None and model.num_layers < _FEW_LAYERS:
        notices.append(
            f"--num-layers {model.num_layers}: under {_FEW_LAYERS} layers, embedding and head "
            "weigh more than in the full model"
        )
    return model, notices


def choose_depths(arguments, model: ModelConfig) -> Extrapolation | None:
    if arguments.extrapolate is None:
        return None
    return choose(model, tuple(arguments.extrapolate))


def _full_model(arguments, device: str) -> ModelConfig:
    named = None if arguments.model_name is None else MODELS[arguments.model_name]
    is_part = WORKLOADS[arguments.workload].is_part
    defaults = parts.DEFAULT_MODEL if is_part else _DEFAULT_MODEL
    if arguments.model_path is None:
        return named or MODELS[defaults[device]]
    try:
        return read_model(arguments.model_path, named)
    except UnknownModel as error:
        return _foreign_model(arguments, error)
    except CheckpointError as error:
        raise CannotRun(f"--model-path: {error}") from None


def _foreign_model(arguments, problem: UnknownModel) -> ModelConfig:
    """What the decoder can't be, for modes that bring the architecture themselves."""
    able = [entry.name for entry in ENGINES.values() if entry.runs_any_architecture]
    modes = [*arguments.mode, *filter(None, [arguments.baseline])]
    others = [text for text in modes if text.split("+")[0] not in able]
    if others:
        raise CannotRun(
            f"--model-path: {problem}; mode '{others[0]}' can't run it: --mode {', '.join(able)} "
            "alone may"
        )
    if arguments.model_name is not None:
        raise CannotRun(f"--model-path: {problem}; it is not {arguments.model_name}")
    if arguments.extrapolate is not None:
        raise RequestError(f"--extrapolate needs a model of ours: {problem}")
    if arguments.baseline is None and len(arguments.mode) > 1:
        arguments.baseline = arguments.mode[0]
    try:
        from inference_benchmark.model.foreign_config import read_foreign_model

        return read_foreign_model(arguments.model_path)
    except ImportError:
        raise CannotRun(
            f"--model-path: {problem}; transformers may run it: {ENGINES[able[0]].install}"
        ) from None
    except CheckpointError as error:
        raise CannotRun(f"--model-path: {error}") from None


def check_context(model: ModelConfig, depth: int, input_length: int, output_length: int) -> None:
    total = depth + input_length + output_length
    if total > model.context_length:
        behind = f"depth {depth} + " if depth else ""
        raise RequestError(
            f"{behind}{input_length} input + {output_length} output tokens = {total}, but "
            f"{model.name} has a context of {model.context_length}"
        )


def check_ranks(arguments, model: ModelConfig, device: str, ranks: int) -> list[str]:
    all_reduce, precision = arguments.all_reduce, Precision.of(arguments.precision).base
    known = SHARED_SUMS.get(all_reduce)
    if known and device == "cpu":
        raise CannotRun(f"--all-reduce {all_reduce} is a GPU kernel; leave it at auto on a CPU")
    if known and precision not in known:
        raise CannotRun(
            f"--all-reduce {all_reduce} knows {' and '.join(known)}; leave it at auto for {precision}"
        )
    problem = _undivided(model, ranks)
    if problem is not None:
        fewer = next(size for size in range(ranks - 1, 0, -1) if _undivided(model, size) is None)
        raise RequestError(f"{ranks} ranks: {problem}; {fewer} would do")
    if ranks == 1 and arguments.all_reduce != "auto":
        return ["--all-reduce is ignored: there is one rank only, torchrun starts several"]
    return []


def _undivided(model: ModelConfig, ranks: int) -> str | None:
    """What of the model can't be divided by so many ranks."""
    try:
        model.sharded(ranks)
    except ValueError as error:
        return str(error)
    return None
