"""A linear layer over 8-bit integers with one scale per row of the matrix.

One row of x is int8_gemv's, a few are few_rows'; a prompt gets the matrix unpacked.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from inference_benchmark.kernels._registration import register_operator
from inference_benchmark.kernels.few_rows import MAX_ROWS, launch_few_rows
from inference_benchmark.kernels.int8_gemv import BLOCK, launch_int8_gemv
from inference_benchmark.kernels.packed_words import WORDS, launch_unpack

ZERO = 128  # what the value 0 is stored as


def int8_linear(x: torch.Tensor, words: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """x @ matrix.T, matrix[r, c] = scales[r] * (stored value - 128).

    Args:
        x: [..., in_features], contiguous.
        words: [out_features, blocks * 16], int32: bits 8i to 8i + 7 of word j of a block are the
            stored value of the block's column 16 i + j. Columns beyond in_features are ignored.
        scales: [out_features, 1], fp32.

    Returns:
        [..., out_features] of x's dtype. For one row products and sums are in fp32, rounded once; for
        more the weights are rounded to x's dtype first.
    """
    return _operator(x, words, scales)


def pack_int8(values: torch.Tensor) -> torch.Tensor:
    """Integers -128 to 127 [rows, columns] -> words [rows, blocks * 16]."""
    rows, columns = values.shape
    padded = F.pad(values.to(torch.int32) + ZERO, (0, -columns % BLOCK), value=ZERO)
    planes = padded.view(rows, -1, BLOCK // WORDS, WORDS)
    words = torch.zeros_like(planes[:, :, 0])
    for plane in range(BLOCK // WORDS):
        words |= planes[:, :, plane] << (8 * plane)
    return words.flatten(1)


def unpack_int8(words: torch.Tensor) -> torch.Tensor:
    """words [rows, blocks * 16] -> integers [rows, blocks * 64], fp32."""
    # Byte by byte, of which a word has its first in the lowest bits.
    parts = words.view(torch.uint8).view(words.shape[0], -1, WORDS, BLOCK // WORDS)
    return parts.transpose(2, 3).flatten(1).to(torch.float32) - ZERO


def int8_linear_reference(
    x: torch.Tensor, words: torch.Tensor, scales: torch.Tensor
) -> torch.Tensor:
    """The same in plain PyTorch."""
    matrix = unpack_int8(words)[:, : x.shape[-1]] * scales
    return F.linear(x, matrix.to(x.dtype))


def _launch(x: torch.Tensor, words: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    x = x.contiguous()
    num_rows = x.numel() // x.shape[-1]
    if num_rows == 1:
        return launch_int8_gemv(x, words, scales)
    if num_rows <= MAX_ROWS:
        return launch_few_rows("int8", x, words, scales)
    return F.linear(x, launch_unpack("int8", words, scales, x.shape[-1], x.dtype))


def _fake(x: torch.Tensor, words: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    return torch.empty((*x.shape[:-1], words.shape[0]), dtype=x.dtype, device=x.device)


_operator = register_operator("int8_linear", int8_linear_reference, _launch, _fake)
