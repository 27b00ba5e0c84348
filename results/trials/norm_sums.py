"""RMS norms divided between the products around them, against a kernel for each norm.

    python results/trials/norm_sums.py --output FILE.json

The product before a norm adds the residual stream to the rows it has, stores their sum, and that
times the norm's weight, and adds up the squares. The product behind it multiplies as it would any
vector and divides its results by the root mean square. So nobody normalises, and two of six launches
a layer go. Squares are added as whole numbers in units of 2^-24, the same bits in every run, or left
as one partial sum a program, which all programs of the next product read and add.

Layers of Llama 3.2 1B and 3.1 8B at batch 1, attention left out: the queries stand for its result.
All layers are one CUDA graph, replayed for seconds, the ways in turn, since the larger model runs at
the board's power limit; each way is held against the same layers in fp64 and its bits between replays.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import triton
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from inference_benchmark.kernels.add_norm import add_norm
from inference_benchmark.kernels.gemv import choose_plan, gemv, gemv_swiglu
from inference_benchmark.system.environment import git_commit
from inference_benchmark.system.gpu_state import GpuMonitor
from results.trials.capturing import captured
from results.trials.divided_norm import EPS, product

MOST_SLOTS = 32
MOST_ERROR = 1.25  # times that of the chain


@dataclass(frozen=True)
class Shapes:
    """Of a model's layers."""

    layers: int
    hidden: int
    qkv: int
    width: int
    seconds: float  # of replays at a time


MODELS = {
    "llama3.2-1b": Shapes(16, 2048, 3072, 8192, 0.8),
    "llama3.1-8b": Shapes(32, 4096, 6144, 14336, 1.6),
}
ROUNDS = 2


@dataclass(frozen=True)
class Way:
    """slots: sums that programs share by turns; 0: a partial sum for each program. inner_only: the
    norm between layers stays a kernel. All of them exchange the sums of a program's rows at once."""

    slots: int
    inner_only: bool = False


WAYS = {
    "one sum": Way(1),
    "16 sums": Way(16),
    "partial sums": Way(0),
    "one sum, inner norms": Way(1, True),
}


class Layers:
    """Weights at the scale that keeps activations near unit variance, and the ways."""

    def __init__(self, shapes: Shapes, device: str) -> None:
        torch.manual_seed(0)

        def random(*shape: int) -> Tensor:
            values = torch.empty(shape, dtype=torch.bfloat16, device=device)
            return values.normal_(std=shape[-1] ** -0.5)

        count, hidden = shapes.layers, shapes.hidden
        self.shapes = shapes
        # The last is of a norm behind the layers, which the chain leaves out.
        self.norms = random(2 * count + 1, hidden) * hidden**0.5 * 0.2 + 1
        self.qkv = random(count, shapes.qkv, hidden)
        self.o = random(count, hidden, hidden)
        self.gate_up = random(count, 2 * shapes.width, hidden)
        self.down = random(count, hidden, shapes.width)
        self.start = random(1, hidden) * hidden**0.5
        self.zero = torch.zeros_like(self.start)
        self.sums = torch.zeros(2, MOST_SLOTS, dtype=torch.int64, device=device)

    @property
    def matrices(self) -> tuple[Tensor, ...]:
        return self.qkv, self.o, self.gate_up, self.down

    def reference(self) -> Tensor:
        """In fp64."""
        hidden = self.shapes.hidden
        residual = self.start.double()
        for layer, (qkv, o, gate_up, down) in enumerate(zip(*self.matrices, strict=True)):
            norm, inner_norm = self.norms[2 * layer : 2 * layer + 2].double()
            queries = F.rms_norm(residual, (hidden,), norm, EPS) @ qkv[:hidden].double().T
            residual = residual + queries @ o.double().T
            normed = F.rms_norm(residual, (hidden,), inner_norm, EPS)
            product = torch.cat([normed @ half.double().T for half in gate_up.chunk(2)])
            residual = residual + (F.silu(product[:1]) * product[1:]) @ down.double().T
        return residual

    def chain(self, norms: bool = True, joined: bool = False) -> Tensor:
        """This project's kernels, six a layer; without norms four, whose results mean nothing, of
        vectors that are no easier on the board. joined: threads exchange the sums of a program's
        rows at once."""
        hidden = self.shapes.hidden
        linear = partial(product, slots=1) if joined else gemv
        linear_swiglu = partial(product, slots=1, swiglu=True) if joined else gemv_swiglu
        residual, update, x = self.start, self.zero, self.start
        for layer, (qkv, o, gate_up, down) in enumerate(zip(*self.matrices, strict=True)):
            if norms:
                x, residual = add_norm(update, residual, self.norms[2 * layer], EPS)
            update = linear(linear(x, qkv)[:, :hidden], o)
            if norms:
                x, residual = add_norm(update, residual, self.norms[2 * layer + 1], EPS)
            update = linear(linear_swiglu(x, gate_up), down)
        return residual + update

    def divided(self, way: Way) -> Tensor:
        """Four kernels a layer, or five."""
        hidden, slots = self.shapes.hidden, way.slots
        residual, squares = self.start, None
        x, _ = add_norm(self.zero, residual, self.norms[0], EPS)
        for layer, (qkv, o, gate_up, down) in enumerate(zip(*self.matrices, strict=True)):
            queries = product(x, qkv, slots, squares)[:, :hidden]
            adds, x, squares = self._adds(residual, 2 * layer + 1, slots, layer % 2, way.inner_only)
            residual = product(queries, o, slots, None, adds)
            gated = product(x, gate_up, slots, squares, swiglu=True)
            if way.inner_only:
                update, squares = product(gated, down, slots), None
                x, residual = add_norm(update, residual, self.norms[2 * layer + 2], EPS)
            else:
                adds, x, squares = self._adds(residual, 2 * layer + 2, slots)
                residual = product(gated, down, slots, None, adds)
        return residual

    def _adds(
        self, residual: Tensor, norm: int, slots: int, turn: int = 0, inner_only: bool = False
    ) -> tuple[tuple, Tensor, Tensor]:
        """What a product needs to add, its scaled result and its sums. Two sums take turns."""
        scaled = torch.empty_like(residual)
        if not slots:
            rows = 2 * choose_plan(self.shapes.hidden, self.shapes.hidden).pairs
            sums = torch.empty(triton.cdiv(self.shapes.hidden, rows), device=residual.device)
            return (residual, self.norms[norm], scaled, sums, None), scaled, sums
        index = turn if inner_only else norm % 2
        sums, cleared = self.sums[index, :slots], self.sums[1 - index, :slots]
        return (residual, self.norms[norm], scaled, sums, cleared), scaled, sums


