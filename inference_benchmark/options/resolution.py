"""From flags to a request: what they resolve to, and everything that can be refused before a model
is built. Imports no torch, but to look for a GPU.
"""

import os
from argparse import Namespace

from inference_benchmark.engines import ENGINES
from inference_benchmark.engines.spec import (
    GRAPH_COMPILE_MODES,
    ModeSpec,
    baseline_at,
    check_compile_mode,
    check_packages,
    parse_executors,
    parse_mode,
    unknown,
)
from inference_benchmark.errors import CannotRun, RequestError
from inference_benchmark.model.checkpoint_config import CheckpointError, read_model
from inference_benchmark.model.extrapolation import Extrapolation, choose
from inference_benchmark.models import MODELS, ModelConfig
from inference_benchmark.options.request import Request
from inference_benchmark.scenarios import SCENARIOS
from inference_benchmark.workloads import WORKLOADS

_DEFAULT_MODEL = {"cuda": "llama3.1-8b", "cpu": "llama-tiny"}
_FEW_LAYERS = 4


def resolve(arguments: Namespace) -> Request:
    """Check everything that can be known before a model is built.

    Raises:
        RequestError: the request is wrong.
        CannotRun: a package, a GPU or a writable directory is missing.
    """
    executors = parse_executors(arguments.thunder_executors)
    for text in arguments.mode:
        parse_mode(text, executors, "auto", "cuda")
    takers = [entry.name for entry in ENGINES.values() if entry.takes_executors]
    if executors and not any(text.startswith(tuple(takers)) for text in arguments.mode):
        raise RequestError("--thunder-executors needs --mode thunder")
    scenario, input_length, output_length, notices = _lengths(arguments)
    _check_model_name(arguments.model_name)
    _check_output_dir(arguments)
    if arguments.num_iterations and (arguments.target_ci or arguments.max_seconds):
        raise RequestError("--num-iterations fixes the runs: leave out --target-ci, --max-seconds")
    device = _find_device(arguments.device)
    model, model_notices = _model(arguments, device)
    extrapolation = _extrapolation(arguments, model)
    if WORKLOADS[arguments.workload].reads_prompt_only:
        if input_length < 2:
            raise RequestError(f"--workload {arguments.workload} needs --input-length 2 or more")
        output_length = 0
    _check_context(model, input_length, output_length)
    specs = [parse_mode(text, executors, arguments.cuda_graphs, device) for text in arguments.mode]
    specs, baseline = _with_baseline(specs, arguments, device)
    check_compile_mode(arguments.compile_mode, specs)
    _check_kernels(arguments, model, device)
    ranks = _num_ranks()
    notices += _check_ranks(arguments, model, device, ranks)
    notices += _ignored_without_gpu(arguments, device)
    _check_linear_precision(specs, model, ranks)
    for spec in specs:  # last: nothing is installed for what would be refused then
        check_packages(spec, device)
    return Request(
        model=model,
        scenario=scenario,
        input_length=input_length,
        output_length=output_length,
        batch_sizes=tuple(dict.fromkeys(arguments.batch_size)),
        precision=arguments.precision,
        seed=arguments.seed,
        device=device,
        specs=tuple(specs),
        baseline=baseline,
        attention=arguments.attention,
        linear=arguments.linear,
        compile_mode=arguments.compile_mode,
        compile_scope=_compile_scope(arguments),
        num_iterations=arguments.num_iterations,
        warmup_iterations=arguments.warmup_iterations,
        target_ci=arguments.target_ci,
        max_seconds=arguments.max_seconds,
        gpu_price=arguments.gpu_price,
        gpu_bandwidth=arguments.gpu_bandwidth and arguments.gpu_bandwidth * 1e12,
        gpu_peak=arguments.gpu_peak and arguments.gpu_peak * 1e12,
        measure_ceilings=arguments.measure_ceilings,
        save_results=arguments.save_results,
        output_dir=arguments.output_dir,
        json=arguments.json,
        quiet=arguments.quiet,
        strict=arguments.strict,
        force=arguments.force,
        profile=arguments.profile,
        explain=arguments.explain,
        notices=(*notices, *model_notices),
        model_path=arguments.model_path,
        tensor_parallel=ranks,
        all_reduce=arguments.all_reduce,
        extrapolation=extrapolation,
        workload=arguments.workload,
    )


def _lengths(arguments) -> tuple[str | None, int, int, list[str]]:
    if arguments.scenario is None:
        return None, arguments.input_length or 2048, arguments.output_length or 128, []
    if arguments.scenario not in SCENARIOS:
        raise unknown("scenario", arguments.scenario, list(SCENARIOS))
    scenario = SCENARIOS[arguments.scenario]
    notices = []
    if arguments.input_length or arguments.output_length:
        notices.append("--input-length and --output-length are ignored: --scenario sets both")
    return scenario.name, scenario.input_length, scenario.output_length, notices


