"""The command line's flags. Imports no torch."""

import argparse
from pathlib import Path

from inference_benchmark.engines import LISTED
from inference_benchmark.engines.spec import COMPILE_MODES, EXECUTORS
from inference_benchmark.models import MODELS
from inference_benchmark.options.parser import Parser
from inference_benchmark.scenarios import SCENARIOS
from inference_benchmark.workloads import WORKLOADS

_SEEDS = 2**32  # each run's own seed, a multiple, has to fit a generator of torch
_EXAMPLES = """examples:
  python benchmark_inference.py --scenario chat
  python benchmark_inference.py --scenario chat --mode thunder inductor eager
  python benchmark_inference.py --model-name llama3.1-405b --num-layers 8
  python benchmark_inference.py --model-name llama3.1-405b --extrapolate 4 8
  for mode in thunder inductor eager; do
    python benchmark_inference.py --scenario chat --mode $mode --save-results
  done; python compare_results.py results/*.json

exit codes:
  0 measured                       2 the request was wrong, nothing ran
  1 a gate failed: wrong output,   3 it could not run here
    a cell that failed, --strict   130 interrupted: what was measured is saved"""


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


def _seed(text: str) -> int:
    value = _natural(text)
    if value >= _SEEDS:
        raise argparse.ArgumentTypeError(f"must be below {_SEEDS}, not {value}")
    return value


# argparse names a type by its function where the text is no number at all.
_positive_int.__name__ = _natural.__name__ = _seed.__name__ = "whole number"
_positive_float.__name__ = "number"


def make_parser() -> Parser:
    parser = Parser(
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
        "--extrapolate",
        type=_positive_int,
        nargs="*",
        metavar=("SMALL", "LARGE"),
        help="measure these two depths and estimate the full model, which need not fit "
        "(default depths: 4 8 where they will do)",
    )
    group.add_argument(
        "--seed", type=_seed, default=0, metavar="N", help="of weights and prompts (default: 0)"
    )


def _add_scenario_flags(group) -> None:
    group.add_argument(
        "--scenario",
        metavar="NAME",
        help=f"one of {', '.join(SCENARIOS)}; sets both lengths",
    )
    group.add_argument("--list-scenarios", action="store_true", help="print the table and exit")
    group.add_argument(
        "--workload",
        choices=tuple(WORKLOADS),
        default="generation",
        help="generation: a prompt, then token by token; forward: one forward over "
        "--input-length tokens (default: generation)",
    )
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
        help=f"NAME[:EXECUTORS][+graphs|+nographs], NAME one of {', '.join(LISTED)}; several are "
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
