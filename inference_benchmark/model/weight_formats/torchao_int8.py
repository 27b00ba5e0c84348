"""int8 of torchao: whole numbers with a scale per row, multiplied as torchao ships it.

The values are converted to x's type and multiplied, the scales applied to the products, in x's type
too. A compiler sees these operations; in eager the converted matrix is written and read again.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def quantize(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """matrix [out, in] -> values [out, in] in int8, scales [out, 1] in fp32."""
    from torchao.quantization import Int8WeightOnlyConfig

    weight = converted(matrix, Int8WeightOnlyConfig(set_inductor_config=False))
    return weight.qdata, weight.scale


def converted(matrix: Tensor, config) -> Tensor:
    """The matrix as the weight of a linear layer that torchao quantised, a tensor of its own class.

    Its settings of inductor would hold for all cells of a session, so configurations leave them out.
    """
    from torchao.quantization import quantize_

    layer = nn.Linear(1, 1, bias=False)
    layer.weight = nn.Parameter(matrix, requires_grad=False)
    holder = nn.Sequential(layer)
    quantize_(holder, config)
    return holder[0].weight


def dequantize(weights: tuple[Tensor, ...], in_features: int, dtype: torch.dtype) -> Tensor:
    """The matrix [out, in]; each weight is rounded to dtype once."""
    values, scales = weights
    return (values.float() * scales).to(dtype)


def torchao_int8(x: Tensor, values: Tensor, scales: Tensor) -> Tensor:
    from torchao.quantization import Int8Tensor

    return F.linear(x, Int8Tensor(values, scales, [1, values.shape[1]], x.dtype))


plain, fast = torchao_int8, torchao_int8
