"""The check of training steps: losses and gradients against eager's, and that a batch is learned.

Eager PyTorch takes the first steps from the same weights on the same batches, without recomputing
anything; it is followed once for all modes. Ten losses depend on ten forwards and nine updates, so
on the direction of every gradient; the norm of each weight's first gradient shows a part that is
missing. Afterwards the engine goes back to the initial weights and makes the first steps again: what
was timed is still what was checked.

Errors are relative. The tolerances are several times what valid modes differ by (measured, see
results/README.md); each fault of tests/output_check/test_training_check.py exceeds one of them. They
hold for batches of _ENOUGH_TOKENS and more: rounding of fewer tokens averages out less, by the root of
their number.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from inference_benchmark.model.decoder import Decoder
from inference_benchmark.model.trainer import Trainer
from inference_benchmark.model.training import LossForward
from inference_benchmark.model.training_config import TrainingConfig

_STEPS_AFTERWARDS = 3
_ENOUGH_TOKENS = 512
# A batch that is nearly learned by heart has hardly any loss and gradient left, of which rounding
# decides a good part: errors are then of this share of the largest of the checked steps.
_LEAST_SHARE = 0.1
_LEARNED = 0.01  # the least share by which the loss of a batch has to fall in the checked steps


@dataclass(frozen=True)
class Tolerances:
    """loss, gradient: of a step, the norm of all gradients; weight: of one weight's gradient."""

    loss: float
    gradient: float
    weight: float


TOLERANCES = {
    "fp32": Tolerances(1e-4, 1e-3, 1e-2),
    "bf16": Tolerances(2e-3, 1e-2, 2e-2),
    # Transformer Engine's losses of Llama 3.2 1B at random weights are 2.6 % below eager's, its weights'
    # gradients up to 18 % off.
    "fp8": Tolerances(8e-2, 1e-1, 2e-1),
}


def tolerances_of(precision: str, batches: Sequence[Tensor]) -> Tolerances:
    """batches: of token ids [batch, length]; the smallest decides."""
    tokens = min(batch.numel() for batch in batches)
    factor = max(1.0, math.sqrt(_ENOUGH_TOKENS / tokens))
    full = TOLERANCES[precision]
    return Tolerances(full.loss * factor, full.gradient * factor, full.weight * factor)


@dataclass(frozen=True)
class Steps:
    """What was seen of some training steps: of each its loss and the norm of all gradients, of the
    first one each weight's."""

    losses: list[float]
    gradient_norms: list[float]
    weight_norms: dict[str, float]


def follow(trainer, batches: Sequence[Tensor], step) -> Steps:
    """step(batch) makes a training step, after which trainer has loss and gradient_norms()."""
    losses, norms, first = [], [], {}
    for batch in batches:
        step(batch)
        of_weights = {name: float(norm) for name, norm in trainer.gradient_norms().items()}
        first = first or of_weights
        losses.append(float(trainer.loss))
        norms.append(math.sqrt(sum(norm**2 for norm in of_weights.values())))
    return Steps(losses, norms, first)


def follow_reference(decoder: Decoder, config: TrainingConfig, batches: Sequence[Tensor]) -> Steps:
    """Eager, from the decoder's weights."""
    plain = replace(config, activation_checkpointing=False)
    trainer = Trainer(decoder, plain, LossForward)
    return follow(trainer, batches, trainer.step)


def check_training_before(
    engine, reference: Steps, batches: Sequence[Tensor], precision: str
) -> dict:
    """Let the engine make the reference's steps, and compare.

    batches: the first and the last one are the same, which has to be learned.

    Returns:
        As check_before.
    """
    started = time.perf_counter()
    engine.reset()
    steps = follow(engine, batches, engine.train)
    tolerances = tolerances_of(precision, batches)
    measured = compare(steps, reference, tolerances, "training")
    failures = _failures(measured)
    if engine.plan.training.optimizer != "none":
        fall = 1 - steps.losses[-1] / steps.losses[0]
        if not fall >= _LEARNED:
            failures.append(
                f"training: the loss of a repeated batch went from {steps.losses[0]:.4g} to "
                f"{steps.losses[-1]:.4g}; it has to fall"
            )
    return {
        "passed": not failures,
        "checked": ["losses", "gradients"],
        "tolerance": tolerances.loss,
        "floor": None,
        "losses": steps.losses,
        "reference_losses": reference.losses,
        "gradient_norms": steps.gradient_norms,
        "reference_gradient_norms": reference.gradient_norms,
        "measured": measured,
        "failures": failures,
        "seconds": time.perf_counter() - started,
    }


def check_after_training(
    engine, reference: Steps, batches: Sequence[Tensor], precision: str, losses: Sequence[Tensor]
) -> dict:
    """The first steps once more, by what was timed; and the timed runs' own losses, the first and
    the last, are numbers.

    Returns:
        As check_timed_runs.
    """
    started = time.perf_counter()
    timed = [float(loss) for loss in losses]
    failures = [f"timed run: its loss is {loss}" for loss in timed if not math.isfinite(loss)]
    engine.reset()
    steps = follow(engine, batches[:_STEPS_AFTERWARDS], engine.train)
    measured = compare(steps, reference, tolerances_of(precision, batches), "after timing")
    return {
        "passed": not failures + _failures(measured),
        "replayed_runs": 0,
        "replayed_cache": False,
        "measured": measured,
        "failures": failures + _failures(measured),
        "seconds": time.perf_counter() - started,
    }


def compare(trained: Steps, reference: Steps, tolerances: Tolerances, part: str) -> dict[str, dict]:
    """The largest error of each measure, as the result file has it: relative to the reference's
    value at that step, but to no less than _LEAST_SHARE of its largest one."""
    steps = [f"step {number + 1}" for number in range(len(trained.losses))]
    names = list(reference.weight_norms)
    measured = {
        f"{part}: loss": _worst(
            trained.losses, reference.losses, steps, tolerances.loss, _LEAST_SHARE
        ),
        f"{part}: gradient norm": _worst(
            trained.gradient_norms,
            reference.gradient_norms,
            steps,
            tolerances.gradient,
            _LEAST_SHARE,
        ),
    }
    if set(names) == set(trained.weight_norms):  # another implementation may have others
        of_weights = [trained.weight_norms[name] for name in names]
        expected = [reference.weight_norms[name] for name in names]
        measured[f"{part}: a weight's gradient norm"] = _worst(
            of_weights, expected, names, tolerances.weight
        )
    return measured


def _worst(
    values: Sequence[float],
    expected: Sequence[float],
    places: Sequence[str],
    limit: float,
    least_share: float = 0.0,
) -> dict:
    least = least_share * max(map(abs, expected), default=0.0)
    errors = {
        place: abs(value - right) / (max(abs(right), least) or 1.0)
        for place, value, right in zip(places, values, expected, strict=False)
    }
    at, error = max(errors.items(), key=lambda item: (math.isnan(item[1]), item[1]))
    known = error if math.isfinite(error) else None
    return {"error": known, "limit": limit, "floor": None, "at": at}


def _failures(measured: dict[str, dict]) -> list[str]:
    return [
        f"{measure} ({entry['at']}): {_number(entry['error'])} from eager's, over {entry['limit']:.2g}"
        for measure, entry in measured.items()
        if entry["error"] is None or entry["error"] > entry["limit"]
    ]


def _number(error: float | None) -> str:
    return "infinitely far" if error is None else f"{error:.2g}"
