"""Faults of the tokens that are chosen and fed back."""

import torch

from audit.faults.registry import fault
from audit.faults.ways import around_steps, at


@fault("the chosen token is not the one fed back", listed=True)
def _(engine):
    stale = torch.zeros_like(engine.token)

    def step(forward, tokens, position, caches):
        result = forward(stale, position, caches)
        stale.copy_(tokens)
        return result

    around_steps(engine, step)


@fault("the token never changes")
def _(engine):
    def step(forward, tokens, position, caches):
        logits, token, *choices = forward(tokens, position, caches)
        return logits, tokens.clone(), *choices

    around_steps(engine, step)


@fault("argmax over half the vocabulary", listed=True)
def _(engine):
    def step(forward, tokens, position, caches):
        logits, _, *choices = forward(tokens, position, caches)
        half = logits[:, : logits.shape[1] // 2]
        return logits, half.argmax(dim=-1, keepdim=True), *choices

    around_steps(engine, step)


@fault("argmin", listed=True)
def _(engine):
    def step(forward, tokens, position, caches):
        logits, _, *choices = forward(tokens, position, caches)
        return logits, logits.argmin(dim=-1, keepdim=True), *choices

    around_steps(engine, step)


@fault("the second best token is chosen")
def _(engine):
    def step(forward, tokens, position, caches):
        logits, _, *choices = forward(tokens, position, caches)
        return logits, logits.topk(2, dim=-1).indices[:, 1:], *choices

    around_steps(engine, step)


@fault("step 100 alone is wrong", listed=True)
def _(engine):
    def step(forward, tokens, position, caches):
        logits, token, *choices = forward(tokens, position, caches)
        wrong = logits.roll(1, dims=-1)
        is_wrong = at(position, engine.plan.input_length + 99)
        logits = torch.where(is_wrong, wrong, logits)
        return logits, logits.argmax(dim=-1, keepdim=True), *choices

    around_steps(engine, step)


@fault("all sequences get the first one's token", needs="batch")
def _(engine):
    def step(forward, tokens, position, caches):
        logits, token, *choices = forward(tokens, position, caches)
        return logits, token[:1].expand_as(token).contiguous(), *choices

    around_steps(engine, step)
