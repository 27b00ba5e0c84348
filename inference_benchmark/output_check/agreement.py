"""The output gate: a mode is compared with ungraphed eager PyTorch before its speed is believed.

Both see the same weights, prompt and forced tokens. Compared are the logits of the prefill's last
position, of decode steps after the prompt, and of decode steps from an empty cache, where a fault
of one slot weighs much more; and the cache itself, slot by slot. Slots that nothing should have
written hold a known value before and must hold it after. A mode runs through the very engine that
is timed, its CUDA graph included; the reference uses SDPA and no kernel of ours.

In a mixture of experts, two experts whose scores are nearly equal may be chosen either way, and the
logits then differ by much more than rounding. So the reference uses the experts that the mode
chose, with its own scores, and what it would have chosen itself is compared apart: few may differ.

Tolerances are relative errors of the norm. They are a small multiple of what eager PyTorch itself
shows when one valid attention kernel replaces another in the same model (results/README.md lists
those figures), and at 32 layers far below what a fault of one cache slot causes from an empty
cache. Roundings of one layer are independent of those of the next, so they add up as the square
root of the depth, and beyond 32 layers the tolerance grows with it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

STEPS = 32
# Finite: a mask multiplies what it hides by zero, and zero times infinity is not zero.
_POISON = 2.0

_TOLERANCES = {"fp32": 1e-4, "fp16": 6e-3, "bf16": 3e-2, "fp8": 1.5e-1}
_TOLERANCE_LAYERS = 32  # up to which these hold
# A single slot of a single layer scatters more than the logits, which average over many.
_SLOT_FACTOR = 2.0
# Share of chosen experts that the reference would not have chosen: rounding tips those with scores
# close to the least chosen one. A router that is wrong differs in nearly all of them.
_ROUTING_LIMITS = {"fp32": 0.01, "fp16": 0.05, "bf16": 0.1, "fp8": 0.5}
# A choice counts as a tie where the reference's two best logits are closer than this many
# tolerances of the logits' rms.
_TIE_TOLERANCES = 4.0


_WORST = (
    "prefill_error",
    "decode_error",
    "empty_cache_error",
    "cache_error",
    "unwritten_slots_changed",
    "top1_disagreements",
    "routing_difference",
)


@dataclass(frozen=True)
class Inputs:
    """prompt [batch, input_length]; forced [STEPS, batch, 1], tokens fed instead of chosen ones."""

    prompt: Tensor
    forced: Tensor

    @classmethod
    def random(cls, vocab_size: int, prompt: Tensor, seed: int) -> "Inputs":
        generator = torch.Generator().manual_seed(seed)
        shape = (STEPS, prompt.shape[0], 1)
        forced = torch.randint(vocab_size, shape, generator=generator)
        return cls(prompt, forced.to(prompt.device))


@torch.inference_mode()
def check(engine, reference, inputs: Inputs, precision: str) -> dict:
    """Run engine and reference side by side and compare.

    Returns:
        {"passed", "tolerance", "prefill_error", "decode_error", "empty_cache_error",
        "cache_error", "unwritten_slots_changed", "top1_disagreements", "top1_compared",
        "routing_difference", "failures"}; errors are the largest relative error of a sequence's
        logits (cache: of a slot), routing_difference is the share of experts, in the prefill or in
        all decode steps, that the reference would not have chosen, None without mixtures.
    """
    tolerance = tolerance_of(precision, len(engine.caches))
    logits = _Logits(tolerance)
    cache = _Caches()
    routing = _Routing()
    capacity = engine.caches[0][0].shape[2]
    length = inputs.prompt.shape[1]

    for each in (engine, reference):
        each.reset(_POISON)
    routing.run_both(engine, reference, "prefill", lambda each: each.prefill(inputs.prompt))
    prefill_error = logits.compare(engine, reference)
    after_prompt = min(STEPS, capacity - length)
    decode_error = _steps(engine, reference, inputs, length, after_prompt, logits, routing)
    cache.compare(engine, reference, filled=length + after_prompt)

    for each in (engine, reference):
        each.reset(_POISON)
    from_empty = min(STEPS, capacity) if after_prompt else 0
    empty_error = _steps(engine, reference, inputs, 0, from_empty, logits, routing)
    cache.compare(engine, reference, filled=from_empty)
    engine.reset()

    found = {
        "prefill_error": prefill_error,
        "decode_error": decode_error,
        "empty_cache_error": empty_error,
        "cache_error": cache.error,
        "unwritten_slots_changed": cache.unwritten_changed,
        "top1_disagreements": logits.disagreements,
        "top1_compared": logits.compared,
        "routing_difference": routing.difference(),
    }
    failures = _failures(found, tolerance, _ROUTING_LIMITS[precision])
    return (
        {"passed": not failures, "tolerance": tolerance, "steps": after_prompt}
        | found
        | {"failures": failures}
    )


def tolerance_of(precision: str, num_layers: int) -> float:
    """Largest relative error of logits that is still rounding."""
    return _TOLERANCES[precision] * max(1.0, math.sqrt(num_layers / _TOLERANCE_LAYERS))


def combine(found: list[dict]) -> dict:
    """Of several ranks, each with its own part of the cache: the worst of each, passed if all did."""
    if len(found) == 1:
        return found[0]
    worst = {
        name: max((each[name] for each in found if each[name] is not None), default=None)
        for name in _WORST
    }
    failures = [
        f"rank {rank}: {text}" for rank, each in enumerate(found) for text in each["failures"]
    ]
    return found[0] | worst | {"passed": not failures, "failures": failures}


def _steps(
    engine,
    reference,
    inputs: Inputs,
    start: int,
    count: int,
    logits: "_Logits",
    routing: "_Routing",
) -> float | None:
    """Feed `count` forced tokens from position `start`; the largest error, None without steps."""
    errors = []
    for step in range(count):
        for each in (engine, reference):
            each.force(inputs.forced[step], start + step)
        routing.run_both(engine, reference, "decode", lambda each: each.decode())
        errors.append(logits.compare(engine, reference))
    return max(errors, default=None, key=_nan_is_largest)


def _nan_is_largest(error: float) -> float:
    return float("inf") if error != error else error


class _Logits:
    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self.disagreements = 0
        self.compared = 0

    def compare(self, engine, reference) -> float:
        """Largest relative error over the sequences of the newest logits [batch, vocab]."""
        found, expected = engine.logits.float(), reference.logits.float()
        best = expected.topk(2, dim=-1).values
        rms = expected.square().mean(dim=-1).sqrt()
        clear = best[:, 0] - best[:, 1] > _TIE_TOLERANCES * self._tolerance * rms
        differs = found.argmax(dim=-1) != expected.argmax(dim=-1)
        self.disagreements += int((clear & differs).sum())
        self.compared += int(clear.sum())
        error = (found - expected).norm(dim=-1) / expected.norm(dim=-1)
        return float(error.nan_to_num(nan=float("inf")).max())


class _Routing:
    """Runs the reference with the engine's chosen experts, and counts what it would not have chosen."""

    def __init__(self) -> None:
        self._differing = {"prefill": 0, "decode": 0}
        self._compared = {"prefill": 0, "decode": 0}

    def run_both(self, engine, reference, phase: str, action: Callable[[object], None]) -> None:
        action(engine)
        reference.replayed = engine.choices
        action(reference)
        for found, own in zip(engine.choices, reference.choices, strict=True):
            # [tokens, experts per token]
            known = (found[:, :, None] == own[:, None, :]).any(dim=-1)
            self._differing[phase] += int((~known).sum())
            self._compared[phase] += known.numel()

    def difference(self) -> float | None:
        """The larger share of the two phases; None without mixtures of experts."""
        shares = [self._differing[phase] / n for phase, n in self._compared.items() if n]
        return max(shares, default=None)


