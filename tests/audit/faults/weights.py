"""Faults of weights, and of what is made of them."""

import copy

import torch

from audit.faults.registry import fault
from audit.faults.ways import int8, with_other_weights


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
