"""The check of one forward over whole inputs: the logits of all positions, before and after timing.

The reference goes through one sequence at a time. Of a mixture of experts it uses the experts that
the engine chose, as before the timing of generation (before.py), and what it would have chosen
itself is compared apart. The exact forward of the first sequence's first tokens gives the floor.
"""

import time

import torch
from torch import Tensor

from inference_benchmark.model.decoder import Decoder
from inference_benchmark.output_check.errors import LogitErrors
from inference_benchmark.output_check.parts import EXACT_TOKENS, Routing
from inference_benchmark.output_check.reference import Reference
from inference_benchmark.output_check.tolerances import FACTORS, ROUTING_LIMITS


@torch.inference_mode()
def check_forward_before(engine, decoder: Decoder, inputs: Tensor, precision: str) -> dict:
    """Run the engine on inputs [batch, length] that it has not seen, and compare.

    Returns:
        As check_before, with "floors" for check_timed_forward.
    """
    engine.forward(inputs)
    return _compare(engine, decoder, inputs, precision, "forward")


@torch.inference_mode()
def check_timed_forward(
    engine, decoder: Decoder, inputs: Tensor, precision: str, before: dict
) -> dict:
    """The logits that the engine still holds of its last timed run, on these inputs.

    Returns:
        As check_timed_runs.
    """
    record = _compare(engine, decoder, inputs, precision, "timed run", before["floors"])
    kept = ("passed", "measured", "failures", "seconds")
    return {name: record[name] for name in kept} | {"replayed_runs": 1, "replayed_cache": False}


def _compare(
    engine,
    decoder: Decoder,
    inputs: Tensor,
    precision: str,
    name: str,
    floor: tuple[float, float] | None = None,
) -> dict:
    """floor: eager's own (mean, largest) error; without one it is measured."""
    started = time.perf_counter()
    errors, routing = LogitErrors(), Routing()
    for row in range(inputs.shape[0]):
        is_measured = floor is None and row == 0
        _compare_row(engine, decoder, inputs, row, errors, routing, is_measured)
    floor = floor or errors.floor() or (0.0, 0.0)
    factors = FACTORS[precision]
    findings = errors.findings(name, factors, floor)
    failures = [finding.phrase for finding in findings if not finding.passed]
    share, limit = routing.difference(), ROUTING_LIMITS[precision]
    if share is not None and share > limit:
        failures.append(f"{name}: {share:.0%} of the experts chosen otherwise, over {limit:.0%}")
    return {
        "passed": not failures,
        "checked": ["logits"],
        "tolerance": max(factors.most * floor[1], 3 * factors.least),
        "floor": floor[0],
        "routing_difference": share,
        "measured": {finding.measure: finding.as_dict() for finding in findings},
        "failures": failures,
        "floors": floor,
        "seconds": time.perf_counter() - started,
    }


def _compare_row(
    engine,
    decoder: Decoder,
    inputs: Tensor,
    row: int,
    errors: LogitErrors,
    routing: Routing,
    with_exact: bool,
) -> None:
    tokens = inputs[row : row + 1]
    length = tokens.shape[1]
    chosen = [choice[row * length : (row + 1) * length] for choice in engine.choices]
    eager = _forward(Reference(decoder), tokens, chosen)
    routing.add(eager.choices, chosen)
    exact_length = min(length, EXACT_TOKENS) if with_exact else 0
    exact = None
    if exact_length:
        first = [choice[:exact_length] for choice in chosen]
        exact = _forward(Reference.exact(decoder), tokens[:, :exact_length], first)
    for part, eager_logits in eager.logits(range(length)):
        logits = engine.logits[row, part]
        exact_positions = range(part.start, min(part.stop, exact_length))
        exact_logits = None
        if exact_positions:
            exact_logits = torch.cat([logits[0] for _, logits in exact.logits(exact_positions)])
        errors.add(logits, eager_logits[0], exact_logits)


def _forward(reference: Reference, tokens: Tensor, chosen: list[Tensor]):
    """Through all layers; nothing of a layer's cache is kept."""
    stream = reference.stream(tokens)
    for index in range(reference.config.num_layers):
        stream.layer(index, reference.empty_cache(index, *tokens.shape), chosen)
    return stream