def _check_model_name(name: str | None) -> None:
    if name is not None and name not in MODELS:
        raise unknown("model", name, list(MODELS))


def _model(arguments, device: str) -> tuple[ModelConfig, list[str]]:
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


def _extrapolation(arguments, model: ModelConfig) -> Extrapolation | None:
    if arguments.extrapolate is None:
        return None
    if arguments.num_layers is not None:
        raise RequestError(
            "--extrapolate and --num-layers exclude each other: an estimate is of the full model"
        )
    return choose(model, tuple(arguments.extrapolate))


def _full_model(arguments, device: str) -> ModelConfig:
    named = None if arguments.model_name is None else MODELS[arguments.model_name]
    if arguments.model_path is None:
        return named or MODELS[_DEFAULT_MODEL[device]]
    try:
        return read_model(arguments.model_path, named)
    except CheckpointError as error:
        raise CannotRun(f"--model-path: {error}") from None


def _check_context(model: ModelConfig, input_length: int, output_length: int) -> None:
    total = input_length + output_length
    if total > model.context_length:
        raise RequestError(
            f"{input_length} input + {output_length} output tokens = {total}, but {model.name} "
            f"has a context of {model.context_length}"
        )


def _find_device(wanted: str) -> str:
    if wanted == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        raise CannotRun("--device cuda: torch finds no CUDA GPU here; use --device cpu")
    return "cpu"


def _with_baseline(
    specs: list[ModeSpec], arguments, device: str
) -> tuple[list[ModeSpec], str | None]:
    """Modes without repetition; the baseline joins them where modes are compared and it is missing.

    Returns None for the baseline's label where each cell is held against eager at its own setting.
    """
    specs = list(dict.fromkeys(specs))
    if arguments.baseline is not None:
        asked = parse_mode(arguments.baseline, (), arguments.cuda_graphs, device)
        return specs + [asked] * (asked not in specs), asked.label
    if len(specs) > 1:
        for graphs in dict.fromkeys(spec.cuda_graphs for spec in specs):
            own = baseline_at(graphs)
            specs += [own] * (own not in specs)
    return specs, None


def _check_output_dir(arguments) -> None:
    if not (arguments.save_results or arguments.profile):
        return
    directory = arguments.output_dir
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CannotRun(f"--output-dir {directory} can't be written: {error.strerror}") from None


def _check_kernels(arguments, model: ModelConfig, device: str) -> None:
    for flag, kernel in (("attention", "flash_decode"), ("linear", "gemv")):
        if getattr(arguments, flag) == kernel and device == "cpu":
            raise CannotRun(f"--{flag} {kernel} is a GPU kernel; leave it at auto on a CPU")
    if arguments.attention == "flash_decode" and not model.supports_flash_decode:
        raise CannotRun(
            f"--attention flash_decode can't serve the attention of {model.name}; leave it at auto"
        )


def _ignored_without_gpu(arguments, device: str) -> list[str]:
    flags = ("profile", "explain", "measure_ceilings", "gpu_price")
    found = [f"--{flag.replace('_', '-')}" for flag in flags if getattr(arguments, flag)]
    if device == "cuda" or not found:
        return []
    verb = "is ignored: it needs" if len(found) == 1 else "are ignored: they need"
    return [f"{', '.join(found)} {verb} a CUDA GPU"]


def _compile_scope(arguments) -> str:
    """Compile modes with CUDA graphs of their own get the whole model: a graph per layer would
    overwrite what the layer before it handed over."""
    return "model" if arguments.compile_mode in GRAPH_COMPILE_MODES else arguments.compile_scope


def _num_ranks() -> int:
    """How many processes torchrun started for this session; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "RANK" in os.environ else 1


def _check_ranks(arguments, model: ModelConfig, device: str, ranks: int) -> list[str]:
    if arguments.all_reduce == "one_shot" and device == "cpu":
        raise CannotRun("--all-reduce one_shot is a GPU kernel; leave it at auto on a CPU")
    if arguments.all_reduce == "one_shot" and arguments.precision == "fp16":
        raise CannotRun("--all-reduce one_shot knows bf16 and fp32; leave it at auto for fp16")
    problem = _undivided(model, ranks)
    if problem is not None:
        fewer = next(each for each in range(ranks - 1, 0, -1) if _undivided(model, each) is None)
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


def _check_linear_precision(specs: list[ModeSpec], model: ModelConfig, ranks: int) -> None:
    """FP8 replaces linear layers; experts and latent attention are products of other kinds."""
    quantised = [spec.label for spec in specs if spec.linear_precision]
    if quantised and ranks > 1:
        raise CannotRun(f"mode '{quantised[0]}' quantises on one GPU only, not on {ranks} ranks")
    if quantised and not model.is_plain:
        raise CannotRun(
            f"mode '{quantised[0]}' would leave the experts and the attention of {model.name} "
            "unquantised: FP8 is for dense models"
        )
