"""What errors are held against: floors, how far eager itself is from the exact forward."""

import math
from collections.abc import Sequence

from torch import Tensor

from inference_benchmark.output_check.errors import Finding, worst
from inference_benchmark.output_check.parts import EXACT_TOKENS, Part, logits_of
from inference_benchmark.output_check.reference import Reference
from inference_benchmark.output_check.timed import Floor
from inference_benchmark.output_check.tolerances import NEEDLE_FACTOR, Factors


def floor_of(parts: Sequence[Part]) -> Floor:
    """Of the parts: prompt, decode, empty cache, needles."""
    prompt_part, _, empty, _ = parts
    caches = prompt_part.caches.floors()
    for place, floor in empty.caches.floors().items():
        known = caches.get(place, (0.0, 0.0))
        caches[place] = (max(known[0], floor[0]), max(known[1], floor[1]))
    floors = [part.logits.floor() for part in parts[:3]]
    logits = [floor for floor in floors if floor is not None] or [(0.0, 0.0)]
    return Floor(max(floor[0] for floor in logits), max(floor[1] for floor in logits), caches)


def free_floor(
    eager_reference: Reference,
    exact_reference: Reference,
    prompt: Tensor,
    routing_difference: float,
    factors: Factors,
) -> Floor:
    """For mixtures of experts in free runs, where every forward chooses its experts itself.

    The floor is eager's distance from the exact forward, or, where that is larger, a share of how
    far outputs move when every token gets other experts: rounding tips some choices, and no number
    of these can move outputs farther.
    """
    tokens = prompt[:1, :EXACT_TOKENS]
    length = tokens.shape[1]
    config = eager_reference.decoder.config
    references = (eager_reference, exact_reference, eager_reference)
    eager, exact, tipped = (reference.stream(tokens) for reference in references)
    own_part, tipped_part = Part.named("free"), Part.named("tipped")
    num_experts = config.num_experts
    for index in range(config.num_layers):
        caches = [reference.empty_cache(index, 1, length) for reference in references]
        eager.layer(index, caches[0])
        exact.layer(index, caches[1])
        tipped.layer(index, caches[2], [(expert + 1) % num_experts for expert in eager.choices])
        own_part.add_cache(index, caches[0], caches[0], caches[1], slice(None))
        tipped_part.add_cache(index, caches[0], caches[2], caches[0], slice(None))
    for position in range(0, length, max(1, length // 64)):
        eager_logits = logits_of(eager, position)
        own_part.logits.add(eager_logits, eager_logits, logits_of(exact, position))
        tipped_part.logits.add(eager_logits, logits_of(tipped, position), eager_logits)
    per_token = sum(choice.shape[-1] for choice in eager.choices)
    share = min(0.5, 3 * routing_difference * per_token + 0.02)
    caches = {}
    for place, (mean, most) in own_part.caches.floors().items():
        tipped_mean, tipped_most = tipped_part.caches.floors()[place]
        caches[place] = (
            max(mean, math.sqrt(share) * tipped_mean),
            max(most, 1.5 * tipped_most / factors.most),
        )
    mean, most = own_part.logits.floor()
    return Floor(mean, most, caches, tipped_part.logits.floor()[0], share)


def findings_of(parts: Sequence[Part], usual: Factors) -> list[Finding]:
    """The worst error of each quantity in the parts: prompt, decode, empty cache, needles."""
    prompt, decode, empty, needles = parts
    floors = empty.caches.floors() | prompt.caches.floors()
    known = [floor for floor in (empty.logits.floor(), prompt.logits.floor()) if floor]
    logits = max(known, default=(0.0, 0.0))
    findings = []
    for part in parts:
        factors = usual
        if part is needles:
            factors = Factors(
                factors.mean * NEEDLE_FACTOR,
                factors.head * 2 * NEEDLE_FACTOR,  # a few values each
                factors.most * NEEDLE_FACTOR,
                factors.least,
            )
        findings += part.caches.findings(part.name, factors, floors)
        findings += part.logits.findings(part.name, factors, logits)
    return worst(findings)
