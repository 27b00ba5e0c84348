"""The check of a part of a layer: every tensor that a step leaves, against the same in a wider type.

The plain function in the tensors' own type gives the floor, as everywhere (tolerances.py). Held
against it are the whole of a tensor, and its rows one by one, since a whole does not show a few wrong
rows: a mask that is off by one changes early rows of a prompt only. In fp32 the whole is held to a
fixed 1e-4, many times what sums in another order do, and a tenth of what TF32 does.
"""

import math
import time

from torch import Tensor

from inference_benchmark.output_check.errors import Finding, relative_error
from inference_benchmark.output_check.parts import Routing
from inference_benchmark.output_check.reference import WIDER
from inference_benchmark.output_check.tolerances import FACTORS, ROUTING_LIMITS

_FP32_MEAN = 1e-4
Floors = dict[str, tuple[float, float]]


def check_part_before(engine, number: int, precision: str) -> dict:
    """Run a step, and its CUDA graph, on tensors that it has not seen, and compare.

    Returns:
        As check_before, with "floors" for check_timed_part.
    """
    engine.load(number)
    engine.step()
    if engine.has_graph:
        launched = {name: tensor.clone() for name, tensor in engine.results().items()}
        engine.replay()
        results = {"": launched, "in a graph: ": engine.graph_results()}
    else:
        results = {"": engine.results()}
    return _compare(engine, results, precision, None)


def check_timed_part(engine, precision: str, before: dict) -> dict:
    """What the last timed run left, on the tensors that it had.

    Returns:
        As check_timed_runs.
    """
    results = {"timed run: ": engine.results()}
    if engine.has_graph:
        results["timed run in a graph: "] = engine.graph_results()
    record = _compare(engine, results, precision, before["floors"])
    kept = ("passed", "measured", "failures", "seconds")
    return {name: record[name] for name in kept} | {"replayed_runs": 1, "replayed_cache": False}


def _compare(
    engine, results: dict[str, dict[str, Tensor]], precision: str, floors: Floors | None
) -> dict:
    """results: by what precedes their names. floors: the plain function's own (mean, largest) errors;
    without them they are measured."""
    started = time.perf_counter()
    problem = engine.problem
    problem.choice = engine.choice
    exact = problem.results(WIDER[problem.dtype])
    if floors is None:
        floors = {
            name: _errors(eager, exact[name], _vanishes(name))
            for name, eager in problem.results().items()
        }
    findings = [
        finding
        for prefix, tensors in results.items()
        for name, tensor in tensors.items()
        for finding in _findings(f"{prefix}{name}", tensor, exact[name], floors[name], precision)
    ]
    failures = [finding.phrase for finding in findings if not finding.passed]
    share, most_share = _routing_difference(problem), ROUTING_LIMITS[precision]
    if share is not None and share > most_share:
        failures.append(f"{share:.0%} of the experts chosen otherwise, over {most_share:.0%}")
    mean, most = floors[problem.outputs[0]]
    factors = FACTORS[precision]
    return {
        "passed": not failures,
        "checked": ["output", *(["gradients"] if problem.part.backward else [])],
        "tolerance": max(factors.most * most, 3 * factors.least),
        "floor": mean,
        "routing_difference": share,
        "measured": {finding.measure: finding.as_dict() for finding in findings},
        "failures": failures,
        "floors": floors,
        "seconds": time.perf_counter() - started,
    }


def _routing_difference(problem) -> float | None:
    """The share of the chosen experts that the plain function would not have chosen."""
    if problem.choice is None:
        return None
    routing = Routing()
    routing.add([problem.own_choice], [problem.choice])
    return routing.difference()


def _findings(
    measure: str, computed: Tensor, exact: Tensor, floor: tuple[float, float], precision: str
) -> list[Finding]:
    if computed.shape != exact.shape:
        raise ValueError(f"{measure} has shape {tuple(computed.shape)}, not {tuple(exact.shape)}")
    factors = FACTORS[precision]
    mean, most = _errors(computed, exact, _vanishes(measure))
    of_mean, of_most = floor
    limit = max(factors.mean * of_mean, factors.least)
    limit_of_row = max(factors.most * of_most, 3 * factors.least)
    if precision == "fp32":
        limit, limit_of_row = _FP32_MEAN, 3 * _FP32_MEAN
    return [
        Finding(measure, mean, limit, of_mean),
        Finding(f"{measure}: a row", most, limit_of_row, of_most),
    ]


def _vanishes(measure: str) -> bool:
    return "gradient" in measure


def _errors(computed: Tensor, exact: Tensor, vanishes: bool = False) -> tuple[float, float]:
    """Relative root mean square error of all values, and of the worst row.

    vanishes: a row may be zero, as the gradient of a query that attends to one key only; rows are
    then held against the mean one where they are smaller.
    """
    computed = computed.detach()
    whole = float(relative_error(computed.flatten(), exact.flatten()))
    if computed.dim() < 2:
        return whole, whole
    if not vanishes:
        return whole, float(relative_error(computed, exact).max())
    lengths = exact.norm(dim=-1)
    least = lengths.square().mean().sqrt()
    errors = (computed.to(exact.dtype) - exact).norm(dim=-1) / lengths.clamp(min=least)
    return whole, float(errors.nan_to_num(nan=math.inf, posinf=math.inf).max())
