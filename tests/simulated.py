"""Sessions whose true times are known, and how often intervals hold them."""

import functools
import math

import numpy as np

SESSIONS = 4000
RUNS = 10
STEPS = 40
RUN_SPREAD = 0.01
STEP_SPREAD = 0.02


@functools.cache
def simulated_steps() -> np.ndarray:
    """Step times [session, run, step]: steps of a run share its level and follow each other."""
    generator = np.random.default_rng(20260102)
    level = RUN_SPREAD * generator.normal(size=(SESSIONS, RUNS, 1))
    shocks = generator.normal(size=(SESSIONS, RUNS, STEPS))
    steps = np.empty_like(shocks)
    steps[..., 0] = shocks[..., 0]
    for i in range(1, STEPS):  # first-order autoregression of unit variance
        steps[..., i] = 0.9 * steps[..., i - 1] + math.sqrt(1 - 0.9**2) * shocks[..., i]
    return 0.006 * np.exp(level + STEP_SPREAD * steps)


def covered(intervals, truth: float) -> float:
    """The share of intervals that hold the truth."""
    return float(np.mean([low <= truth <= high for low, high in intervals]))
