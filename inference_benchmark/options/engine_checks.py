"""What was asked of the engines, held against what each of them can do. No torch."""

import shutil
from collections.abc import Sequence

from inference_benchmark.engines import ENGINES, PLAIN
from inference_benchmark.engines.base import MAX_CAPTURED_PROMPT_TOKENS
from inference_benchmark.engines.spec import (
    GRAPH_COMPILE_MODES,
    ModeSpec,
    check_compile_mode,
    parse_options,
    unknown,
)
from inference_benchmark.errors import CannotRun, RequestError
from inference_benchmark.model.checkpoint_config import gguf_file
from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.families import FAMILIES
from inference_benchmark.model.implementation import Implementation
from inference_benchmark.model.weight_format import BASE_TYPES
from inference_benchmark.options import parts
from inference_benchmark.options.checks import given_flags
from inference_benchmark.options.flag import option
from inference_benchmark.workloads import WORKLOADS


def check_executors(arguments) -> None:
    """Every flag that is given has to do something."""
    flag = "--thunder-executors"
    parse_options(arguments.thunder_options)
    takers = tuple(entry.name for entry in ENGINES.values() if entry.takes_executors)
    taking = [text for text in arguments.mode if text.startswith(takers)]
    if arguments.thunder_executors and not taking:
        raise RequestError(f"{flag} needs --mode {' or '.join(takers)}")
    if arguments.thunder_options and not taking:
        raise RequestError(f"--thunder-options needs --mode {' or '.join(takers)}")
    if arguments.thunder_executors and all(":" in text for text in taking):
        raise RequestError(f"'{taking[0]}' names its own executors: leave out {flag}")


def check_own_loops(
    arguments, specs: list[ModeSpec], model: ModelConfig, ranks: int, device: str
) -> dict[str, str]:
    """What engines with a loop of their own can't do; returns the Python of those that have one."""
    with_own_loop = [spec for spec in specs if spec.engine.has_own_loop]
    given = given_flags(arguments) & {"cuda_graphs", "attention", "linear"}
    if given and len(with_own_loop) == len(specs):
        name = sorted(given)[0]
        raise RequestError(
            f"{option(name)} does nothing for {with_own_loop[0].label}, whose loop is its own"
        )
    for spec in with_own_loop:
        if WORKLOADS[arguments.workload].reads_prompt_only:
            raise RequestError(f"mode '{spec.label}' generates: leave out --workload")
        if WORKLOADS[arguments.workload].has_depths:
            raise RequestError(f"mode '{spec.label}' can't fill its cache: leave out --depth")
        if arguments.sampling == "multinomial":
            raise RequestError(
                f"mode '{spec.label}' takes the most likely token only: leave out --sampling "
                "multinomial"
            )
        if arguments.extrapolate is not None:
            raise RequestError(
                f"--extrapolate needs engines that share one set of weights; '{spec.label}' has a "
                "copy: use --num-layers"
            )
        if ranks > 1:
            raise CannotRun(f"mode '{spec.label}' runs on one GPU here, not on {ranks} ranks")
        most = spec.engine.max_batch_size
        if most is not None and max(arguments.batch_size) > most:
            raise CannotRun(f"mode '{spec.label}' runs batch {most} only: --batch-size {most}")
        if arguments.precision not in BASE_TYPES:
            raise CannotRun(
                f"mode '{spec.label}' takes weights in {', '.join(BASE_TYPES)}, not in "
                f"{arguments.precision}"
            )
        on_cpu = spec.engine.cpu_precision
        if device == "cpu" and on_cpu not in (None, arguments.precision):
            raise CannotRun(f"mode '{spec.label}' needs --precision {on_cpu} on a CPU")
        if spec.takes_file:
            _check_file(spec, arguments)
        is_ours = spec.engine.needs_weights and not model.is_foreign
        if is_ours and FAMILIES[model.family].write is None:
            names = ", ".join(name for name, family in FAMILIES.items() if family.write)
            raise CannotRun(
                f"mode '{spec.label}' can't be given the weights of {model.name}: of {names} it can"
            )
    pythons = dict(arguments.engine_python)
    in_workers = [spec.name for spec in with_own_loop if spec.engine.in_worker]
    if "engine_timeout" in given_flags(arguments) and not in_workers:
        raise RequestError("--engine-timeout does nothing: no mode runs in a process of its own")
    for name, path in pythons.items():
        if name not in in_workers:
            known = [entry.name for entry in ENGINES.values() if entry.in_worker]
            if name not in known:
                raise unknown("engine of --engine-python", name, known)
            raise RequestError(f"--engine-python {name}={path} does nothing without --mode {name}")
        if shutil.which(path) is None:
            raise CannotRun(f"--engine-python {name}={path}: there is no such program")
    return pythons


