"""Values of a GGUF tensor from its bytes, on any device, all blocks at once.

A quantised type stores a row in blocks: a few small integers that share one or two fp16 scales. The
layouts are those of ggml-quants.c; the tests hold them against those of the package gguf.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from inference_benchmark.model.gguf.container import TensorType


def dequantize(stored: Tensor, tensor_type: TensorType) -> Tensor:
    """stored: [bytes], uint8, whole blocks -> the values [count]; fp32 of a quantised type."""
    if tensor_type.name in _PLAIN:
        return stored.view(_PLAIN[tensor_type.name])
    blocks = stored.view(-1, tensor_type.block_bytes)
    return _QUANTISED[tensor_type.name](blocks).flatten()


def _scale(blocks: Tensor, first: int) -> Tensor:
    """The fp16 number at that byte of each block -> [blocks, 1], fp32."""
    return blocks[:, first : first + 2].contiguous().view(torch.float16).float()


def _halves(packed: Tensor) -> tuple[Tensor, Tensor]:
    """The lower and the upper four bits of bytes."""
    return packed & 0x0F, packed >> 4


def _q8_0(blocks: Tensor) -> Tensor:
    """[blocks, 34]: a scale, 32 signed bytes -> [blocks, 32]."""
    return _scale(blocks, 0) * blocks[:, 2:].contiguous().view(torch.int8).float()


def _q4_0(blocks: Tensor) -> Tensor:
    """[blocks, 18]: a scale, 16 bytes: value i is the lower half of byte i, value 16 + i the upper
    half; 8 stands for zero -> [blocks, 32]."""
    values = torch.cat(_halves(blocks[:, 2:]), dim=1)
    return _scale(blocks, 0) * (values.float() - 8)


def _q4_k(blocks: Tensor) -> Tensor:
    """[blocks, 144]: two scales, 12 bytes of 6-bit factors, 128 bytes of 4-bit values -> [blocks, 256]."""
    return _grouped(blocks, _nibble_groups(blocks[:, 16:]))


def _q5_k(blocks: Tensor) -> Tensor:
    """[blocks, 176]: as Q4_K, with 32 bytes before the values whose bits are the fifth: bit g of byte
    i belongs to value i of group g -> [blocks, 256]."""
    fifth = torch.stack([(blocks[:, 16:48] >> group) & 1 for group in range(8)], dim=1)
    return _grouped(blocks, _nibble_groups(blocks[:, 48:]) | (fifth << 4))


def _nibble_groups(packed: Tensor) -> Tensor:
    """[blocks, 128] -> [blocks, 8, 32]: two groups lie in 32 bytes, in lower halves and in upper."""
    return torch.stack(_halves(packed.unflatten(1, (4, 32))), dim=2).flatten(1, 2)


def _grouped(blocks: Tensor, values: Tensor) -> Tensor:
    """Of 8 groups of 32 values: scale * factor * stored - offset scale * offset factor."""
    factors, offsets = _k_factors(blocks[:, 4:16])
    scales = _scale(blocks, 0) * factors.float()  # [blocks, 8]
    offsets = _scale(blocks, 2) * offsets.float()
    return (scales[:, :, None] * values.float() - offsets[:, :, None]).flatten(1)


def _k_factors(packed: Tensor) -> tuple[Tensor, Tensor]:
    """[blocks, 12] -> factors and offset factors of the 8 groups, [blocks, 8] each: 6-bit numbers, the
    first four whole in the low bits of bytes 0 - 3 and 4 - 7, the last four with their low bits in
    bytes 8 - 11 and their two high bits on top of the first four."""
    first, second, third = packed.unflatten(1, (3, 4)).unbind(1)
    low, high = _halves(third)
    factors = torch.cat((first & 0x3F, low | ((first >> 6) << 4)), dim=1)
    offsets = torch.cat((second & 0x3F, high | ((second >> 6) << 4)), dim=1)
    return factors, offsets


def _q6_k(blocks: Tensor) -> Tensor:
    """[blocks, 210]: 128 bytes of four low bits, 64 of two high bits, 16 signed factors, a scale:
    value = scale * factor * (stored - 32) -> [blocks, 256]. Each half of a block, 128 values, is four
    rows of 32: the lower halves of 64 bytes and their upper halves, with two high bits each in turn."""
    low = torch.stack(_halves(blocks[:, :128].unflatten(1, (2, 64))), dim=2)  # [blocks, 2, 2, 64]
    high = blocks[:, 128:192].unflatten(1, (2, 32))
    high = torch.stack([(high >> shift) & 3 for shift in (0, 2, 4, 6)], dim=2)  # [blocks, 2, 4, 32]
    values = (low.flatten(1) | (high.flatten(1) << 4)).float() - 32
    factors = blocks[:, 192:208].contiguous().view(torch.int8).float()
    scales = _scale(blocks, 208) * factors  # [blocks, 16], each of 16 values
    return (scales[:, :, None] * values.unflatten(1, (16, 16))).flatten(1)


_PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_QUANTISED: dict[str, Callable[[Tensor], Tensor]] = {
    "Q8_0": _q8_0,
    "Q4_0": _q4_0,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}
