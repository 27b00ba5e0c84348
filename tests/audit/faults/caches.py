"""Faults of what is cached, and of what attention takes from it."""

from collections.abc import Callable

import torch

from audit.faults.registry import fault
from audit.faults.ways import around_steps, at, blend, fp8, int8


@fault("a slot is overwritten at step 40", listed=True)
def _(engine):
    def step(forward, tokens, position, caches):
        result = forward(tokens, position, caches)
        cache = caches[len(caches) // 2][0]
        wrong = cache.clone()
        wrong[:, :, 5] = cache[:, :, 6]
        blend(at(position, engine.plan.input_length + 39), wrong, cache)
        return result

    around_steps(engine, step)


@fault("one head of one slot is overwritten at step 40")
def _(engine):
    def step(forward, tokens, position, caches):
        result = forward(tokens, position, caches)
        cache = caches[-1][-1]
        wrong = cache.clone()
        wrong[0, 0, 5] = cache[0, 0, 6]
        blend(at(position, engine.plan.input_length + 39), wrong, cache)
        return result

    around_steps(engine, step)


@fault("tokens are cached one slot off")
def _(engine):
    def step(forward, tokens, position, caches):
        result = forward(tokens, position, caches)
        for cache in caches:
            for tensor in cache:
                there = tensor.index_select(2, position)
                following = (position + 1).clamp(max=tensor.shape[2] - 1)
                tensor.index_copy_(2, following, there)
                tensor.index_fill_(2, position, 0)
        return result

    around_steps(engine, step)


@fault("steps write no cache")
def _(engine):
    def step(forward, tokens, position, caches):
        copies = [tuple(tensor.clone() for tensor in cache) for cache in caches]
        return forward(tokens, position, copies)

    around_steps(engine, step)


@fault("an unused slot is written")
def _(engine):
    def step(forward, tokens, position, caches):
        caches[-1][-1][0, 0, -1, 3].fill_(0.5)  # no copy from the host, which no graph may have
        return forward(tokens, position, caches)

    around_steps(engine, step)


@fault("keys and values are swapped in one layer", needs="keys and values")
def _(engine):
    def step(forward, tokens, position, caches):
        result = forward(tokens, position, caches)
        keys, values = caches[-1]
        key = keys.index_select(2, position)
        keys.index_copy_(2, position, values.index_select(2, position))
        values.index_copy_(2, position, key)
        return result

    around_steps(engine, step)


def round_caches(engine, rounded: Callable, layers: slice = slice(None)) -> None:
    """What is written is rounded."""

    def step(forward, tokens, position, caches):
        result = forward(tokens, position, caches)
        count = tokens.shape[1]
        slots = torch.arange(count, device=tokens.device) if count > 1 else position
        for cache in caches[layers]:
            for tensor in cache:
                tensor.index_copy_(2, slots, rounded(tensor.index_select(2, slots)))
        return result

    around_steps(engine, step, prompts=True)


@fault("fp8 KV cache", listed=True)
def _(engine):
    round_caches(engine, fp8)


@fault("int8 KV cache", listed=True)
def _(engine):
    round_caches(engine, int8)


@fault("fp8 KV cache of the deepest layer alone")
def _(engine):
    round_caches(engine, fp8, slice(-1, None))


def hide(engine, is_hidden: Callable) -> None:
    """Steps do not attend to slots for which is_hidden(slots, position)."""
    forward = engine.run_decoder
    begin = forward.begin

    def hiding(tokens, position, *rest):
        *start, mask = begin(tokens, position, *rest)
        if mask is not None:
            slots = torch.arange(mask.shape[-1], device=mask.device)
            mask = mask & ~is_hidden(slots, position)
        return *start, mask

    forward.begin = hiding


for _share, _listed in ((0.01, True), (0.03, True), (0.1, True), (0.5, True)):

    def _install(engine, share=_share):
        def is_hidden(slots, position):  # short contexts, where one slot weighs much, are right
            return (slots < (position * share).ceil()) & (position >= engine.plan.input_length)

        hide(engine, is_hidden)

    fault(f"the oldest {_share:.0%} of the cache is left out", listed=_listed)(_install)


@fault("one slot in the middle is left out")
def _(engine):
    hide(engine, lambda slots, position: slots == position // 2)


@fault("a token does not see itself")
def _(engine):
    hide(engine, lambda slots, position: (slots == position) & (position > 0))


@fault("one tile of 16 slots is left out")
def _(engine):
    hide(engine, lambda slots, position: (slots >= 16) & (slots < 32))
