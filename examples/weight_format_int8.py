"""A weight format in one file: int8 weights, one scale per row, products in bf16.

    python examples/weight_format_int8.py --model-name llama-tiny --precision int8 --mode eager

Half of the bytes of bf16 are stored and, by a kernel that multiplies while it reads, would be read
per decode step. Here plain PyTorch makes a bf16 matrix of them first: right, not fast. In the
project itself this is a file in inference_benchmark/model and a line in weight_format.FORMATS.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from inference_benchmark.model.weight_format import WeightFormat, register

LARGEST = 127


def quantize(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """matrix [out, in] -> int8 values [out, in] and their scales [out, 1], rounded to nearest."""
    scales = (matrix.float().abs().amax(dim=1, keepdim=True) / LARGEST).clamp(min=1e-12)
    values = torch.round(matrix.float() / scales).to(torch.int8)
    return values, scales.to(matrix.dtype)


def linear(x: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
    """x [..., in] -> [..., out]"""
    values, scales = weights
    return F.linear(x, values.to(x.dtype) * scales)


INT8 = WeightFormat("int8", storage_bits=8, compute="bf16", scale_bits=16, module=__name__)
register(INT8)

if __name__ == "__main__":
    from inference_benchmark.benchmark_inference import run_program

    run_program()
