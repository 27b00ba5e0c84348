"""Whether a forward's logits are the reference's, sequence by sequence, at every position."""

import time

import torch
from torch import Tensor

from inference_benchmark.output_check.agreement import tolerance_of
from inference_benchmark.workloads.base import CheckSettings

# A single position of a long prompt scatters more than the mean of all.
_POSITION_FACTOR = 2.0
_TIE_TOLERANCES = 4.0  # as in output_check: closer logits, in tolerances of their rms, are a tie
_ROUTING_LIMIT = 0.1


@torch.inference_mode()
def check(engine, open_reference, inputs: Tensor, settings: CheckSettings) -> dict:
    """Run both on inputs [batch, length]; the reference one sequence at a time.

    Experts are those that the engine chose, as in the check of generation, since a tie between two
    of them moves the logits by much more than rounding.
    """
    engine.forward(inputs)
    return check_held(engine, open_reference, inputs, settings)


@torch.inference_mode()
def check_held(engine, open_reference, inputs: Tensor, settings: CheckSettings) -> dict:
    """The logits that the engine holds of inputs, against the reference's."""
    started = time.perf_counter()
    reference = open_reference(1)
    tolerance = tolerance_of(settings.precision, engine.num_layers)
    worst = mean = 0.0
    disagreements = compared = 0
    rerouted = routed = 0
    length = inputs.shape[1]
    for row in range(inputs.shape[0]):
        rows = slice(row * length, (row + 1) * length)
        reference.replayed = [chosen[rows] for chosen in engine.choices]
        reference.forward(inputs[row : row + 1])
        for used, own in zip(reference.replayed, reference.choices, strict=True):
            known = (used[:, :, None] == own[:, None, :]).any(dim=-1)
            rerouted += int((~known).sum())
            routed += known.numel()
        errors, differs, clear = _errors(engine.logits[row], reference.logits[0], tolerance)
        worst = max(worst, float(errors.max()))
        mean = max(mean, float(errors.mean()))
        disagreements += int(differs.sum())
        compared += int(clear.sum())
    reference.close()
    failures = []
    for name, error, limit in (
        ("mean logits error", mean, tolerance),
        ("largest logits error", worst, _POSITION_FACTOR * tolerance),
    ):
        if not error <= limit:
            failures.append(f"{name} {error:.2g} over {limit:.2g}")
    if disagreements:
        failures.append(f"top-1 differs in {disagreements} of {compared} clear cases")
    share = rerouted / routed if routed else None
    if share is not None and share > _ROUTING_LIMIT:
        failures.append(f"{share:.0%} of the experts chosen otherwise, over {_ROUTING_LIMIT:.0%}")
    return {
        "passed": not failures,
        "checked": ["logits"],
        "tolerance": tolerance,
        "floor": None,
        "mean_error": mean,
        "largest_error": worst,
        "top1_disagreements": disagreements,
        "top1_compared": compared,
        "routing_difference": share,
        "failures": failures,
        "seconds": time.perf_counter() - started,
    }


def _errors(found: Tensor, expected: Tensor, tolerance: float) -> tuple[Tensor, Tensor, Tensor]:
    """[length, vocab] each -> relative error of each position, clear cases that differ, clear ones."""
    found, expected = found.float(), expected.float()
    best = expected.topk(2, dim=-1).values
    rms = expected.square().mean(dim=-1).sqrt()
    clear = best[:, 0] - best[:, 1] > _TIE_TOLERANCES * tolerance * rms
    differs = clear & (found.argmax(dim=-1) != expected.argmax(dim=-1))
    error = (found - expected).norm(dim=-1) / expected.norm(dim=-1)
    return error.nan_to_num(nan=float("inf")), differs, clear
