"""The command line: its flags, and the request they resolve to. Imports no torch."""

import argparse
import os
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from architectures.checkpoint_config import CheckpointError, read_model
from errors import CannotRun, RequestError
from models import MODELS, ModelConfig, Precision
from modes import MODES
from modes.spec import (
    COMPILE_MODES,
    EXECUTORS,
    GRAPH_COMPILE_MODES,
    ModeSpec,
    check_compile_mode,
    check_packages,
    parse_executors,
    parse_mode,
    unknown,
)
from scenarios import SCENARIOS

_DEFAULT_MODEL = {"cuda": "llama3.1-8b", "cpu": "llama-tiny"}
_FEW_LAYERS = 4

_EXAMPLES = """examples:
  python benchmark_inference.py --scenario chat
  python benchmark_inference.py --scenario chat --mode thunder inductor eager
  python benchmark_inference.py --model-name llama3.1-405b --num-layers 8
  for mode in thunder inductor eager; do
    python benchmark_inference.py --scenario chat --mode $mode --save-results
  done; python compare_results.py results/*.json

exit codes:
  0 measured                       2 the request was wrong, nothing ran
  1 a gate failed: wrong output,   3 it could not run here
    a cell that failed, --strict   130 interrupted: what was measured is saved"""


class ExitCode(IntEnum):
    MEASURED = 0
    GATE_FAILED = 1
    BAD_REQUEST = 2  # argparse's own
    CANNOT_RUN = 3
    INTERRUPTED = 130


@dataclass(frozen=True)
class Request:
    """Everything that was asked for, resolved and checked."""

    model: ModelConfig
    scenario: str | None
    input_length: int
    output_length: int
    batch_sizes: tuple[int, ...]
    precision: str
    seed: int
    device: str
    specs: tuple[ModeSpec, ...]
    baseline: str | None
    attention: str
    linear: str
    compile_mode: str
    compile_scope: str
    num_iterations: int | None
    warmup_iterations: int | None
    target_ci: float | None
    max_seconds: float | None
    gpu_price: float | None
    gpu_bandwidth: float | None  # bytes/s
    gpu_peak: float | None  # FLOP/s
    measure_ceilings: bool
    save_results: bool
    output_dir: Path
    json: bool
    quiet: bool
    strict: bool
    force: bool
    profile: bool
    explain: bool
    notices: tuple[str, ...] = ()
    model_path: Path | None = None  # random weights without
    tensor_parallel: int = 1
    all_reduce: str = "auto"

    @property
    def cache_length(self) -> int:
        return self.input_length + self.output_length

    @property
    def share(self) -> ModelConfig:
        """What one rank holds and computes; the whole model where there is one only."""
        return self.model.sharded(self.tensor_parallel)

    def precision_of(self, spec: ModeSpec) -> Precision:
        return Precision.of(self.precision, spec.linear_precision)


