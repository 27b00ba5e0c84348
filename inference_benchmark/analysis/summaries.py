"""The summary of a cell, from its samples and what its workload declares. No torch.

Rates are an amount over a median time, never a mean of rates, so that a rate always agrees with the
time printed beside it.
"""

from collections.abc import Mapping, Sequence

from inference_benchmark.analysis.cells import snapshots_of
from inference_benchmark.analysis.estimates import widened
from inference_benchmark.analysis.facts import SessionFacts
from inference_benchmark.hardware import Ceilings, cost_per_million_tokens
from inference_benchmark.session.record import MeasuredCell
from inference_benchmark.statistics.summaries import step_percentiles, summarize
from inference_benchmark.system.gpu_summary import energy_per_token_j

# Over which the driver's counter of energy can be relied on, on each GPU.
_ENERGY_WINDOW_S = 2.0


def summarize_cell(cell: MeasuredCell, samples: dict, facts: SessionFacts) -> dict:
    """The result file's `summary` of one cell."""
    plan, workload = cell.plan, cell.plan.workload
    metrics = {name: summarize(values) for name, values in samples["metrics"].items()}
    if plan.is_estimate:
        metrics = {name: widened(estimate, workload, name) for name, estimate in metrics.items()}
    medians = {name: estimate["median"] for name, estimate in metrics.items()}
    amounts = {**workload.amounts(plan.batch_size, plan.num_ranks), **plan.cost.amounts}
    ceilings = facts.ceilings.get(plan.precision.compute)
    return {
        "n": len(samples["round"]),
        "metrics": metrics,
        "steps": {name: step_percentiles(runs) for name, runs in samples["steps"].items()},
        "rates": {r.name: _ratio(amounts[r.name], medians[r.over]) for r in workload.rates},
        "rate_std": {
            rate.name: _rate_std(amounts[rate.name], samples["metrics"][rate.over])
            for rate in workload.rates
            if rate.headline
        },
        "s_per_token": workload.s_per_token(medians),
        "mfu": _utilization(plan.cost, plan.cost.mfu, medians, ceilings, "flops"),
        "mbu": _utilization(plan.cost, plan.cost.mbu, medians, ceilings, "bytes"),
        "energy_per_token_j": _energy(cell),
        "cost_per_million_tokens": _cost(cell, medians, facts.prices),
    }


def _ratio(amount: float, seconds: float | None) -> float | None:
    return amount / seconds if seconds else None


def _rate_std(amount: float, times: Sequence[float]) -> float | None:
    return summarize([amount / time for time in times])["std"]


def _utilization(
    cost,
    declared: tuple[str, str] | None,
    medians: Mapping[str, float | None],
    ceilings: Ceilings | None,
    of: str,
) -> float | None:
    """Rate of the work done over what the hardware can do, 0..1: MFU of FLOPs, MBU of bytes."""
    if declared is None or ceilings is None:
        return None
    phase, metric = declared
    work = getattr(cost.phases[phase], of)
    ceiling = ceilings.peak_flops if of == "flops" else ceilings.bandwidth_bytes_per_s
    rate = _ratio(work, medians[metric])
    return None if rate is None else rate / ceiling


def _energy(cell: MeasuredCell) -> float | None:
    """Of several GPUs all snapshots count: energy is their sum, a window lasts on each of them."""
    plan, record = cell.plan, cell.record
    if not record.snapshots:
        return None
    before, after = snapshots_of(cell)
    tokens = plan.workload.energy_tokens(plan.batch_size) * len(record.runs)
    return energy_per_token_j(before, after, tokens, _ENERGY_WINDOW_S * plan.num_ranks)


def _cost(cell: MeasuredCell, medians: Mapping, prices: dict | None) -> dict | None:
    """$ per million tokens of each kind that the workload counts."""
    plan = cell.plan
    run_s = medians[plan.workload.run_metric]
    if prices is None or not run_s:
        return None
    return {
        name: cost_per_million_tokens(prices, plan.num_ranks, tokens / run_s)
        for name, tokens in plan.workload.priced_tokens(plan.batch_size).items()
    }
