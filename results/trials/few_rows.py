"""Microseconds of a layer of Llama 3.1 8B at small batches, by how its matrices are cut.

    python results/trials/few_rows.py --output FILE.json

Norm, queries, keys and values, attention to 1,031 tokens, output, norm, gate and up, down: LAYERS of
them in a CUDA graph, with other weights in each; the median of seven times. One place's cut differs
at a time from those that the kernels choose, since what a kernel leaves free decides how the next one
begins. Each cut is first held against the product in float64, in poisoned memory; what is wrong is not
timed.
"""

import argparse
import dataclasses
import datetime
import json
import math
import sys
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from inference_benchmark.kernels.add_norm import launch_add_norm
from inference_benchmark.kernels.few_rows_linear import (
    Plan,
    choose_plan,
    few_rows_linear_reference,
    few_rows_swiglu_reference,
    launch_few_rows_linear,
    launch_few_rows_swiglu,
)
from inference_benchmark.kernels.few_rows_ring import RingPlan
from inference_benchmark.kernels.rope_decode import launch_rope_decode
from inference_benchmark.system.environment import git_commit

MATRICES = {"qkv": (6144, 4096), "o": (4096, 4096), "gate_up": (28672, 4096), "down": (4096, 14336)}
MULTIPROCESSORS = 132
TILES = {name: choose_plan(*matrix, MULTIPROCESSORS) for name, matrix in MATRICES.items()}
CUTS = {
    "qkv": [
        *(TILES["qkv"], Plan(64, 128, 1, num_stages=8)),
        *(RingPlan(64, 128, programs, 8) for programs in (96, 132)),
        *(RingPlan(64, 128, programs, 4) for programs in (96, 192, 264)),
        *(RingPlan(64, 256, 96, 4), RingPlan(128, 128, 132, 5)),
    ],
    "o": [
        *(TILES["o"], Plan(64, 128, 2, num_stages=8)),
        *(RingPlan(64, 128, programs, 8) for programs in (128, 132)),
        *(RingPlan(64, 128, programs, 4) for programs in (256, 264)),
        *(RingPlan(64, 256, 128, 4), RingPlan(128, 128, 132, 5)),
    ],
    "gate_up": [
        *(TILES["gate_up"], Plan(64, 128, 1, num_stages=8)),
        *(RingPlan(64, 128, 448, stages) for stages in (2, 4)),
        *(RingPlan(64, 256, 448, 2), RingPlan(64, 128, 132, 8), RingPlan(128, 128, 132, 5)),
    ],
    "down": [
        *(TILES["down"], Plan(64, 128, 2, num_stages=8)),
        *(RingPlan(64, 128, programs, 8) for programs in (128, 132)),
        *(RingPlan(64, 128, programs, 4) for programs in (256, 264)),
        *(RingPlan(64, 256, 128, 4), RingPlan(128, 128, 132, 5)),
    ],
}
ROWS = (32, 16, 8, 2)
LAYERS, SLOTS, FILLED = 8, 2048, 1031
MOST_ERROR = 0.004
TIMES = 7


class Layers:
    """Weights and caches of LAYERS layers, and a step's input."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.x = random_rows(rows, 4096)
        self.scale = torch.ones(4096, device="cuda", dtype=torch.bfloat16)
        self.angles = random_rows(1, 128)[0]
        self.position = torch.tensor([FILLED], device="cuda")
        self.weights = [
            {name: random_matrix(*matrix) for name, matrix in MATRICES.items()}
            for _ in range(LAYERS)
        ]
        shape = rows, 8, SLOTS, 128
        self.caches = [
            [torch.randn(shape, device="cuda", dtype=torch.bfloat16) for _ in "kv"]
            for _ in range(LAYERS)
        ]

    def run(self, plans: dict) -> None:
        update, total = self.x, self.x
        for weights, caches in zip(self.weights, self.caches, strict=True):
            normed, total = launch_add_norm(update, total, self.scale, 1e-5)
            qkv = launch_few_rows_linear(normed, weights["qkv"], plans["qkv"])
            qkv = qkv.view(self.rows, 48, 128)
            heads = launch_rope_decode(qkv, self.angles, self.angles, *caches, self.position)
            heads = heads.view(self.rows, 1, 4096)
            update = launch_few_rows_linear(heads, weights["o"], plans["o"])
            normed, total = launch_add_norm(update, total, self.scale, 1e-5)
            wide = launch_few_rows_swiglu(normed, weights["gate_up"], plans["gate_up"])
            update = launch_few_rows_linear(wide, weights["down"], plans["down"])

    def us(self, plans: dict) -> float:
        """Of a layer."""
        self.run(plans)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.run(plans)
        graph.replay()
        times = []
        for _ in range(TIMES):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(10):
                graph.replay()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) * 1e3 / (10 * LAYERS))
        return sorted(times)[TIMES // 2]

    def error(self, name: str, plan: Plan | RingPlan) -> float:
        """Of a product with the first layer's matrix."""
        is_gate = name == "gate_up"
        launch = launch_few_rows_swiglu if is_gate else launch_few_rows_linear
        reference = few_rows_swiglu_reference if is_gate else few_rows_linear_reference
        weight = self.weights[0][name]
        x = random_rows(self.rows, weight.shape[1])
        for elements in (1 << 18, 1 << 20, 1 << 22):  # memory that the kernel is then given
            torch.full((elements,), math.nan, device="cuda")
        result = launch(x, weight, plan).double()
        expected = reference(x.double(), weight.double())
        return float((result - expected).norm() / expected.norm())


def random_rows(rows: int, features: int) -> Tensor:
    return torch.randn(rows, 1, features, device="cuda", dtype=torch.bfloat16)


def random_matrix(out_features: int, in_features: int) -> Tensor:
    matrix = torch.randn(out_features, in_features, device="cuda", dtype=torch.bfloat16)
    return matrix.mul_(1 / math.sqrt(in_features))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.manual_seed(1)
    chosen = dict.fromkeys(MATRICES)
    trial = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "git_commit": git_commit(),
        "date": datetime.date.today().isoformat(),
        "rows": {},
        "cuts_of_32_rows": {},
    }
    for rows in ROWS:
        layers = Layers(rows)
        trial["rows"][rows] = {"tiles_us": layers.us(TILES), "chosen_us": layers.us(chosen)}
        print(rows, trial["rows"][rows], flush=True)
        if rows == ROWS[0]:
            trial["cuts_of_32_rows"] = {name: trial_of(layers, name) for name in MATRICES}
        arguments.output.write_text(json.dumps(trial, indent=1) + "\n")


def trial_of(layers: Layers, name: str) -> list[dict]:
    """Of each cut of one matrix the error, and what a layer takes with it."""
    cuts = []
    for plan in CUTS[name]:
        error = layers.error(name, plan)
        us = layers.us(dict.fromkeys(MATRICES) | {name: plan}) if error < MOST_ERROR else None
        kernel = {Plan: "tiles", RingPlan: "ring"}[type(plan)]
        cuts.append({"kernel": kernel, **dataclasses.asdict(plan), "error": error, "us": us})
        print(name, cuts[-1], flush=True)
    return cuts


if __name__ == "__main__":
    main()
