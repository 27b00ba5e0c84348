"""The flags of benchmark_inference.py, each declared in one place. Imports no torch.

A new flag is one entry of this table: --help, the parser, the checks against other flags, the
request, the configuration in the result file and the comparison's fields follow from it.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

from inference_benchmark import __version__
from inference_benchmark.engines import shown
from inference_benchmark.engines.spec import COMPILE_MODES, EXECUTORS
from inference_benchmark.model.layer_part import FEED_FORWARDS
from inference_benchmark.model.training_config import MIXED_PRECISION, OPTIMIZERS
from inference_benchmark.model.weight_format import PRECISIONS, QUANTIZED
from inference_benchmark.models import MODELS
from inference_benchmark.options import values
from inference_benchmark.options.flag import add_flags, flag
from inference_benchmark.options.parser import Parser
from inference_benchmark.scenarios import SCENARIOS
from inference_benchmark.workloads import PARTS, WORKLOADS

_SETS_LENGTHS = "a scenario sets both lengths"
CACHE_STATES = ("cold", "warm")

_FIXES_RUNS = "it fixes the number of runs"
_HAS_LENGTHS = "a depth takes --input-length and --output-length"

_EPILOG = """what is printed:
  TTFT     time to the first token: one prefill of the whole prompt
  TBOT     time between output tokens: one decode step (vLLM's TPOT)
  limit    the share of what the hardware allows that was reached: the time that
           bytes over bandwidth or FLOPs over peak need, over the measured time
  verdict  valid, suspect or invalid: whether the number can be trusted, and why

examples:
  python benchmark_inference.py --scenario chat
  python benchmark_inference.py --scenario chat --mode thunder inductor eager
  python benchmark_inference.py --model-name llama3.1-405b --num-layers 8
  python benchmark_inference.py --model-name llama3.1-405b --extrapolate 4 8
  for mode in thunder inductor eager; do
    python benchmark_inference.py --scenario chat --mode $mode --save-results
  done; python compare_results.py results/*.json

exit codes:
  0 measured                       3 it could not run here
  1 a gate failed: wrong output,   4 measured, but result or report can't be
    a cell that failed, --strict     written
  2 the request was wrong          130, 143, 129  ended by Ctrl-C, SIGTERM or
                                     SIGHUP: what was measured is reported"""


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Each flag with its default; resolution.py turns what was given into a Request."""

    # model
    model_name: str | None = flag(
        "model",
        f"one of {', '.join(MODELS)} (default: llama3.1-8b; llama-tiny without a GPU)",
        metavar="NAME",
        role="work",
    )
    model_path: Path | None = flag(
        "model",
        "weights from a Hugging Face folder of safetensors files, or from a GGUF file "
        "(default: random weights)",
        parse=values.path,
        metavar="PATH",
        role="condition",
        not_for=PARTS,
    )
    precision: str = flag(
        "model",
        "default: bf16",
        choices=PRECISIONS,
        default="bf16",
        role="work",
    )
    quantize: tuple[str, ...] = flag(
        "model",
        f"store the layers' matrices in 8 or 4 bits: {', '.join(QUANTIZED)}; several, and none, are "
        "measured in turn (default: none)",
        parse=values.weight_format,
        nargs="+",
        default=("none",),
        metavar="FORMAT",
        excludes={"implementation": "only this project's model is stored so"},
        not_for=(*PARTS, "training"),
    )
    quantize_head: bool = flag(
        "model",
        "store the head in these formats too",
        default=False,
        needs="quantize",
        not_for=(*PARTS, "training"),
    )
    max_kl: float | None = flag(
        "model",
        "exit 1 where quantised weights move next-token distributions farther than X nats from the "
        "model's own, in the mean",
        parse=values.nats,
        metavar="X",
        needs="quantize",
        not_for=(*PARTS, "training"),
    )
    num_layers: int | None = flag(
        "model",
        "build only N layers (default: all)",
        parse=values.positive_int,
        metavar="N",
        role="work",
        not_for=PARTS,
    )
    extrapolate: tuple[int, ...] | None = flag(
        "model",
        "measure these two depths and estimate the full model, which need not fit "
        "(default depths: 4 8 where they will do)",
        parse=values.positive_int,
        nargs="*",
        metavar=("SMALL", "LARGE"),
        excludes={"num_layers": "an estimate is of the full model"},
        not_for=PARTS,
    )
    implementation: tuple[str, ...] = flag(
        "model",
        "whose build of the model, several are compared: default, transformers, or FILE.py:FUNCTION "
        "of your own (see examples/own_model.py)",
        nargs="+",
        default=("default",),
        metavar="BUILD",
        serves=("generation", "forward", "training"),
    )
    seed: int = flag(
        "model",
        "of weights and prompts (default: 0)",
        parse=values.seed,
        default=0,
        metavar="N",
        role="condition",
    )

    # workload
    workload: str = flag(
        "workload",
        "what is timed: the generation of tokens after a prompt, one forward pass over a whole "
        "input, without a cache, what --depth times, a training step, or a part of one layer "
        "(default: generation)",
        choices=tuple(WORKLOADS),
        default="generation",
        role="work",
    )
    scenario: str | None = flag(
        "workload",
        f"one of {', '.join(SCENARIOS)}; sets both lengths",
        metavar="NAME",
        role="record",
        excludes={"input_length": _SETS_LENGTHS, "output_length": _SETS_LENGTHS},
        not_for=PARTS,
    )
    list_scenarios: bool = flag("workload", "print the table and exit", default=False)
    batch_size: tuple[int | str, ...] = flag(
        "workload",
        "sequences at once; several make several cells; sweep: powers of two, up to what is predicted "
        "to fit (default: 1)",
        parse=values.batch_size,
        nargs="+",
        default=(1,),
        metavar="N",
    )
    depth: tuple[int, ...] | None = flag(
        "workload",
        "time further tokens behind contexts of N tokens, which fill the cache with random values: a "
        "prefill of 512 (or --input-length) and decode steps; several make several cells",
        parse=values.natural,
        nargs="+",
        metavar="N",
        excludes={"scenario": _HAS_LENGTHS},
    )
    input_length: int | None = flag(
        "workload",
        "prompt tokens (default: 2048; 512 with --depth)",
        parse=values.positive_int,
        metavar="N",
        role="work",
        not_for=PARTS,
    )
    output_length: int | None = flag(
        "workload",
        "generated tokens (default: 128)",
        parse=values.positive_int,
        metavar="N",
        role="work",
        not_for=PARTS,
    )
    sequence_lengths: tuple[int, ...] | None = flag(
        "workload",
        "of a part of a layer: tokens of the prompt, or slots of the cache with --decode (default: "
        "512 1024 2048 4096; 128 256 on a CPU)",
        parse=values.positive_int,
        nargs="+",
        metavar="N",
        role="record",  # cells differ in it, and hold their own
        serves=PARTS,
    )
    decode: bool = flag(
        "workload",
        "of a part of a layer: one token per sequence, with a cache, instead of a prompt",
        default=False,
        role="record",  # the workload's name in a result says so
        serves=PARTS,
    )
    backward: bool = flag(
        "workload",
        "of a part of a layer: gradients too",
        default=False,
        role="record",
        serves=PARTS,
    )
    feed_forward: str | None = flag(
        "workload",
        "of --workload ffn: the model's own, or the classic network of two matrices with four "
        "times the hidden size between them (default: swiglu)",
        choices=FEED_FORWARDS,
        role="record",
        serves=PARTS,
    )

    check_setup: bool = flag(
        "workload", "print what is installed and usable here, and exit", default=False
    )

    # a question
    prompt: str | None = flag(
        "a question",
        "print the answer of the model in --model-path to this text, as it comes, and its times",
        metavar="TEXT",
        needs="model_path",
    )
    max_new_tokens: int | None = flag(
        "a question",
        "the longest answer (default: 256, or what the context has room for)",
        parse=values.positive_int,
        metavar="N",
        needs="prompt",
    )
    timing: bool = flag("a question", "the time of each token", default=False, needs="prompt")

    # training
    optimizer: str | None = flag(
        "training",
        "of a training step; none: gradients only (default: adamw)",
        choices=OPTIMIZERS,
        role="work",
        serves=("training",),
    )
    mixed_precision: str | None = flag(
        "training",
        "of --precision bf16: weights in bf16 of which the optimizer keeps an fp32 copy, or "
        "fp32 weights under torch.autocast (default: master-weights)",
        choices=MIXED_PRECISION,
        role="condition",
        serves=("training",),
    )
    activation_checkpointing: bool | None = flag(
        "training",
        "keep a layer's inputs only, and compute it again in the backward",
        default=False,
        role="condition",
        serves=("training",),
    )
    dynamic_shapes: int | None = flag(
        "training",
        "a run makes a step at each of N lengths, a seeded list up to the input length, and "
        "recompilations count (default N: 16)",
        parse=values.positive_int,
        nargs="?",
        const=16,
        metavar="N",
        role="work",
        serves=("training",),
    )

    # execution
    mode: tuple[str, ...] = flag(
        "execution",
        f"NAME[:EXECUTORS][+graphs|+nographs][+kernels], NAME one of {', '.join(shown())}: as "
        "their makers ship them; +kernels: with this project's kernels; several are measured in "
        "turn (default: thunder)",
        nargs="+",
        default=("thunder",),
        metavar="MODE",
    )
    pytorch_base: bool = flag(
        "execution",
        "measure plain PyTorch in fp32 as the cell pytorch-base, beside what --mode names",
        default=False,
    )
    pytorch_optimised: bool = flag(
        "execution",
        "measure torch.compile in fp16 as the cell pytorch-optimised; with --pytorch-base also "
        "pytorch-fp16, against which both show what precision and compiling bring",
        default=False,
    )
    thunder_executors: str = flag(
        "execution",
        f"comma-separated, of {', '.join(EXECUTORS)} (default: thunder's own choice)",
        default="",
        metavar="LIST",
    )
    thunder_options: str = flag(
        "execution",
        "comma-separated NAME=VALUE that thunder.jit takes, such as nv_enable_linear=true "
        "(default: none)",
        default="",
        metavar="LIST",
        role="condition",
    )
    compile_mode: str = flag(
        "execution",
        f"torch.compile's mode, for inductor: {', '.join(COMPILE_MODES)} (default: default)",
        choices=COMPILE_MODES,
        metavar="MODE",
        default="default",
        role="condition",
    )
    compile_scope: str = flag(
        "execution",
        "compile one layer and reuse it, the whole model, or the whole decode step with the choice "
        "of the next token (default: layer)",
        choices=("layer", "model", "step"),
        default="layer",
        role="condition",
        not_for=PARTS,
    )
    sampling: str | None = flag(  # None: greedy, which older files do not name
        "execution",
        "of the next token: the most likely one, or one drawn from the distribution, seeded "
        "(default: greedy; multinomial for --prompt)",
        choices=("greedy", "multinomial"),
        role="condition",
        serves=("generation",),
    )
    temperature: float | None = flag(
        "execution",
        "of --sampling multinomial (default: 1), of the answer to --prompt (default: 0.85)",
        parse=values.temperature,
        metavar="T",
        role="condition",
        needs=("sampling", "prompt"),
    )
    top_k: int | None = flag(
        "execution",
        "of both: among the K most likely tokens (default: all)",
        parse=values.positive_int,
        metavar="K",
        role="condition",
        needs=("sampling", "prompt"),
    )
    cuda_graphs: str = flag(
        "execution",
        "capture the decode step; auto: on for thunder and inductor, off for eager (default: auto)",
        choices=("auto", "on", "off"),
        default="auto",
        not_for=PARTS,
    )
    attention: str = flag(
        "execution",
        "of a decode step; flash_decode: our kernel; the others are PyTorch's; auto: flash_decode "
        "in modes with +kernels, flex in inductor, sdpa in plain eager and on a CPU, else matmul "
        "(default: auto)",
        choices=("auto", "sdpa", "matmul", "flex", "flash_decode"),
        default="auto",
        role="condition",
    )
    linear: str = flag(
        "execution",
        "of a decode step at batch 1, and of few tokens' experts; auto: gemv, our kernels, in "
        "modes with +kernels, else torch (default: auto)",
        choices=("auto", "torch", "gemv"),
        default="auto",
        role="condition",
    )
    all_reduce: str | None = flag(
        "execution",
        "of a decode step on several GPUs (start with torchrun); one_shot: PyTorch's kernel "
        "for small messages; auto: nccl in plain eager, else one_shot where it works "
        "(default: auto)",
        choices=("auto", "nccl", "one_shot"),
        default="auto",
        role="condition",
    )
    engine_python: tuple[tuple[str, str], ...] = flag(
        "execution",
        "the Python that an engine in a process of its own runs in: vllm=/venv/bin/python "
        "(default: this one)",
        parse=values.engine_python,
        nargs="+",
        default=(),
        metavar="ENGINE=PATH",
    )
    ollama_url: str = flag(
        "execution",
        "Ollama's server, for mode ollama (default: http://127.0.0.1:11434)",
        parse=values.url,
        default="http://127.0.0.1:11434",
        metavar="URL",
    )
    device: str = flag(
        "execution",
        "default: auto",
        choices=("auto", "cuda", "cpu"),
        default="auto",
        role="record",
    )

    # benchmark
    num_iterations: int | None = flag(
        "benchmark",
        "exactly N timed runs (default: 10 to 100, until the interval is narrow)",
        parse=values.positive_int,
        metavar="N",
        role="record",
        excludes={"target_ci": _FIXES_RUNS, "max_seconds": _FIXES_RUNS},
    )
    warmup_iterations: int | None = flag(
        "benchmark",
        "exactly N warm-up runs (default: up to 10, until two runs agree)",
        parse=values.natural,
        metavar="N",
        role="condition",
    )
    target_ci: float | None = flag(
        "benchmark",
        "stop at this relative half-width of the 95%% interval (default: 0.01)",
        parse=values.share,
        metavar="X",
        role="record",
    )
    max_seconds: float | None = flag(
        "benchmark",
        "stop after S seconds of timed runs (default: 600; 30 on a CPU)",
        parse=values.seconds,
        metavar="S",
        role="record",
    )
    sweep: Path | None = flag(
        "benchmark",
        "make a session of each combination of the flags' values in FILE, and pass over what is in "
        "--output-dir already",
        parse=values.path,
        metavar="FILE.toml",
        excludes=dict.fromkeys(
            ("sessions", "cache_state", "output"), "a sweep's sessions have files of their own"
        ),
    )
    sessions: int = flag(
        "benchmark",
        "make N sessions, each a process of its own, and save them as one set (default: 1)",
        parse=values.positive_int,
        default=1,
        metavar="N",
    )
    cache_state: tuple[str, ...] | None = flag(
        "benchmark",
        "make a session with an empty compile cache (cold), one with a filled one (warm), or both, "
        "and show what each took to start",
        choices=CACHE_STATES,
        nargs="+",
        excludes={"sessions": "of several sessions only the first finds an empty cache"},
    )
    baseline: str | None = flag(
        "benchmark",
        "what speed-ups refer to (default: eager at the same graph setting)",
        metavar="MODE",
    )
    strict: bool = flag("benchmark", "exit 1 unless every result is valid", default=False)
    force: bool = flag("benchmark", "try although the memory seems not to suffice", default=False)
    profile: bool = flag(
        "benchmark",
        "write a Chrome trace per cell, print its kernels",
        default=False,
        ignored_on=("cpu",),
    )
    nvtx: bool = flag(
        "benchmark",
        "mark prefill, steps and layers for Nsight; a captured step shows as one",
        default=False,
        role="condition",
        ignored_on=("cpu",),
    )
    explain: bool = flag(
        "benchmark",
        "print where the time goes, by kind of kernel",
        default=False,
        ignored_on=("cpu",),
    )

    # limits and cost
    gpu_price: float | None = flag(
        "limits and cost",
        "per GPU and hour",
        parse=values.price,
        metavar="USD",
        ignored_on=("cpu",),
        not_for=PARTS,
    )
    gpu_bandwidth: float | None = flag(  # bytes/s
        "limits and cost",
        "memory bandwidth: 4.8TB/s, 3350GB/s; TB/s without a unit",
        parse=values.bandwidth,
        metavar="RATE",
    )
    gpu_peak: float | None = flag(  # FLOP/s
        "limits and cost",
        "dense peak of the precision: 989TFLOP/s; TFLOP/s without a unit",
        parse=values.peak,
        metavar="RATE",
    )
    measure_ceilings: bool = flag(
        "limits and cost",
        "measure bandwidth and peak on the spot and take these as limits",
        default=False,
        ignored_on=("cpu",),
    )

    # output
    details: bool = flag(
        "output", "print all tables: throughput, latency, memory, cold start", default=False
    )
    table: str = flag(
        "output",
        "engines: also what one asks of an engine: load, cold start, steady state, peak rates, "
        "memory, clock and check (default: summary)",
        choices=("summary", "engines"),
        default="summary",
    )
    format: str = flag(
        "output",
        "of the tables on stdout; json: the result as the last line, tables to stderr "
        "(default: table)",
        choices=("table", "markdown", "csv", "json"),
        default="table",
    )
    json: bool = flag("output", "the same as --format json", default=False)
    save_results: bool = flag("output", "write a JSON file, under a name of its own", default=False)
    save_prompts: bool = flag(
        "output",
        "write the token ids of all timed runs beside the JSON file, for another program",
        default=False,
        needs=("save_results", "output", "sessions", "sweep", "cache_state"),
    )
    output_dir: Path = flag(
        "output",
        "where to, traces included (default: ./results)",
        parse=values.path,
        default=Path("results"),
        metavar="DIR",
        needs=("save_results", "sessions", "profile", "report", "sweep", "cache_state"),
    )
    output: Path | None = flag(
        "output", "write the JSON file FILE", parse=values.path, metavar="FILE"
    )
    report: bool = flag(
        "output",
        "write a page with pictures of the results (HTML) at the end; needs matplotlib",
        default=False,
    )
    overwrite: bool = flag("output", "replace FILE if it exists", default=False, needs="output")
    quiet: bool = flag("output", "no card, no progress", default=False)


def make_parser() -> Parser:
    parser = Parser(
        prog="benchmark_inference.py",
        usage="%(prog)s [OPTIONS]",
        description="Time LLM inference, prefill and decode, in several ways of executing a model.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    add_flags(parser, Flags)
    return parser
