"""From flags to a request: what they resolve to, and everything that can be refused before a model
is built. Imports no torch, but to look for a GPU.
"""

import resource
import shutil
from argparse import Namespace
from dataclasses import replace

from inference_benchmark.engines import ENGINES, PLAIN
from inference_benchmark.engines.spec import (
    GRAPH_COMPILE_MODES,
    ModeSpec,
    baseline_at,
    check_compile_mode,
    check_packages,
    parse_executors,
    parse_mode,
    parse_options,
    unknown,
)
from inference_benchmark.errors import CannotRun, RequestError
from inference_benchmark.model.checkpoint_config import CheckpointError, read_model
from inference_benchmark.model.config import ModelConfig
from inference_benchmark.model.extrapolation import Extrapolation, choose
from inference_benchmark.model.families import FAMILIES
from inference_benchmark.model.weight_format import BASE_TYPES
from inference_benchmark.models import MODELS
from inference_benchmark.options import parts, values
from inference_benchmark.options.checks import check_combination, given_flags, ignored_notices
from inference_benchmark.options.destination import check_directory, check_file
from inference_benchmark.options.flag import flags_of, option
from inference_benchmark.options.flags import Flags
from inference_benchmark.options.implementations import resolve_implementations
from inference_benchmark.options.launch import num_ranks
from inference_benchmark.options.plots_package import check_plots_package
from inference_benchmark.options.question import check_flags, check_question, read_question
from inference_benchmark.options.request import Request
from inference_benchmark.options.servers import check_servers
from inference_benchmark.options.training import resolve_training
from inference_benchmark.scenarios import SCENARIOS
from inference_benchmark.workloads import WORKLOADS

_DEFAULT_MODEL = {"cuda": "llama3.1-8b", "cpu": "llama-tiny"}
_FEW_LAYERS = 4
_TORCH_BYTES = 3.5e9  # of address space, measured with torch 2.11


def resolve(arguments: Namespace) -> Request:
    """Check everything that can be known before a model is built.

    Raises:
        RequestError: the request is wrong.
        CannotRun: a package, a GPU or a writable directory is missing.
    """
    check_combination(arguments)
    check_flags(arguments)
    _add_cells_of_flags(arguments)
    executors = parse_executors(arguments.thunder_executors)
    is_part = WORKLOADS[arguments.workload].is_part
    names_modes = not is_part or "mode" in given_flags(arguments)
    for text in arguments.mode if names_modes else ():
        parse_mode(text, executors, "auto", "cuda", arguments.workload)
    _check_executors(arguments)
    arguments.workload = _workload(arguments)
    scenario, input_length, output_length = _lengths(arguments)
    _check_model_name(arguments.model_name)
    ranks = num_ranks()
    if is_part:
        parts.check_part(arguments, ranks)
    _check_output(arguments)
    _check_address_space()
    device = _find_device(arguments.device)
    if is_part:
        arguments.sequence_lengths = parts.lengths(arguments, device)
        input_length = max(arguments.sequence_lengths)
    model, notices = _model(arguments, device)
    question = read_question(arguments, model)
    if question is not None:
        input_length, output_length = len(question.ids), question.max_new_tokens
    if is_part:
        parts.check_model(arguments, model.one_layer(), arguments.sequence_lengths)
        if not names_modes:
            arguments.mode = parts.usable(arguments, model.one_layer(), device)
    extrapolation = _extrapolation(arguments, model)
    if values.SWEEP in arguments.batch_size and len(arguments.batch_size) > 1:
        raise RequestError("--batch-size sweep chooses the sizes itself: give no others beside it")
    depths = None if arguments.depth is None else tuple(dict.fromkeys(arguments.depth))
    _check_context(model, max(depths or (0,)), input_length, output_length)
    if WORKLOADS[arguments.workload].trains and arguments.cuda_graphs == "auto":
        arguments.cuda_graphs = "off"
    specs = [
        parse_mode(text, executors, arguments.cuda_graphs, device, arguments.workload)
        for text in arguments.mode
    ]
    asked = tuple(specs)
    specs, baseline = _with_baseline(specs, arguments, device)
    implementations = resolve_implementations(arguments, model, specs, ranks)
    training = resolve_training(arguments, model, specs, ranks)
    _check_compile_flags(arguments, specs)
    _check_kernels(arguments, specs, model, device)
    notices = _check_ranks(arguments, model, device, ranks) + notices
    notices += ignored_notices(arguments, device)
    _check_weight_formats(specs, arguments.precision, model, ranks)
    specs, baseline = _in_formats(specs, asked, baseline, arguments, model)
    check_question(arguments, question, specs, model, ranks)
    pythons = _check_own_loops(arguments, specs, model, ranks)
    for spec in specs:  # last: nothing is installed for what would be refused then
        if is_part:
            parts.check_implementation(arguments, spec.engine, device)
        check_packages(spec, device, pythons.get(spec.name))
    check_servers(arguments, specs)
    as_given = {name: getattr(arguments, name) for name in flags_of(Flags)}
    resolved = {
        "model_name": model.name,
        "num_layers": model.num_layers,
        "scenario": scenario,
        "input_length": input_length,
        "output_length": output_length,
        "batch_size": tuple(dict.fromkeys(arguments.batch_size)),
        "depth": depths,
        "baseline": baseline,
        "quantize": tuple(dict.fromkeys(arguments.quantize)),
        "compile_scope": _compile_scope(arguments),
        "sampling": _sampling(arguments),
        "device": device,
        "json": arguments.format == "json",
    } | training
    if is_part:
        resolved |= parts.iterations(arguments, device)
    return Request(
        **(as_given | resolved),
        model=model,
        specs=tuple(specs),
        notices=tuple(notices),
        tensor_parallel=ranks,
        extrapolation=extrapolation,
        implementations=implementations,
        question=question,
    )


