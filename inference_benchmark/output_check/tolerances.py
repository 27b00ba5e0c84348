"""How far from the reference an output may be and still be right: what rounding explains.

Nothing here is a fixed distance. The check measures, on its own inputs, how far eager PyTorch is
from the same forward in a wider type; that is the floor. A valid implementation rounds about as
often as eager does, so its distance from the wider type is about the floor, and its distance from
eager about the root of two of it. The factors below are what valid kernels need on top (measured on
CPUs and GPUs, see results/README.md), and a least distance for each format keeps floors of nothing
(two roundings that happen to agree) from becoming tolerances of nothing.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Factors:
    """
    mean: of the root mean square over a layer's cache or over rows of logits.
    head: the same of one head, which averages over fewer values.
    most: of the largest single one: a slot of a head, or a row or block of logits, against the
        largest one of eager.
    least: relative error that is always granted to a mean; the largest may be three times that.
    """

    mean: float
    head: float
    most: float
    least: float


# fp32 kernels add up in other orders, and long sums differ by more than eager's from exact ones.
FACTORS = {
    "fp32": Factors(10.0, 12.0, 15.0, 1e-5),
    "fp16": Factors(1.7, 2.0, 3.5, 3e-4),
    "bf16": Factors(1.7, 2.0, 3.5, 1e-3),
    # Activations are rounded to 8 bits in blocks that share a scale, which the reference does as well,
    # in blocks of 32; llama.cpp's K types take 256 on a CPU, and round half as much again.
    "q8": Factors(2.0, 2.4, 4.0, 1e-3),
    # Weights and activations are rounded to 8 bits: 4e-2 for each product.
    "fp8": Factors(3.0, 3.5, 5.0, 1.5e-1),
}
# Where a few slots hold nearly all the weight of a softmax, rounding of the scores counts more.
NEEDLE_FACTOR = 1.6
# Share of chosen experts that the reference would not have chosen: rounding tips those with scores
# close to the least chosen one. A router that is wrong differs in nearly all of them.
ROUTING_LIMITS = {"fp32": 0.01, "fp16": 0.05, "bf16": 0.1, "fp8": 0.5}
# A chosen token may be below the best one by so many standard deviations of their difference.
TIE_DEVIATIONS = 6.0
# The same where other experts may have been chosen, of deviations that these cause.
TIPPED_DEVIATIONS = 4.0


def combined_noise(floor: float, precision: str) -> float:
    """Relative distance of an implementation's logits from eager's, both as far from exact as
    rounding explains."""
    factors = FACTORS[precision]
    return max(math.hypot(1.0, factors.mean) * floor, factors.least)


def most_ties(expected: float) -> float:
    """How many of the chosen tokens may differ from the reference's, where so many are expected."""
    return expected + 4.0 * math.sqrt(expected) + 2.0
