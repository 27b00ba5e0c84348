"""int4 of torchao, tile-packed: groups of 128 with a scale and an offset each, multiplied by the
kernel that PyTorch has for it (tinygemm), on GPUs only.

A weight is (stored number - 8) * scale + offset. The numbers lie as the matrix units take them: a
word holds eight, of 8 rows by 16 columns a thread's share, twice.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from inference_benchmark.model.weight_formats.torchao_int8 import converted

GROUP = 128
_TILE_ROWS = 8


def quantize(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """matrix [out, in] in bf16 -> words [out, padded columns / 8], scales and offsets
    [padded columns / 128, out, 2] in bf16. Columns are filled up to a multiple of 1024."""
    from torchao.quantization import Int4WeightOnlyConfig

    config = Int4WeightOnlyConfig(
        group_size=GROUP, int4_packing_format="tile_packed_to_4d", set_inductor_config=False
    )
    weight = converted(matrix, config)
    return weight.qdata.reshape(matrix.shape[0], -1), weight.scale_and_zero


def unpack(words: Tensor) -> Tensor:
    """words [out, padded columns / 8] -> stored numbers [out, padded columns], int32."""
    tiles = words.view(-1, words.shape[1] // 16, _TILE_ROWS, 4, 4)
    numbers = torch.stack([(tiles >> shift) & 15 for shift in range(0, 32, 4)], dim=-1)
    # [row tile, 128 columns, row, column pair, 32 columns, odd, 8 columns]
    numbers = numbers.unflatten(-1, (2, 4)).permute(0, 2, 1, 4, 6, 3, 5)
    return numbers.reshape(words.shape[0], -1)


def dequantize(weights: tuple[Tensor, ...], in_features: int, dtype: torch.dtype) -> Tensor:
    """The matrix [out, in_features]; each weight is rounded to bf16, as in the kernel."""
    words, scales_and_offsets = weights
    scales, offsets = scales_and_offsets.float().permute(2, 1, 0)[..., None]
    numbers = unpack(words).view(words.shape[0], -1, GROUP) - 8
    matrix = (numbers * scales + offsets).to(torch.bfloat16).flatten(1)
    return matrix[:, :in_features].to(dtype)


def torchao_int4(x: Tensor, words: Tensor, scales_and_offsets: Tensor) -> Tensor:
    from torchao.quantization import Int4TilePackedTo4dTensor

    rows = words.shape[0]
    packed = words.view(rows // _TILE_ROWS, words.shape[1] // 16, 32, 4)
    shape = torch.Size((rows, x.shape[-1]))
    weight = Int4TilePackedTo4dTensor(packed, scales_and_offsets, [1, GROUP], shape)
    return F.linear(x, weight)


plain, fast = torchao_int4, torchao_int4
