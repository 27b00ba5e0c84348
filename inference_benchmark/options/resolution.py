"""From flags to a request: what they resolve to, and everything that can be refused before a model
is built. Imports no torch, but to look for a GPU.
"""

from argparse import Namespace

from inference_benchmark.engines import ENGINES
from inference_benchmark.engines.spec import (
    GRAPH_COMPILE_MODES,
    ModeSpec,
    baseline_at,
    check_packages,
    parse_executors,
    parse_mode,
    unknown,
)
from inference_benchmark.errors import CannotRun, RequestError
from inference_benchmark.options import parts, values
from inference_benchmark.options.accuracy_text import read_accuracy_text
from inference_benchmark.options.checks import check_combination, given_flags, ignored_notices
from inference_benchmark.options.destination import check_directory, check_file
from inference_benchmark.options.engine_checks import (
    check_captures,
    check_compile_flags,
    check_executors,
    check_kernels,
    check_own_loops,
)
from inference_benchmark.options.flag import flags_of, option
from inference_benchmark.options.flags import Flags
from inference_benchmark.options.implementations import resolve_implementations
from inference_benchmark.options.launch import num_ranks
from inference_benchmark.options.model_choice import (
    check_context,
    check_model_name,
    check_ranks,
    choose_depths,
    choose_model,
)
from inference_benchmark.options.plots_package import check_plots_package
from inference_benchmark.options.question import check_flags, check_question, read_question
from inference_benchmark.options.request import Request
from inference_benchmark.options.servers import check_servers
from inference_benchmark.options.training import resolve_training
from inference_benchmark.options.weight_formats import (
    check_format_packages,
    check_weight_formats,
    in_formats,
)
from inference_benchmark.options.workloads import by_workload
from inference_benchmark.scenarios import SCENARIOS
from inference_benchmark.system.address_space import TORCH_BYTES, check_address_space
from inference_benchmark.workloads import WORKLOADS


def resolve(arguments: Namespace) -> Request:
    """Check everything that can be known before a model is built, of one workload.

    Raises:
        RequestError: the request is wrong.
        CannotRun: a package, a GPU or a writable directory is missing.
    """
    (arguments,) = by_workload(arguments)
    check_combination(arguments)
    check_flags(arguments)
    _add_cells_of_flags(arguments)
    executors = parse_executors(arguments.thunder_executors)
    is_part = WORKLOADS[arguments.workload].is_part
    names_modes = not is_part or "mode" in given_flags(arguments)
    for text in arguments.mode if names_modes else ():
        parse_mode(text, executors, "auto", "cuda", arguments.workload)
    check_executors(arguments)
    arguments.workload = _workload(arguments)
    scenario, input_length, output_length = _lengths(arguments)
    check_model_name(arguments.model_name)
    ranks = num_ranks()
    if is_part:
        parts.check_part(arguments, ranks)
    _check_output(arguments)
    check_address_space(TORCH_BYTES, "torch")
    device = _find_device(arguments.device)
    if is_part:
        arguments.sequence_lengths = parts.lengths(arguments, device)
        input_length = max(arguments.sequence_lengths)
    model, notices = choose_model(arguments, device)
    question = read_question(arguments, model)
    if question is not None:
        input_length, output_length = len(question.ids), question.max_new_tokens
    if is_part:
        parts.check_model(arguments, model.one_layer(), arguments.sequence_lengths)
        if not names_modes:
            arguments.mode = parts.usable(arguments, model.one_layer(), device)
    extrapolation = choose_depths(arguments, model)
    if values.SWEEP in arguments.batch_size and len(arguments.batch_size) > 1:
        raise RequestError("--batch-size sweep chooses the sizes itself: give no others beside it")
    depths = None if arguments.depth is None else tuple(dict.fromkeys(arguments.depth))
    check_context(model, max(depths or (0,)), input_length, output_length)
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
    check_compile_flags(arguments, specs)
    check_captures(arguments, specs, input_length, implementations)
    check_kernels(arguments, specs, model, device)
    notices = check_ranks(arguments, model, device, ranks) + notices
    notices += ignored_notices(arguments, device)
    check_weight_formats(specs, arguments.precision, model, ranks)
    specs, baseline = in_formats(specs, asked, baseline, arguments, model)
    check_question(arguments, question, specs, model, ranks)
    pythons = check_own_loops(arguments, specs, model, ranks, device)
    for spec in specs:  # last: nothing is installed for what would be refused then
        if is_part:
            parts.check_implementation(arguments, spec.engine, device)
        check_packages(spec, device, pythons.get(spec.name))
    check_format_packages(arguments, model, ranks, device)
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
        read_text=read_accuracy_text(arguments, model),
    )


def _add_cells_of_flags(arguments) -> None:
    """Modes that flags of their own ask for join those of --mode, or stand alone without it."""
    entries = [entry for entry in ENGINES.values() if entry.flags]
    asked = [entry for entry in entries if all(getattr(arguments, name) for name in entry.flags)]
    if not asked:
        return
    named = arguments.mode if "mode" in given_flags(arguments) else ()
    arguments.mode = (*named, *(entry.name for entry in asked))
    shared = [entry.name for entry in asked if len(entry.flags) > 1]
    if shared and arguments.baseline is None:
        (arguments.baseline,) = shared


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
            default = baseline_at(graphs, kernels, arguments.workload)
            specs += [default] * (default not in specs)
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
