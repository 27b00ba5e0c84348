"""Faults of positions, of steps that do nothing, and of the prefill."""

from collections.abc import Callable

import torch

from audit.faults.registry import fault
from audit.faults.ways import around_steps, blend


@fault("the position never advances", listed=True)
def _(engine):
    step = engine._decode_step

    def stuck() -> None:
        before = engine.position.clone()
        step()
        engine.position.copy_(before)

    engine._decode_step = stuck


@fault("the position advances by two")
def _(engine):
    step = engine._decode_step

    def hasty() -> None:
        step()
        engine.position.add_(1)
        engine.position.clamp_(max=engine.tokens.shape[1] - 2)

    engine._decode_step = hasty


@fault("a stale position")
def _(engine):
    def step(forward, tokens, position, caches):
        return forward(tokens, (position - 1).clamp(min=0), caches)

    around_steps(engine, step)


def do_nothing_where(engine, is_idle: Callable) -> None:
    """Steps for which is_idle(position) leave all as it was, but the position."""
    step = engine._decode_step

    def idle() -> None:
        still = is_idle(engine.position)
        token = engine.token.clone()
        kept = [tensor.clone() for cache in engine.caches for tensor in cache]
        step()
        blend(still, token, engine.token)
        tensors = [tensor for cache in engine.caches for tensor in cache]
        for tensor, before in zip(tensors, kept, strict=True):
            blend(still, before, tensor)

    engine._decode_step = idle


@fault("nothing is done from the 32nd step after the prompt", listed=True)
def _(engine):
    do_nothing_where(engine, lambda position: position >= engine.plan.input_length + 32)


@fault("nothing is done after 100 calls", listed=True)
def _(engine):
    decode, calls = engine.decode, [0]

    def lazy() -> None:
        calls[0] += 1
        if calls[0] <= 100:
            decode()

    engine.decode = lazy


@fault("every 64th step is left out")
def _(engine):
    do_nothing_where(engine, lambda position: position % 64 == 63)


@fault("the first prompt's prefill is replayed", listed=True)
def _(engine):
    prefill, first = engine.prefill, []

    def replayed(input_ids) -> None:
        first.append(input_ids)
        prefill(first[0])

    engine.prefill = replayed


@fault("the prompt's last token is left out")
def _(engine):
    prefill = engine.prefill
    engine.prefill = lambda input_ids: prefill(input_ids.roll(1, dims=1))


@fault("the prefill's logits are those of the position before")
def _(engine):
    forward = engine.run_decoder

    def changed(tokens, position, caches, *rest):
        if tokens.shape[1] <= 2:
            return forward(tokens, position, caches, *rest)
        result = forward(tokens[:, :-1], position, caches, *rest)
        wrong = [
            output.clone() if isinstance(output, torch.Tensor) else output for output in result[:2]
        ]
        logits, token, *choices = forward(tokens, position, caches, *rest)
        return wrong[0], wrong[1], *choices

    engine.run_decoder = changed
