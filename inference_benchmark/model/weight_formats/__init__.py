"""Weight formats of --quantize, one file each; the table is weight_format.QUANTIZED.

A module has, for matrices [out, in] of a linear layer:

    quantize(matrix) -> tuple of tensors
    dequantize(weights, in_features, dtype) -> the matrix that they stand for
    plain(x [..., in], *weights) -> [..., out], in PyTorch alone
    fast(x, *weights) -> the same, with this project's kernels

and where a mixture's experts are stored:

    quantize_experts(matrix [experts * out, in], expert after expert) -> tuple of tensors, as
        kernels.stored_experts has them; what has a row for each row of the matrix has two dimensions

`plain` and `fast` are functions of tensors alone, which a tracer can take as one operator; the first
tensor has as many rows as the matrix. Where another package multiplies, both are what it ships, and
`dequantize` is written here, from what its numbers mean.
"""