def replay_for(graph: torch.cuda.CUDAGraph, seconds: float, monitor: GpuMonitor) -> dict:
    """Microseconds of a replay, and what the board used meanwhile."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    graph.replay()
    torch.cuda.synchronize()
    start.record()
    for _ in range(20):
        graph.replay()
    end.record()
    end.synchronize()
    replays = max(20, round(seconds * 1e3 / (start.elapsed_time(end) / 20)))
    before = monitor.snapshot()
    start.record()
    for _ in range(replays):
        graph.replay()
    end.record()
    end.synchronize()
    after = monitor.snapshot()
    timing = {"us": start.elapsed_time(end) * 1e3 / replays, "replays": replays}
    if before is not None and after is not None and None not in (before.energy_j, after.energy_j):
        joules = after.energy_j - before.energy_j
        timing["power_w"] = joules / (after.time_s - before.time_s)
        timing["sm_clock_hz"] = after.sm_clock_hz
    return timing


def trial(name: str, shapes: Shapes, ends: float, monitor: GpuMonitor) -> dict:
    """All ways for one model."""
    layers = Layers(shapes, "cuda")
    expected = layers.reference()
    steps = {
        "kernels of their own": layers.chain,
        "the same, sums at once": lambda: layers.chain(joined=True),
        "no norms": lambda: layers.chain(norms=False),
    }
    for label, way in WAYS.items():
        steps[label] = lambda way=way: layers.divided(way)
    rows, graphs = {}, {}
    for label, step in steps.items():
        layers.sums.zero_()
        graphs[label] = graph, result = captured(step)
        graph.replay()
        first = result.clone()
        error = float((first.double() - expected).norm() / expected.norm())
        rows[label] = {"error": error, "timings": []}
        for _ in range(100):
            graph.replay()
            if not torch.equal(result, first):
                rows[label]["problem"] = "another result in another replay"
                break
    allowed = MOST_ERROR * rows["kernels of their own"]["error"]
    for label, row in rows.items():
        if label != "no norms" and not row["error"] <= allowed:
            row["problem"] = "wrong"
    for turn in range(ROUNDS):
        for label in list(steps)[:: -1 if turn % 2 else 1]:
            if time.monotonic() > ends:
                break
            layers.sums.zero_()
            graph, _ = graphs[label]
            rows[label]["timings"].append(replay_for(graph, shapes.seconds, monitor))
    return {
        "layers": shapes.layers,
        "bytes": sum(matrix.nbytes for matrix in layers.matrices),
        "seconds": shapes.seconds,
        "ways": rows,
    }


def show(name: str, result: dict) -> None:
    for label, row in result["ways"].items():
        timings = " | ".join(
            f"{timing['us'] / result['layers']:.3f} us a layer, {timing['us']:.1f} us,"
            f" {timing.get('power_w') or 0:.0f} W, {(timing.get('sm_clock_hz') or 0) / 1e6:.0f} MHz"
            for timing in row["timings"]
        )
        print(f"{name} {label}: error {row['error']:.2e} {row.get('problem', '')} {timings}")


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--max-seconds", type=float, default=70.0)
    arguments = parser.parse_args()
    ends = time.monotonic() + arguments.max_seconds
    properties = torch.cuda.get_device_properties(0)
    result = {
        "gpu": properties.name,
        "torch": torch.__version__,
        "triton": triton.__version__,
        "git_commit": git_commit(),
        "models": {},
    }
    with GpuMonitor(properties.uuid) as monitor:
        for name, shapes in MODELS.items():
            result["models"][name] = trial(name, shapes, ends, monitor)
            show(name, result["models"][name])
            arguments.output.write_text(json.dumps(result, indent=1) + "\n")
            print(f"{ends - time.monotonic():.0f} s left", flush=True)


if __name__ == "__main__":
    main()
