"""int4 with zero points: a group holds 0 to 15 less its zero point, times its scale.

The scale is the width of the group's range, zero included, over 15: where weights lie on one side
of zero, twice as fine as without zero points.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from inference_benchmark.kernels.int4_linear import int4_linear, int4_swiglu, pack_int4
from inference_benchmark.model.weight_formats.int4 import (
    LARGEST,
    LEAST_SCALE,
    SCALE_TYPE,
    dequantize,
    in_groups,
)
from inference_benchmark.model.weight_formats.rows import by_rows


def quantize(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """matrix [out, in] -> packed words [out, groups * 16], scales and zero points [out, groups],
    the latter in uint8."""
    return by_rows(_quantize, matrix)


def _quantize(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    groups = in_groups(matrix)
    least, most = groups.amin(dim=2).clamp(max=0.0), groups.amax(dim=2).clamp(min=0.0)
    scales = ((most - least) / LARGEST).clamp(min=LEAST_SCALE).to(SCALE_TYPE)
    zeros = torch.round(-least / scales.float()).clamp(0, LARGEST)
    values = torch.round(groups / scales.float()[:, :, None]) + zeros[:, :, None]
    return pack_int4(values.clamp(0, LARGEST).flatten(1)), scales, zeros.to(torch.uint8)


def int4_asymmetric_plain(x: Tensor, words: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
    return F.linear(x, dequantize((words, scales, zeros), x.shape[-1], x.dtype))


plain, fast, fast_swiglu = int4_asymmetric_plain, int4_linear, int4_swiglu
quantize_experts = quantize
__all__ = ["dequantize", "fast", "fast_swiglu", "plain", "quantize"]