def _add_cells_of_flags(arguments) -> None:
    """Modes that flags of their own ask for join those of --mode, or stand alone without it."""
    entries = [entry for entry in ENGINES.values() if entry.flags]
    asked = [entry for entry in entries if all(getattr(arguments, name) for name in entry.flags)]
    if not asked:
        return
    given = arguments.mode if "mode" in given_flags(arguments) else ()
    arguments.mode = (*given, *(entry.name for entry in asked))
    shared = [entry.name for entry in asked if len(entry.flags) > 1]
    if shared and arguments.baseline is None:
        (arguments.baseline,) = shared


def _check_executors(arguments) -> None:
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


def _check_own_loops(
    arguments, specs: list[ModeSpec], model: ModelConfig, ranks: int
) -> dict[str, str]:
    """What engines with a loop of their own can't do; returns the Python of those that have one."""
    own = [spec for spec in specs if spec.engine.has_own_loop]
    given = given_flags(arguments) & {"cuda_graphs", "attention", "linear"}
    if given and len(own) == len(specs):
        name = sorted(given)[0]
        raise RequestError(f"{option(name)} does nothing for {own[0].label}, whose loop is its own")
    for spec in own:
        if WORKLOADS[arguments.workload].reads_prompt_only:
            raise RequestError(f"mode '{spec.label}' generates: leave out --workload")
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
        if spec.engine.needs_weights and FAMILIES[model.family].write is None:
            names = ", ".join(name for name, family in FAMILIES.items() if family.write)
            raise CannotRun(
                f"mode '{spec.label}' can't be given the weights of {model.name}: of {names} it can"
            )
    pythons = dict(arguments.engine_python)
    for name, path in pythons.items():
        if name not in [spec.name for spec in own if spec.engine.in_worker]:
            raise RequestError(
                f"--engine-python {name}={path}: no mode of that name runs in a process of its own"
            )
        if shutil.which(path) is None:
            raise CannotRun(f"--engine-python {name}={path}: there is no such program")
    return pythons


def _check_compile_flags(arguments, specs: list[ModeSpec]) -> None:
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


def _workload(arguments) -> str:
    """--depth chooses the workload that has depths, which needs it."""
    with_depths = [entry.name for entry in WORKLOADS.values() if entry.has_depths]
    if arguments.depth is None:
        if arguments.workload in with_depths:
            raise RequestError(f"--workload {arguments.workload} needs --depth 0 1024 ...")
        return arguments.workload
    if "workload" in given_flags(arguments) and arguments.workload not in with_depths:
        raise RequestError(f"--depth does nothing for --workload {arguments.workload}")
    return with_depths[0]