def _check_file(spec: ModeSpec, arguments) -> None:
    """A file is read as it is, all of it."""
    path = arguments.model_path
    if path is None or gguf_file(path) is None:
        raise RequestError(
            f"mode '{spec.label}' reads a GGUF file as it is: --model-path FILE.gguf"
        )
    if arguments.num_layers is not None:
        raise RequestError(f"mode '{spec.label}' reads the whole file: leave out --num-layers")


def check_compile_flags(arguments, specs: list[ModeSpec]) -> None:
    takers = [entry.name for entry in ENGINES.values() if entry.takes_compile_mode]
    takes_mode = any(spec.engine.takes_compile_mode for spec in specs)
    if arguments.compile_mode != "default" and not takes_mode:
        raise RequestError(
            f"--compile-mode {arguments.compile_mode} needs --mode {' or '.join(takers)}"
        )
    compiled = [s for s in specs if not s.engine.is_plain and not s.engine.has_own_loop]
    if arguments.compile_scope == "step" and arguments.workload != "generation":
        raise RequestError("--compile-scope step needs --workload generation")
    if arguments.compile_scope == "step" and arguments.compile_mode in GRAPH_COMPILE_MODES:
        raise RequestError(
            f"--compile-mode {arguments.compile_mode} makes CUDA graphs, which can't hold a step "
            "that updates its inputs: leave out --compile-scope step"
        )
    if arguments.compile_scope != "layer" and not compiled:
        raise RequestError(
            f"--compile-scope {arguments.compile_scope} does nothing for {PLAIN.name}, "
            "which compiles none"
        )
    check_compile_mode(arguments.compile_mode, specs)


def check_captures(
    arguments,
    specs: list[ModeSpec],
    input_length: int,
    implementations: Sequence[Implementation],
) -> None:
    """--capture-prompts has to capture one."""
    if not arguments.capture_prompts:
        return
    if not any(spec.cuda_graphs and not spec.engine.has_own_loop for spec in specs):
        raise RequestError("--capture-prompts does nothing without CUDA graphs: NAME+graphs")
    sizes = [size for size in arguments.batch_size if isinstance(size, int)]
    tokens = min(sizes, default=1) * input_length
    if tokens > MAX_CAPTURED_PROMPT_TOKENS:
        raise RequestError(
            f"--capture-prompts is for up to {MAX_CAPTURED_PROMPT_TOKENS:,} tokens in all sequences, "
            f"not {tokens:,}: their kernels keep the GPU busy anyway"
        )
    if not all(implementation.is_default for implementation in implementations):
        raise RequestError(
            "--capture-prompts is of our build of a model: leave out --implementation"
        )


def check_kernels(arguments, specs: list[ModeSpec], model: ModelConfig, device: str) -> None:
    for flag, kernel in (("attention", "flash_decode"), ("linear", "gemv")):
        if getattr(arguments, flag) == kernel and device == "cpu":
            raise CannotRun(f"--{flag} {kernel} is a GPU kernel; leave it at auto on a CPU")
    if arguments.attention == "flash_decode" and not model.supports_flash_decode:
        raise CannotRun(
            f"--attention flash_decode can't serve the attention of {model.name}; leave it at auto"
        )
    if arguments.attention in ("matmul", "flex") and not model.caches_heads:
        raise CannotRun(
            f"--attention {arguments.attention} can't serve the attention of {model.name}; leave it "
            "at auto"
        )
    if arguments.attention == "flex":
        unfit = next((spec for spec in specs if not spec.engine.compiles_flex), None)
        if unfit is not None:
            takers = [entry.name for entry in ENGINES.values() if entry.compiles_flex]
            raise RequestError(
                f"--attention flex needs a compiler that fuses it ({', '.join(takers)}), which "
                f"'{unfit.label}' is not"
            )
    with_ours = next((spec for spec in specs if spec.kernels), None)
    if with_ours and (arguments.attention, arguments.linear) == ("sdpa", "torch"):
        raise RequestError(
            f"--attention sdpa --linear torch leave nothing of mode '{with_ours.label}': "
            "leave out +kernels"
        )
    entry = WORKLOADS[arguments.workload]
    is_forward = entry.reads_prompt_only
    if entry.is_part:
        is_forward = not parts.has_kernels(arguments)
    if with_ours and is_forward and not model.num_experts:
        raise RequestError(
            f"mode '{with_ours.label}': --workload {arguments.workload} of {model.name} has no "
            "kernel of this project; leave out +kernels"
        )
