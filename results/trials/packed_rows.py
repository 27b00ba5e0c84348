"""Microseconds of one row times weights in formats of 8 and 4 bits, by how the matrix is cut.

    python results/trials/packed_rows.py --output FILE.json

The matrices of Llama 3.1 8B, random ones, as many of each as L2 does not hold, in a CUDA graph of one
product after the other; the median of seven replays. Each cut is first held against the product with
the matrix that the words stand for, in float64; what is wrong is not timed.
"""

import argparse
import datetime
import json
import math
import sys
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from inference_benchmark.kernels.integer_gemv import launch_integer_gemv
from inference_benchmark.kernels.nf4_gemv import launch_nf4_gemv
from inference_benchmark.kernels.packed_matrix import PackedMatrix, RowPlan
from inference_benchmark.kernels.row_swiglu import swiglu_of_halves
from inference_benchmark.model.weight_formats import int4, int8, nf4
from inference_benchmark.system.environment import git_commit

# [out, in], and whether SwiGLU stands behind it.
MATRICES = {
    "qkv": (6144, 4096, False),
    "o": (4096, 4096, False),
    "gate, up": (28672, 4096, False),
    "gate, up, SwiGLU": (28672, 4096, True),
    "down": (4096, 14336, False),
}
FORMATS = {"int8": int8, "int4": int4, "nf4": nf4}
# Rows, tiles and warps of a program, perhaps the most registers of a thread, by format and columns.
CUTS = {
    ("int8", 4096): ((4, 2, 8), (4, 4, 8), (8, 1, 8), (8, 2, 8), (4, 2, 8, 64), (8, 2, 8, 64)),
    ("int8", 14336): ((2, 8, 16), (2, 8, 8), (2, 4, 16), (4, 2, 16), (4, 4, 16), (2, 4, 16, 64)),
    ("int4", 4096): (
        *((4, 2, 4), (4, 4, 4), (4, 8, 4), (8, 1, 4), (8, 2, 4), (8, 4, 4), (16, 1, 4)),
        *((4, 2, 4, 72), (8, 2, 4, 96), (16, 1, 4, 96)),
    ),
    ("int4", 14336): (
        *((2, 4, 8), (2, 8, 8), (4, 2, 8), (4, 4, 8), (4, 2, 16), (4, 4, 16), (8, 2, 16)),
        *((2, 8, 8, 96), (8, 2, 16, 64)),
    ),
    ("nf4", 4096): (
        *((2, 4, 4), (4, 1, 4), (4, 2, 4), (4, 4, 4), (4, 8, 4), (8, 1, 4), (8, 2, 4), (16, 1, 4)),
        *((8, 2, 4, 128), (8, 2, 4, 104), (8, 2, 4, 96), (8, 2, 4, 80), (4, 2, 4, 80)),
        *((4, 2, 4, 72), (4, 4, 4, 80), (8, 1, 4, 80), (16, 1, 4, 128), (8, 2, 2), (4, 2, 2)),
    ),
    ("nf4", 14336): (
        *((2, 4, 8), (2, 8, 8), (4, 1, 8), (4, 2, 8), (2, 4, 16), (4, 2, 16)),
        *((2, 8, 8, 128), (2, 8, 8, 96), (4, 2, 8, 128), (2, 4, 16, 64), (4, 2, 16, 64)),
        (8, 2, 16, 64),
    ),
}
MOST_ERROR = 0.005
BYTES_BEYOND_L2 = 200_000_000
REPLAYS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.manual_seed(1)
    trial = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "git_commit": git_commit(),
        "date": datetime.date.today().isoformat(),
        "matrices": {name: trial_of(*matrix) for name, matrix in MATRICES.items()},
    }
    arguments.output.write_text(json.dumps(trial, indent=1) + "\n")


def trial_of(out_features: int, in_features: int, swiglu: bool) -> dict:
    """By format its bytes and of each cut the error and the time."""
    scale = 1 / math.sqrt(in_features)
    matrix = torch.randn(out_features, in_features, device="cuda", dtype=torch.bfloat16) * scale
    x = torch.randn(1, in_features, device="cuda", dtype=torch.bfloat16)
    trials = {}
    for name, weight_format in FORMATS.items():
        tensors = weight_format.quantize(matrix)
        stored = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        copies = [packed(name, tensors) for _ in range(max(3, BYTES_BEYOND_L2 // stored))]
        expected = x.double() @ weight_format.dequantize(tensors, in_features, torch.float64).T
        expected = swiglu_of_halves(expected) if swiglu else expected
        cuts = [timed(x, copies, cut, swiglu, expected) for cut in CUTS[name, in_features]]
        trials[name] = {"bytes": stored, "cuts": cuts}
        print(name, out_features, in_features, trials[name], flush=True)
    return trials


def packed(name: str, tensors: tuple[Tensor, ...]) -> PackedMatrix:
    words, scales, *further = (tensor.clone() for tensor in tensors)
    zeros = [None] if name == "nf4" else []
    return PackedMatrix(name, words, scales, *zeros, *further)


def timed(
    x: Tensor, copies: list[PackedMatrix], cut: tuple[int, ...], swiglu: bool, expected: Tensor
) -> dict:
    launch = launch_nf4_gemv if copies[0].weight_format == "nf4" else launch_integer_gemv
    plan = RowPlan(*cut)
    result = launch(x, copies[0], plan, swiglu).double()
    error = float((result - expected).norm() / expected.norm())
    if not error < MOST_ERROR:
        return {"cut": cut, "error": error, "us": None}
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for matrix in copies:
            launch(x, matrix, plan, swiglu)
    graph.replay()
    torch.cuda.synchronize()
    times = []
    for _ in range(REPLAYS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1e3 / len(copies))
    return {"cut": cut, "error": error, "us": sorted(times)[REPLAYS // 2]}


if __name__ == "__main__":
    main()