class _Caches:
    def __init__(self) -> None:
        self.error = 0.0
        self.unwritten_changed = 0

    def compare(self, engine, reference, filled: int) -> None:
        """Slots 0 .. filled - 1 against the reference, the others against what they held before."""
        for tensors, expected_tensors in zip(engine.caches, reference.caches, strict=True):
            for found, expected in zip(tensors, expected_tensors, strict=True):
                # [batch, kv_heads, slots, head_dim]: one norm per sequence and slot
                difference = found[:, :, :filled].float() - expected[:, :, :filled].float()
                scale = expected[:, :, :filled].float().norm(dim=(1, 3))
                error = difference.norm(dim=(1, 3)) / scale
                worst = error.nan_to_num(nan=float("inf")).max() if filled else 0.0
                self.error = max(self.error, float(worst))
                changed = (found[:, :, filled:] != _POISON).any(dim=3).any(dim=1)
                self.unwritten_changed += int(changed.sum())


def _failures(found: dict, tolerance: float, routing_limit: float) -> list[str]:
    """One phrase per way in which the output is wrong."""
    failures = []
    for name in ("prefill_error", "decode_error", "empty_cache_error", "cache_error"):
        limit = tolerance * (_SLOT_FACTOR if name == "cache_error" else 1.0)
        if found[name] is not None and not found[name] <= limit:
            failures.append(f"{name.replace('_', ' ')} {found[name]:.2g} over {limit:.2g}")
    share = found["routing_difference"] or 0.0
    if share > routing_limit:
        failures.append(f"{share:.0%} of the experts chosen otherwise, over {routing_limit:.0%}")
    if found["unwritten_slots_changed"]:
        failures.append(f"{found['unwritten_slots_changed']} unwritten cache slots changed")
    if found["top1_disagreements"]:
        failures.append(
            f"top-1 differs in {found['top1_disagreements']} of {found['top1_compared']} clear cases"
        )
    return failures