def _lengths(arguments) -> tuple[str | None, int, int]:
    """The scenario's name and both lengths; a forward pass puts nothing out (0)."""
    is_forward = WORKLOADS[arguments.workload].reads_prompt_only
    if is_forward and arguments.output_length is not None:
        raise RequestError(
            f"--workload {arguments.workload} generates nothing: leave out --output-length"
        )
    if is_forward and arguments.input_length == 1:
        raise RequestError(f"--workload {arguments.workload} needs --input-length 2 or more")
    if arguments.scenario is None:
        usual = WORKLOADS[arguments.workload].input_length
        name, input_length = None, arguments.input_length or usual
        output_length = arguments.output_length or 128
    elif arguments.scenario in SCENARIOS:
        scenario = SCENARIOS[arguments.scenario]
        name, input_length = scenario.name, scenario.input_length
        output_length = scenario.output_length
    else:
        raise unknown("scenario", arguments.scenario, list(SCENARIOS))
    return name, input_length, 0 if is_forward else output_length


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
    return choose(model, tuple(arguments.extrapolate))


def _full_model(arguments, device: str) -> ModelConfig:
    named = None if arguments.model_name is None else MODELS[arguments.model_name]
    is_part = WORKLOADS[arguments.workload].is_part
    defaults = parts.DEFAULT_MODEL if is_part else _DEFAULT_MODEL
    if arguments.model_path is None:
        return named or MODELS[defaults[device]]
    try:
        return read_model(arguments.model_path, named)
    except CheckpointError as error:
        raise CannotRun(f"--model-path: {error}") from None


