"""Blocks of GGUF's quantised types from values, on any device, all blocks at once.

As ggml-quants.c's reference functions make them, bit for bit; the tests hold them against those of the
package gguf, which takes minutes for what a GPU does in a second.
"""

from collections.abc import Callable

import torch
from torch import Tensor

BLOCK = 32  # values of a row that share a scale
_AT_A_TIME = 1 << 22  # values: each step makes a few tensors of as many


def quantize(values: Tensor, type_name: str) -> Tensor:
    """values [rows, columns], columns a multiple of BLOCK -> bytes [rows, ...], uint8."""
    parts = [
        _TYPES[type_name](part.float().reshape(-1, BLOCK)).view(part.shape[0], -1)
        for part in values.split(max(1, _AT_A_TIME // values.shape[1]))
    ]
    return torch.cat(parts)


def _q8_0(blocks: Tensor) -> Tensor:
    """[blocks, 32] -> [blocks, 34]: a scale in fp16, 32 signed bytes."""
    scale = blocks.abs().amax(dim=1, keepdim=True) / 127
    steps = blocks * _inverse(scale)
    whole = steps.abs().floor()
    rounded = whole + (2 * (steps.abs() - whole)).floor()  # halves go away from zero
    return _joined(scale, (steps.sign() * rounded).to(torch.int8).view(torch.uint8))


def _q4_0(blocks: Tensor) -> Tensor:
    """[blocks, 32] -> [blocks, 18]: a scale in fp16, 16 bytes of two values each; 8 stands for zero.
    The value farthest from zero becomes -8 steps."""
    farthest = blocks.gather(1, blocks.abs().argmax(dim=1, keepdim=True))
    scale = farthest / -8
    steps = (blocks * _inverse(scale) + 8.5).trunc().clamp(0, 15).to(torch.uint8)
    lower, upper = steps.chunk(2, dim=1)
    return _joined(scale, lower | (upper << 4))


def _inverse(scale: Tensor) -> Tensor:
    return torch.where(scale == 0, torch.zeros_like(scale), 1 / scale)


def _joined(scale: Tensor, values: Tensor) -> Tensor:
    return torch.cat((scale.half().view(torch.uint8), values), dim=1)


_TYPES: dict[str, Callable[[Tensor], Tensor]] = {"Q8_0": _q8_0, "Q4_0": _q4_0}
