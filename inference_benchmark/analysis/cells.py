"""A cell's plan and record as the result file has them, before anything is judged. No torch."""

from inference_benchmark.analysis.estimates import errors_by_metric
from inference_benchmark.analysis.facts import SessionFacts
from inference_benchmark.session.memory import combine
from inference_benchmark.session.plan import CellPlan
from inference_benchmark.session.record import MeasuredCell
from inference_benchmark.system.gpu_summary import summarize_state


def cell_result(cell: MeasuredCell, facts: SessionFacts, with_state: bool = True) -> dict:
    """All fields of a cell; samples, summary, speedup and validity are still null.

    with_state: also what is computed from the readings of the GPU.
    """
    plan, record = cell.plan, cell.record
    ceilings = facts.ceilings.get(plan.precision.compute)
    kernels, model = plan.engine.kernels, plan.model
    # An engine's own loop has kernels of its own, and so has another implementation.
    has_own_loop = plan.spec.engine.has_own_loop or not plan.implementation.is_default
    return {
        "label": plan.label,
        "name": plan.name,
        "mode": plan.spec.name,
        "batch_size": plan.batch_size,
        "input_length": plan.workload.input_length,
        "num_layers": model.num_layers,
        "options": {
            "cuda_graphs": plan.spec.cuda_graphs,
            "executors": list(plan.spec.executors),
            "attention": None if has_own_loop else kernels.attention,
            "linear": None if has_own_loop else kernels.linear,
            "experts": kernels.experts if model.num_experts else None,
            "all_reduce": kernels.all_reduce,
            "precision": plan.precision.name,
            "compiler": record.compiler_stats,
            "routing": record.routing,
            "implementation": None if plan.implementation.is_default else plan.implementation.name,
            "training": plan.engine.training and plan.engine.training.record(),
        },
        "timer": _timer(cell),
        "estimated": plan.is_estimate,
        "extrapolation": _extrapolation(plan),
        "group": {"batch_size": plan.batch_size, "interleaved": plan.interleaved},
        "engine": record.engine or _planned_engine(cell),
        "weights": plan.precision.record(),
        "accuracy": record.accuracy,
        "cost": dict(plan.cost.facts),
        "limit": plan.cost.limit(ceilings),
        "bound": plan.cost.bound(ceilings),
        "samples": None,
        "wrong_output_samples": None,
        "summary": None,
        "speedup": None,
        "cold_start": _cold_start(cell),
        "memory": record.memory | combine(record.rank_memory),
        "gpu_state": gpu_state(cell) if with_state else None,
        "host": record.host,
        "profile": record.profile,
        "output_check": record.output_check,
        "stop_reason": record.stop_reason,
        "validity": None,
        "status": record.status,
        "error": record.error,
    }


def _extrapolation(plan: CellPlan) -> dict | None:
    """With the error of the straight line, which the intervals hold."""
    if plan.extrapolation is None:
        return None
    return plan.extrapolation.record() | {"error": errors_by_metric(plan.workload)}


def _timer(cell: MeasuredCell) -> str:
    """Before its engine is open, the clock that its device usually has."""
    return cell.record.timer or ("wall" if cell.plan.device == "cpu" else "cuda_event")


def _planned_engine(cell: MeasuredCell) -> dict:
    """What the engine says it can do is known once it is open."""
    return {
        "name": cell.plan.spec.name,
        "clock": _timer(cell),
        "granularity": "steps",
        "process": "own",
        "weights": _weights(cell),
        "evidence": [],
    }


def _weights(cell: MeasuredCell) -> str:
    entry = cell.plan.spec.engine
    if entry.copies_weights:
        return "copy"
    return "session" if entry.needs_weights else "own"


def _cold_start(cell: MeasuredCell) -> dict | None:
    record = cell.record
    if record.cold_start is None:
        return None
    is_wrong = record.status == "wrong_output"  # of wrong outputs no times are given
    warmup_s = [] if is_wrong else [run.total_s for run in record.warmup_runs]
    later = {"recompilations": _recompilations(cell)}
    return {**record.cold_start, **later, "warmup_s": warmup_s, "payback_tokens": None}


def _recompilations(cell: MeasuredCell) -> int | None:
    """After the first calls, in warm-up and timed runs."""
    record = cell.record
    if not record.compilations and record.recompilations is None:
        return None
    return sum(record.compilations) + (record.recompilations or 0)


def snapshots_of(cell: MeasuredCell) -> tuple[list, list]:
    """GPU states before and after each run; of several GPUs one after the other."""
    before, after = [list(side) for side in zip(*cell.record.snapshots, strict=True)] or ([], [])
    return before, after


def gpu_state(cell: MeasuredCell) -> dict | None:
    """Of several GPUs everything together, but for throttling: the slowest one holds up all."""
    before, after = snapshots_of(cell)
    num_gpus = cell.plan.num_ranks
    state = summarize_state(before, after)
    if state is None or num_gpus == 1:
        return state
    of_gpus = [
        summarize_state(before[rank::num_gpus], after[rank::num_gpus]) for rank in range(num_gpus)
    ]
    shares = [throttling["throttled_share"] for throttling in of_gpus if throttling is not None]
    worst = {
        cause: max((s[cause] for s in shares if s[cause] is not None), default=None)
        for cause in state["throttled_share"]
    }
    return state | {"throttled_share": worst, "per_gpu": of_gpus}
