"""fp8-dynamic: weights as fp8 has them, and each row of activations scaled into e4m3 as it comes.

The matrix units multiply 8-bit floats at twice the rate of bf16, so prompts gain. A step of a few
rows is bound by reading the weights, which are the same; with this project's kernels it leaves the
activations as they are.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from inference_benchmark.kernels.fp8_linear import fp8_linear, fp8_swiglu
from inference_benchmark.model.weight_formats.fp8 import (
    dequantize,
    quantize,
    quantize_experts,
    quantize_rows,
)

_ALIGNMENT = 16  # of both features, of the products on a GPU
# Rows of x up to which reading the weights is all that takes time.
_FEW_ROWS = 16


def fp8_dynamic_plain(x: Tensor, values: Tensor, scales: Tensor) -> Tensor:
    rows = x.reshape(-1, x.shape[-1])
    quantized, row_scales = quantize_rows(rows)
    out = _product(quantized, row_scales, values, scales, x.dtype)
    return out.view(*x.shape[:-1], values.shape[0])


def fp8_dynamic_linear(x: Tensor, values: Tensor, scales: Tensor) -> Tensor:
    """With this project's kernel for a few rows."""
    if x.numel() // x.shape[-1] <= _FEW_ROWS:
        return fp8_linear(x, values, scales)
    return fp8_dynamic_plain(x, values, scales)


def _product(
    rows: Tensor, row_scales: Tensor, values: Tensor, scales: Tensor, dtype: torch.dtype
) -> Tensor:
    """(row_scales * rows) @ (scales * values).T, the scales applied to the sums."""
    is_aligned = values.shape[0] % _ALIGNMENT == 0 and values.shape[1] % _ALIGNMENT == 0
    if rows.device.type == "cuda" and is_aligned and dtype == torch.bfloat16:
        return torch._scaled_mm(
            rows,
            values.t(),
            scale_a=row_scales,
            scale_b=scales.t(),
            out_dtype=dtype,
            use_fast_accum=True,
        )
    wide = torch.promote_types(dtype, torch.float32)
    sums = F.linear(rows.to(wide), values.to(wide))
    return (sums * row_scales.to(wide) * scales.t().to(wide)).to(dtype)


plain, fast, fast_swiglu = fp8_dynamic_plain, fp8_dynamic_linear, fp8_swiglu
__all__ = ["dequantize", "fast", "fast_swiglu", "plain", "quantize", "quantize_experts"]
