"""From a request to the cells of a session, with the kernels that each of them uses. No torch."""

from collections.abc import Collection

from inference_benchmark.engines.base import EnginePlan
from inference_benchmark.engines.spec import ModeSpec, parse_options
from inference_benchmark.model.config import ModelConfig, Precision
from inference_benchmark.model.implementation import Implementation
from inference_benchmark.model.kernel_choice import KernelConfig
from inference_benchmark.options.request import Request
from inference_benchmark.parallel.shared_sums import SHARED_SUMS
from inference_benchmark.session.plan import CellPlan
from inference_benchmark.workloads import WORKLOADS
from inference_benchmark.workloads.base import Workload


def make_workload(request: Request, length: int | None = None) -> Workload:
    """At this input length; None: the request's, the longest where there are several."""
    workload = WORKLOADS[request.workload].load()
    return workload.for_request(request, length or request.input_length)


def make_workloads(request: Request) -> list[Workload]:
    """At each length, and behind a context of each depth, that is asked for."""
    workloads = [make_workload(request, length) for length in request.input_lengths]
    if request.depth is None:
        return workloads
    return [workload.behind(depth) for workload in workloads for depth in request.depth]


def context_length(request: Request) -> int:
    """Positions that any engine of this request will need."""
    return max(
        max(workload.input_length, workload.cache_length) for workload in make_workloads(request)
    )


def plan_cells(
    request: Request, shared_sums: Collection[str] = SHARED_SUMS
) -> list[list[CellPlan]]:
    """The cells of each input length, batch size and context, one per mode and depth of the model.

    shared_sums: by which of these kernels the ranks can sum small messages.
    """
    return [
        [
            _plan_cell(request, workload, batch_size, spec, model, implementation, shared_sums)
            for implementation in request.implementations
            for spec in request.specs
            for model in request.measured_models
        ]
        for workload in make_workloads(request)
        for batch_size in request.batch_sizes
    ]


def _plan_cell(
    request: Request,
    workload: Workload,
    batch_size: int,
    spec: ModeSpec,
    model: ModelConfig,
    implementation: Implementation,
    shared_sums: Collection[str],
) -> CellPlan:
    kernels, choices = KernelConfig(), ()
    if implementation.is_default and workload.training is None:  # others have no such choice
        kernels = choose_kernels(request, spec, shared_sums)
        named = named_kernels(request.model, spec, request.device, request.tensor_parallel)
        choices = _choices(kernels, named, all_reduce_asked=request.all_reduce != "auto")
    options = _compile_options(request, spec)
    choices += tuple(f"{name}={value}".lower() for name, value in options)
    engine = EnginePlan(
        batch_size=batch_size,
        input_length=workload.input_length,
        cache_length=workload.cache_length,
        num_layers=model.num_layers,
        kernels=kernels,
        executors=spec.executors,
        compile_mode=request.compile_mode,
        compile_scope=request.compile_scope,
        compile_options=options,
        options=spec.options,
        python=dict(request.engine_python).get(spec.name),
        timeout_s=request.engine_timeout,
        ollama_url=request.ollama_url,
        mode=spec.name,
        part=workload.part,
        sampling=request.drawn,
        context_depth=workload.context_depth or 0,
        captures_prompts=request.capture_prompts,
        training=workload.training,
    )
    return CellPlan(
        spec=spec,
        workload=workload,
        model=model,
        precision=request.precision_of(spec),
        engine=engine,
        num_ranks=request.tensor_parallel,
        stored=request.stored_precisions,
        depth=None if request.extrapolation is None else f"{model.num_layers}L",
        choices=choices,
        device=request.device,
        implementation=implementation,
    )


def named_kernels(
    model: ModelConfig, spec: ModeSpec, device: str, num_ranks: int = 1
) -> KernelConfig:
    """What a mode's name stands for: PyTorch alone, or with +kernels ours, as far as they serve the
    model. Where an executor replaces PyTorch's linear layers, it has to find these."""
    all_reduce = _named_all_reduce(spec) if num_ranks > 1 else "none"
    if not spec.kernels:
        can_choose = device != "cpu" and model.caches_heads and not spec.is_plain
        attention = spec.engine.shipped_attention if can_choose else "sdpa"
        return KernelConfig(attention, all_reduce=all_reduce)
    return KernelConfig(
        attention="flash_decode" if model.supports_flash_decode else "sdpa",
        linear="gemv" if spec.weight_format is None else "torch",
        all_reduce=all_reduce,
    )


def _named_all_reduce(spec: ModeSpec) -> str:
    """Small messages by PyTorch's kernel or ours, in plain eager as PyTorch sums unasked."""
    if spec.is_plain:
        return "nccl"
    return "push" if spec.kernels else "one_shot"


def choose_kernels(
    request: Request, spec: ModeSpec, shared_sums: Collection[str] = SHARED_SUMS
) -> KernelConfig:
    """What the mode's name stands for, but for what --attention, --linear and --all-reduce ask.

    Experts, linear layers as well, follow the choice for these.
    The choice is the full model's at every depth: what is estimated has one set of kernels.
    """
    named = named_kernels(request.model, spec, request.device, request.tensor_parallel)
    linear = named.linear if request.linear == "auto" else request.linear
    return KernelConfig(
        named.attention if request.attention == "auto" else request.attention,
        linear,
        experts="fused" if linear == "gemv" else "grouped",
        all_reduce=_choose_all_reduce(request, named, shared_sums),
    )


def _compile_options(request: Request, spec: ModeSpec) -> tuple:
    return parse_options(request.thunder_options) if spec.engine.takes_executors else ()


def _choices(kernels: KernelConfig, named: KernelConfig, all_reduce_asked: bool) -> tuple[str, ...]:
    """Where the kernels are others than the mode's name says, for the label."""
    attention = () if kernels.attention == named.attention else (kernels.attention,)
    linear = "torch linear" if kernels.linear == "torch" else kernels.linear
    # Unasked it is the mode's, as far as this host and the precision allow.
    is_named = not all_reduce_asked or kernels.all_reduce == named.all_reduce
    all_reduce = () if is_named else (kernels.all_reduce,)
    return attention + (() if kernels.linear == named.linear else (linear,)) + all_reduce


def _choose_all_reduce(request: Request, named: KernelConfig, shared_sums: Collection[str]) -> str:
    """What was asked for; else what the mode names, where it does not work PyTorch's kernel or NCCL."""
    if request.tensor_parallel > 1 and request.all_reduce != "auto":
        return request.all_reduce
    name = named.all_reduce
    if name not in SHARED_SUMS:
        return name
    base = Precision.of(request.precision).base
    for candidate in dict.fromkeys((name, "one_shot")):
        if candidate in shared_sums and base in SHARED_SUMS[candidate]:
            return candidate
    return "nccl"
