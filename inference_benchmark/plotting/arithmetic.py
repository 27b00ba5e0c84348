"""What a cell had to do, and what the hardware can do, from the numbers of its file.

A result file holds each metric's limit, and of the work only what was printed. A preset's work can
be counted anew, at any batch size; it is taken only where it gives exactly the file's own numbers,
so that a curve through the limits of measured cells never rests on another model than theirs.
"""

from collections.abc import Sequence
from math import isclose

from inference_benchmark.hardware import Ceilings
from inference_benchmark.model.weight_format import Precision
from inference_benchmark.models import MODELS
from inference_benchmark.workloads import WORKLOADS
from inference_benchmark.workloads.cost import Cost


def cost_of(result: dict, cell: dict, batch_size: int | None = None) -> Cost | None:
    """The work of a cell's run on one rank, or that of another batch size in its place; None where
    it can't be counted or does not agree with the file."""
    counted = _counted(result, cell, cell["batch_size"])
    if counted is None or not _agrees(counted, cell):
        return None
    return counted if batch_size is None else _counted(result, cell, batch_size)


def _counted(result: dict, cell: dict, batch_size: int) -> Cost | None:
    config, weights = result["config"], cell["weights"]
    model, entry = MODELS.get(config["model_name"]), WORKLOADS.get(config["workload"])
    if model is None or entry is None:
        return None
    try:
        precision = Precision.of(config["precision"], weights["format"])
        share = model.with_layers(cell["num_layers"]).sharded(config["tensor_parallel"] or 1)
        lengths = [config["input_length"], config["output_length"] or 0]
        depth = cell["name"].get("context_depth")
        workload = entry.load()(*lengths, *([] if depth is None else [depth]))
        return workload.cost(share, precision, batch_size)
    except (KeyError, ValueError, TypeError):
        return None


def _agrees(cost: Cost, cell: dict) -> bool:
    facts = {name: value for name, value in cell["cost"].items() if value is not None}
    return bool(facts) and all(
        isclose(cost.facts.get(name, 0), value, rel_tol=1e-9) for name, value in facts.items()
    )


def ceilings_of(cells: Sequence[tuple[dict, dict]]) -> Ceilings | None:
    """Bandwidth and peak behind the limits of (result, cell) pairs that share a GPU and a basis:
    a limit that is bound by bandwidth tells it, one that is bound by compute tells the peak."""
    bandwidth = peak = basis = None
    for result, cell in cells:
        cost = cost_of(result, cell)
        if cost is None or not cell["limit"] or not cell["bound"]:
            continue
        basis = basis or cell["limit"]["basis"]
        for metric, bound in cell["bound"].items():
            limit_s = cell["limit"]["metrics"].get(metric)
            (phase,) = cost.metrics[metric]
            if not limit_s:
                continue
            if bound == "bandwidth":
                bandwidth = bandwidth or cost.phases[phase].bytes / limit_s
            else:
                peak = peak or cost.phases[phase].flops / limit_s
    if bandwidth is None or peak is None:
        return None
    ceilings = Ceilings(bandwidth, peak, basis)
    return ceilings if all(_explains(ceilings, *pair) for pair in cells) else None


def _explains(ceilings: Ceilings, result: dict, cell: dict) -> bool:
    """Whether these ceilings give the limits of the file."""
    cost = cost_of(result, cell)
    if cost is None or not cell["limit"]:
        return True
    counted = cost.limit(ceilings)["metrics"]
    return all(
        value is None or isclose(counted.get(metric) or 0, value, rel_tol=1e-6)
        for metric, value in cell["limit"]["metrics"].items()
    )


def limits_at(result: dict, cell: dict, ceilings: Ceilings, batch_size: int) -> dict | None:
    """Least seconds by metric, if the cell had another batch size."""
    cost = cost_of(result, cell, batch_size)
    return None if cost is None else cost.limit(ceilings)["metrics"]