def _positive_int(text: str) -> int:
    value = int(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {value}")
    return value


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, not {value}")
    return value


def _positive_float(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be over 0, not {text}")
    return value


# argparse names a type by its function where the text is no number at all.
_positive_int.__name__ = _natural.__name__ = "whole number"
_positive_float.__name__ = "number"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmark_inference.py",
        usage="%(prog)s [OPTIONS]",
        description="Time LLM inference, prefill and decode, in several ways of executing a model.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_model_flags(parser.add_argument_group("model"))
    _add_scenario_flags(parser.add_argument_group("scenario"))
    _add_execution_flags(parser.add_argument_group("execution"))
    _add_benchmark_flags(parser.add_argument_group("benchmark"))
    _add_hardware_flags(parser.add_argument_group("limits and cost"))
    _add_output_flags(parser.add_argument_group("output"))
    return parser


def _add_model_flags(group) -> None:
    group.add_argument(
        "--model-name",
        metavar="NAME",
        help=f"one of {', '.join(MODELS)} (default: llama3.1-8b; llama-tiny without a GPU)",
    )
    group.add_argument(
        "--model-path",
        type=Path,
        metavar="DIR",
        help="weights from a Hugging Face folder of safetensors files (default: random weights)",
    )
    group.add_argument(
        "--precision", choices=("bf16", "fp16", "fp32"), default="bf16", help="default: bf16"
    )
    group.add_argument(
        "--num-layers", type=_positive_int, metavar="N", help="build only N layers (default: all)"
    )
    group.add_argument(
        "--seed", type=_natural, default=0, metavar="N", help="of weights and prompts (default: 0)"
    )


def _add_scenario_flags(group) -> None:
    group.add_argument(
        "--scenario",
        metavar="NAME",
        help=f"one of {', '.join(SCENARIOS)}; sets both lengths",
    )
    group.add_argument("--list-scenarios", action="store_true", help="print the table and exit")
    group.add_argument(
        "--batch-size",
        type=_positive_int,
        nargs="+",
        default=[1],
        metavar="N",
        help="sequences at once; several make several cells (default: 1)",
    )
    group.add_argument(
        "--input-length", type=_positive_int, metavar="N", help="prompt tokens (default: 2048)"
    )
    group.add_argument(
        "--output-length", type=_positive_int, metavar="N", help="generated tokens (default: 128)"
    )


def _add_execution_flags(group) -> None:
    group.add_argument(
        "--mode",
        nargs="+",
        default=["thunder"],
        metavar="MODE",
        help=f"NAME[:EXECUTORS][+graphs|+nographs], NAME one of {', '.join(MODES)}; several are "
        "measured in turn (default: thunder)",
    )
    group.add_argument(
        "--thunder-executors",
        default="",
        metavar="LIST",
        help=f"comma-separated, of {', '.join(EXECUTORS)} (default: thunder's own choice)",
    )
    group.add_argument(
        "--compile-mode",
        choices=COMPILE_MODES,
        default="default",
        help="torch.compile's mode, for inductor (default: default)",
    )
    group.add_argument(
        "--compile-scope",
        choices=("layer", "model"),
        default="layer",
        help="compile one layer and reuse it, or the whole model (default: layer)",
    )
    group.add_argument(
        "--cuda-graphs",
        choices=("auto", "on", "off"),
        default="auto",
        help="capture the decode step; auto: on for thunder and inductor, off for eager "
        "(default: auto)",
    )
    group.add_argument(
        "--attention",
        choices=("auto", "sdpa", "flash_decode"),
        default="auto",
        help="of a decode step; auto: sdpa in plain eager and on a CPU, else flash_decode, our "
        "kernel (default: auto)",
    )
    group.add_argument(
        "--linear",
        choices=("auto", "torch", "gemv"),
        default="auto",
        help="of a decode step at batch 1, and of few tokens' experts; auto: torch in plain eager "
        "and on a CPU, else gemv, our kernels (default: auto)",
    )
    group.add_argument(
        "--all-reduce",
        choices=("auto", "nccl", "one_shot"),
        default="auto",
        help="of a decode step on several GPUs (start with torchrun); one_shot: PyTorch's kernel "
        "for small messages; auto: nccl in plain eager, else one_shot where it works "
        "(default: auto)",
    )
    group.add_argument(
        "--device", choices=("auto", "cuda", "cpu"), default="auto", help="default: auto"
    )


def _add_benchmark_flags(group) -> None:
    group.add_argument(
        "--num-iterations",
        type=_positive_int,
        metavar="N",
        help="exactly N timed runs (default: 10 to 100, until the interval is narrow)",
    )
    group.add_argument(
        "--warmup-iterations",
        type=_natural,
        metavar="N",
        help="exactly N warm-up runs (default: up to 10, until two runs agree)",
    )
    group.add_argument(
        "--target-ci",
        type=_positive_float,
        metavar="X",
        help="stop at this relative half-width of the 95%% interval (default: 0.01)",
    )
    group.add_argument(
        "--max-seconds",
        type=_positive_float,
        metavar="S",
        help="stop after S seconds of timed runs (default: 600; 60 on a CPU)",
    )
    group.add_argument(
        "--baseline",
        metavar="MODE",
        help="what speed-ups refer to (default: eager at the same graph setting)",
    )
    group.add_argument("--strict", action="store_true", help="exit 1 unless every result is valid")
    group.add_argument(
        "--force", action="store_true", help="try although the memory seems not to suffice"
    )
    group.add_argument(
        "--profile", action="store_true", help="write a Chrome trace per cell, print its kernels"
    )
    group.add_argument(
        "--explain", action="store_true", help="print where the time goes, by kind of kernel"
    )


def _add_hardware_flags(group) -> None:
    group.add_argument("--gpu-price", type=_positive_float, metavar="USD", help="per GPU and hour")
    group.add_argument(
        "--gpu-bandwidth", type=_positive_float, metavar="TB/s", help="memory bandwidth"
    )
    group.add_argument(
        "--gpu-peak", type=_positive_float, metavar="TFLOP/s", help="dense peak of the precision"
    )
    group.add_argument(
        "--measure-ceilings",
        action="store_true",
        help="measure bandwidth and peak on the spot and take these as limits",
    )


def _add_output_flags(group) -> None:
    group.add_argument("--save-results", action="store_true", help="write a JSON file")
    group.add_argument(
        "--output-dir",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="where to (default: ./results)",
    )
    group.add_argument(
        "--json",
        action="store_true",
        help="the result as the last line of stdout, tables to stderr",
    )
    group.add_argument("--quiet", action="store_true", help="no card, no progress")


def resolve(arguments: argparse.Namespace) -> Request:
    """Check everything that can be known before a model is built.

    Raises:
        RequestError: the request is wrong.
        CannotRun: a package, a GPU or a writable directory is missing.
    """
    executors = parse_executors(arguments.thunder_executors)
    for text in arguments.mode:
        parse_mode(text, executors, "auto", "cuda")
    if executors and not any(text.startswith("thunder") for text in arguments.mode):
        raise RequestError("--thunder-executors needs --mode thunder")
    scenario, input_length, output_length, notices = _lengths(arguments)
    _check_model_name(arguments.model_name)
    _check_output_dir(arguments)
    if arguments.num_iterations and (arguments.target_ci or arguments.max_seconds):
        raise RequestError("--num-iterations fixes the runs: leave out --target-ci, --max-seconds")
    device = _find_device(arguments.device)
    model, model_notices = _model(arguments, device)
    _check_context(model, input_length, output_length)
    specs = [parse_mode(text, executors, arguments.cuda_graphs, device) for text in arguments.mode]
    specs, baseline = _with_baseline(specs, arguments, device)
    check_compile_mode(arguments.compile_mode, specs)
    for spec in specs:
        check_packages(spec, device)
    _check_kernels(arguments, model, device)
    ranks = _num_ranks()
    notices += _check_ranks(arguments, model, device, ranks)
    _check_linear_precision(specs, model)
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
        baseline = parse_mode(arguments.baseline, (), arguments.cuda_graphs, device)
        return specs + [baseline] * (baseline not in specs), baseline.label
    if len(specs) > 1:
        for graphs in dict.fromkeys(spec.cuda_graphs for spec in specs):
            eager = ModeSpec("eager", (), graphs)
            specs += [eager] * (eager not in specs)
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
    try:
        model.sharded(ranks)
    except ValueError as error:
        raise RequestError(f"{ranks} ranks: {error}") from None
    if ranks == 1 and arguments.all_reduce != "auto":
        return ["--all-reduce is ignored: there is one rank only, torchrun starts several"]
    return []


def _check_linear_precision(specs: list[ModeSpec], model: ModelConfig) -> None:
    """FP8 replaces linear layers; experts and latent attention are products of other kinds."""
    quantised = [spec.label for spec in specs if spec.linear_precision]
    if quantised and not model.is_plain:
        raise CannotRun(
            f"mode '{quantised[0]}' would leave the experts and the attention of {model.name} "
            "unquantised: FP8 is for dense models"
        )