def _check_context(model: ModelConfig, depth: int, input_length: int, output_length: int) -> None:
    total = depth + input_length + output_length
    if total > model.context_length:
        behind = f"depth {depth} + " if depth else ""
        raise RequestError(
            f"{behind}{input_length} input + {output_length} output tokens = {total}, but "
            f"{model.name} has a context of {model.context_length}"
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


def _check_address_space() -> None:
    """Before torch is loaded: what its libraries do without memory can't be caught."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < _TORCH_BYTES:
        raise CannotRun(
            f"ulimit -v leaves {limit / 1e9:.1f} GB of address space; torch alone needs about "
            f"{_TORCH_BYTES / 1e9:.1f} GB"
        )


def _with_baseline(
    specs: list[ModeSpec], arguments, device: str
) -> tuple[list[ModeSpec], str | None]:
    """Modes without repetition; the baseline joins them where modes are compared and it is missing.

    Returns None for the baseline's label where each cell is held against eager at its own setting:
    as shipped, and for modes with our kernels also with these.
    """
    specs = list(dict.fromkeys(specs))
    if arguments.baseline is not None:
        baseline = parse_mode(
            arguments.baseline, (), arguments.cuda_graphs, device, arguments.workload
        )
        return specs + [baseline] * (baseline not in specs), baseline.label
    if len(specs) > 1 and arguments.prompt is None:
        settings = {(spec.cuda_graphs, False): None for spec in specs}
        settings |= {(spec.cuda_graphs, True): None for spec in specs if spec.kernels}
        for graphs, kernels in settings:
            own = baseline_at(graphs, kernels, arguments.workload)
            specs += [own] * (own not in specs)
    return specs, None


def _check_output(arguments) -> None:
    """Where results go can be written, and nothing that is there is replaced unasked."""
    if arguments.json and arguments.format not in ("table", "json"):
        raise RequestError(f"--json and --format {arguments.format} exclude each other")
    if arguments.json:
        arguments.format = "json"
    if arguments.output is not None:
        check_file(arguments.output, arguments.overwrite)
    if arguments.report:
        check_plots_package()
    if arguments.save_results or arguments.profile or arguments.report:
        check_directory(arguments.output_dir, "--output-dir")


def _check_kernels(arguments, specs: list[ModeSpec], model: ModelConfig, device: str) -> None:
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


def _sampling(arguments) -> str | None:
    """None for the most likely token."""
    is_answer = arguments.prompt is not None and arguments.sampling is None
    if is_answer or arguments.sampling == "multinomial":
        return "multinomial"
    for name in ("temperature", "top_k"):
        if getattr(arguments, name) is not None:
            raise RequestError(f"{option(name)} needs --sampling multinomial")
    return None


def _compile_scope(arguments) -> str:
    """Compile modes with CUDA graphs of their own get the whole model: a graph per layer would
    overwrite what the layer before it handed over."""
    return "model" if arguments.compile_mode in GRAPH_COMPILE_MODES else arguments.compile_scope


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


def _in_formats(
    specs: list[ModeSpec],
    asked: tuple[ModeSpec, ...],
    baseline: str | None,
    arguments,
    model: ModelConfig,
) -> tuple[list[ModeSpec], str | None]:
    """Each mode that was asked for in each weight format; baselines that joined them as the model
    is, or in the first of the formats where it is not measured."""
    formats = tuple(dict.fromkeys(arguments.quantize))
    if formats == ("none",):
        for name in ("quantize_head", "max_kl"):
            if getattr(arguments, name):
                raise RequestError(f"{option(name)} does nothing without a format in --quantize")
        return specs, baseline
    _check_quantizable(specs, arguments, model)
    head = "+head" if arguments.quantize_head else ""
    stored = [None if name == "none" else f"{name}{head}" for name in formats]
    first = None if None in stored else stored[0]
    found = [
        replace(spec, quantize=name)
        for spec in specs
        for name in (stored if spec in asked else [first])
    ]
    if baseline is not None and first is not None:
        baseline = f"{baseline} {first}"
    return found, baseline


def _check_quantizable(specs: list[ModeSpec], arguments, model: ModelConfig) -> None:
    if "fp8-dynamic" in arguments.quantize and arguments.precision != "bf16":
        raise RequestError("--quantize fp8-dynamic needs --precision bf16; fp8 takes any")
    if arguments.precision not in BASE_TYPES:
        raise RequestError(
            f"--precision {arguments.precision} stores the weights in a format of its own: leave out "
            "--quantize, or take --precision bf16"
        )
    quantising = next((spec for spec in specs if spec.weight_format), None)
    if quantising is not None:
        raise RequestError(
            f"mode '{quantising.label}' quantises the weights itself: leave out --quantize"
        )
    foreign = next((spec for spec in specs if not spec.engine.takes_quantized), None)
    if foreign is not None:
        raise RequestError(
            f"mode '{foreign.label}' brings weights of its own, which --quantize does not reach"
        )
    if not model.is_plain:
        raise CannotRun(
            f"--quantize would leave the experts and the attention of {model.name} as they are: it "
            "is for dense models"
        )


def _undivided(model: ModelConfig, ranks: int) -> str | None:
    """What of the model can't be divided by so many ranks."""
    try:
        model.sharded(ranks)
    except ValueError as error:
        return str(error)
    return None


def _check_weight_formats(
    specs: list[ModeSpec], precision: str, model: ModelConfig, ranks: int
) -> None:
    """Quantised formats replace linear layers; experts and latent attention multiply otherwise."""
    quantised = [spec.label for spec in specs if spec.weight_format]
    if quantised and precision not in BASE_TYPES:
        raise RequestError(
            f"mode '{quantised[0]}' quantises the weights itself and can't start from {precision}: "
            f"--precision {', '.join(BASE_TYPES)}"
        )
    converting = [spec.label for spec in specs if spec.engine.precision is not None]
    if converting and (precision not in BASE_TYPES or ranks > 1):
        raise CannotRun(
            f"mode '{converting[0]}' converts weights of {', '.join(BASE_TYPES)} on one GPU alone"
        )
    if quantised and ranks > 1:
        raise CannotRun(f"mode '{quantised[0]}' quantises on one GPU only, not on {ranks} ranks")
    if precision not in BASE_TYPES:
        quantised.append(f"--precision {precision}")
    if quantised and not model.is_plain:
        raise CannotRun(
            f"'{quantised[0]}' would leave the experts and the attention of {model.name} "
            "unquantised: quantised weights are for dense models"
        )
