"""nf4 of bitsandbytes: QLoRA's levels in groups of 64, whose scales are 8 bits each, multiplied by its
kernels.

Scales are looked up in a table of 256 values, between powers of ten, and multiplied by one of 32 bits
for each 256 of them; their mean is added.
"""

import torch
from torch import Tensor

from inference_benchmark.kernels.nf4_levels import LEVELS

GROUP = 64
_SCALE_BLOCK = 256


def quantize(matrix: Tensor) -> tuple[Tensor, ...]:
    """matrix [out, in], in a multiple of 64 -> bytes of two weights [out, in / 2], scales [groups] in
    8 bits, scales of these [blocks of 256], the table of scales [256], their mean []."""
    from bitsandbytes.functional import quantize_4bit

    pairs, state = quantize_4bit(
        matrix.contiguous(), blocksize=GROUP, compress_statistics=True, quant_type="nf4"
    )
    second = state.state2
    pairs = pairs.view(matrix.shape[0], -1)
    return pairs, state.absmax, second.absmax, second.code, state.offset


def dequantize(weights: tuple[Tensor, ...], in_features: int, dtype: torch.dtype) -> Tensor:
    """The matrix [out, in]; each weight is rounded to dtype once."""
    pairs, scales, scale_scales, table, mean = weights
    levels = torch.tensor(LEVELS, device=pairs.device)
    numbers = torch.stack((pairs >> 4, pairs & 15), dim=-1).flatten(1)
    of_block = scale_scales.repeat_interleave(_SCALE_BLOCK)[: scales.numel()]
    of_group = table[scales.int()] * of_block + mean
    groups = levels[numbers.int()].view(-1, GROUP) * of_group[:, None]
    return groups.view(numbers.shape).to(dtype)


def bitsandbytes_nf4(x: Tensor, pairs: Tensor, *further: Tensor) -> Tensor:
    from bitsandbytes import matmul_4bit
    from bitsandbytes.functional import QuantState

    scales, scale_scales, table, mean = further
    second = QuantState(
        absmax=scale_scales, code=table, blocksize=_SCALE_BLOCK, dtype=torch.float32
    )
    state = QuantState(
        absmax=scales,
        shape=torch.Size((pairs.shape[0], x.shape[-1])),
        blocksize=GROUP,
        quant_type="nf4",
        dtype=x.dtype,
        offset=mean,
        state2=second,
    )
    return matmul_4bit(x, pairs, quant_state=state)


plain, fast = bitsandbytes_nf4, bitsandbytes_nf4
