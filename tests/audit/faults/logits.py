"""Faults of the logits alone."""

from audit.faults.registry import fault
from audit.faults.ways import around_steps


@fault("logits are not numbers")
def _(engine):
    def step(forward, tokens, position, caches):
        logits, token, *choices = forward(tokens, position, caches)
        return logits * float("nan"), token, *choices

    around_steps(engine, step)


@fault("logits of two sequences are swapped", needs="batch")
def _(engine):
    def step(forward, tokens, position, caches):
        logits, token, *choices = forward(tokens, position, caches)
        return logits.flip(0), token.flip(0), *choices

    around_steps(engine, step)


@fault("logits are 3 % too large")
def _(engine):
    def step(forward, tokens, position, caches):
        logits, token, *choices = forward(tokens, position, caches)
        return logits * 1.03, token, *choices

    around_steps(engine, step, prompts=True)
