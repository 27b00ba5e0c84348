"""Ways in which an engine can be wrong, each put into a StepEngine so that it acts in what is timed.

Most act on tensors alone, without a word from the host, so that they are captured in a CUDA graph
like everything else in a step. `listed` are those that an earlier check let pass.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from unittest import mock

import torch

from inference_benchmark.engines.step_engine import StepEngine


@dataclass(frozen=True)
class Fault:
    name: str
    install: Callable  # takes a StepEngine that was just made
    listed: bool = False
    needs: str = "any"  # "mixture", "keys and values" (not MLA), "batch" (several sequences)


FAULTS: dict[str, Fault] = {}


def fault(name: str, listed: bool = False, needs: str = "any"):
    def register(install: Callable) -> Callable:
        FAULTS[name] = Fault(name, install, listed, needs)
        return install

    return register


def injected(name: str | None):
    """A context in which every StepEngine that is made has this fault; None: none."""
    make = StepEngine.__init__

    def faulty(engine, *arguments, **keywords) -> None:
        make(engine, *arguments, **keywords)
        if name is not None:
            FAULTS[name].install(engine)

    return mock.patch.object(StepEngine, "__init__", faulty)


# How faults are put in


def around_steps(engine: StepEngine, change: Callable, prompts: bool = False) -> None:
    """change(forward, tokens, position, caches) instead of the forward of single tokens."""
    forward = engine.run_decoder

    def changed(tokens, position, caches, *rest):
        if tokens.shape[1] > 1 and not prompts:
            return forward(tokens, position, caches, *rest)
        return change(forward, tokens, position, caches)

    engine.run_decoder = changed


def with_other_weights(engine: StepEngine, change: Callable) -> None:
    """change(decoder) alters a copy of the weights, which the engine then uses."""
    forward = engine.run_decoder
    with torch.no_grad():
        other = copy.deepcopy(forward.decoder)
        change(other)
    forward.decoder = other
    if not hasattr(forward, "layer_functions"):
        raise TypeError("a forward that is compiled as a whole keeps its weights")


def at(position: torch.Tensor, where: int) -> torch.Tensor:
    return position == where


def blend(is_wrong: torch.Tensor, wrong: torch.Tensor, right: torch.Tensor) -> None:
    """right becomes wrong where it is so, in place."""
    right.copy_(torch.where(is_wrong, wrong, right))


def int8(weight: torch.Tensor) -> torch.Tensor:
    """Rounded to 8 bits with one scale per row."""
    scale = weight.float().abs().amax(dim=-1, keepdim=True).clamp(min=1e-12) / 127
    return ((weight.float() / scale).round() * scale).to(weight.dtype)


def fp8(values: torch.Tensor) -> torch.Tensor:
    return values.to(torch.float8_e4m3fn).to(values.dtype)


# Tokens


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


# Positions and steps


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


# Prefill


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


# Caches


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


# Attention


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


# Weights


def linears(decoder):
    skipped = ("router", "lm_head")
    return {
        name: module
        for name, module in decoder.layers.named_modules()
        if getattr(module, "weight", None) is not None
        and module.weight.dim() >= 2
        and not name.endswith(skipped)
    }


@fault("int8 weights", listed=True)
def _(engine):
    def change(decoder):
        for module in linears(decoder).values():
            module.weight.copy_(int8(module.weight))

    with_other_weights(engine, change)


@fault("int8 weights of feed-forward layers alone")
def _(engine):
    def change(decoder):
        for name, module in linears(decoder).items():
            if "gate_up" in name or "down" in name:
                module.weight.copy_(int8(module.weight))

    with_other_weights(engine, change)


@fault("int8 weights in steps alone")
def _(engine):
    forward = engine.run_decoder
    other = copy.deepcopy(forward.decoder)
    with torch.no_grad():
        for module in linears(other).values():
            module.weight.copy_(int8(module.weight))
    decoder = forward.decoder

    def changed(tokens, *rest):
        forward.decoder = decoder if tokens.shape[1] > 1 else other
        return forward(tokens, *rest)

    engine.run_decoder = changed


@fault("an expert of the last layer is swapped", listed=True, needs="mixture")
def _(engine):
    def change(decoder):
        weight = [m for n, m in linears(decoder).items() if "expert_down" in n][-1].weight
        weight[[0, 1]] = weight[[1, 0]]

    with_other_weights(engine, change)


@fault("the last 64 rows of the head are zero", listed=True)
def _(engine):
    def change(decoder):
        decoder.lm_head.weight[-64:] = 0

    with_other_weights(engine, change)


@fault("the weights of two layers are swapped")
def _(engine):
    def change(decoder):
        first, second = decoder.layers[0].o_proj.weight, decoder.layers[-1].o_proj.weight
        first.data, second.data = second.data, first.data

    with_other_weights(engine, change)


@fault("a norm's weight is missing")
def _(engine):
    def change(decoder):
        decoder.layers[-1].post_attention_layernorm.weight.fill_(1)

    with_other_weights(engine, change)


@fault("the last layer is left out")
def _(engine):
    def change(decoder):
        for name, module in decoder.layers[-1].named_modules():
            if name in ("o_proj", "down_proj", "expert_down_proj", "shared_down_proj"):
                module.weight.zero_()

    with_other_weights(engine, change)


@fault("the attention of a middle layer is left out")
def _(engine):
    def change(decoder):
        decoder.layers[len(decoder.layers) // 2].o_proj.weight.zero_()

    with_other_weights(engine, change)


@fault("rotary angles of another base")
def _(engine):
    def change(decoder):
        shift = decoder.rope_cos.shape[0] // 100 + 1
        decoder.rope_cos = decoder.rope_cos.roll(shift, 0)
        decoder.rope_sin = decoder.rope_sin.roll(shift, 0)

    with_other_weights(engine, change)


@fault("experts are chosen one off", needs="mixture")
def _(engine):
    def change(decoder):
        for name, module in decoder.layers.named_modules():
            if name.endswith("router"):
                module.weight.copy_(module.weight.roll(1, 0))

    with_other_weights(engine, change)


# Logits


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
