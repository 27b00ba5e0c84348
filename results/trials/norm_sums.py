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
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from inference_benchmark.kernels._registration import programmatic_launch
from inference_benchmark.kernels.add_norm import add_norm
from inference_benchmark.kernels.gemv import _load_pairs, choose_plan, gemv, gemv_swiglu
from inference_benchmark.system.environment import git_commit
from inference_benchmark.system.gpu_state import GpuMonitor

EPS = 1e-5
UNIT = tl.constexpr(2.0**24)
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


@triton.jit
def _product_kernel(
    x_ptr,  # [IN_FEATURES]
    weight_ptr,  # [out_features, IN_FEATURES], with SWIGLU [2 * out_features, IN_FEATURES]
    out_ptr,  # [out_features]; with a residual the sum with it
    out_features,
    squares_ptr,  # sums of the squares that x stands for, unnormalised; None: of no norm
    residual_ptr,  # [out_features]; None: the rest is None, too
    norm_weight_ptr,  # [out_features]
    scaled_ptr,  # [out_features]: out times the norm's weight
    sums_ptr,  # as squares_ptr, of out
    zeroed_ptr,  # sums that nobody reads any more; None: there are none
    eps,
    IN_FEATURES: tl.constexpr,
    PAIRS: tl.constexpr,
    COLUMNS: tl.constexpr,
    SWIGLU: tl.constexpr,
    JOINED: tl.constexpr,  # whether threads exchange the sums of both rows at once
    SLOTS: tl.constexpr,
    PARTS: tl.constexpr,  # partial sums in squares_ptr, where SLOTS is 0
    PARTS_PADDED: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
):
    rows = tl.program_id(0) * (PAIRS if SWIGLU else 2 * PAIRS) + tl.arange(0, PAIRS)
    other_rows = rows + (out_features if SWIGLU else PAIRS)
    last = (2 * out_features if SWIGLU else out_features) - 1
    columns = tl.arange(0, COLUMNS)
    first = weight_ptr + tl.minimum(rows, last).to(tl.int64)[:, None] * IN_FEATURES
    second = weight_ptr + tl.minimum(other_rows, last).to(tl.int64)[:, None] * IN_FEATURES
    first += columns[None, :]
    second += columns[None, :]
    inside, other_inside = rows < out_features, other_rows < out_features
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_launch_dependents()
    tile, other_tile = _load_pairs(first, second, 0, columns, IN_FEATURES, COLUMNS)
    if norm_weight_ptr is not None:
        norm = tl.load(norm_weight_ptr + rows, mask=inside, other=0.0)
        other_norm = tl.load(norm_weight_ptr + other_rows, mask=other_inside, other=0.0)
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()
    if residual_ptr is not None:
        residual = tl.load(residual_ptr + rows, mask=inside, other=0.0)
        other_residual = tl.load(residual_ptr + other_rows, mask=other_inside, other=0.0)
    if squares_ptr is not None:
        if SLOTS == 1:
            total = tl.load(squares_ptr, cache_modifier=".cg")
        elif SLOTS > 1:
            total = tl.load(squares_ptr + tl.arange(0, SLOTS), cache_modifier=".cg")
        else:
            part = tl.arange(0, PARTS_PADDED)
            total = tl.load(squares_ptr + part, mask=part < PARTS, other=0.0)
    sums = tl.zeros((PAIRS, COLUMNS), dtype=tl.float32)
    other_sums = tl.zeros((PAIRS, COLUMNS), dtype=tl.float32)
    for start in tl.static_range(0, IN_FEATURES, COLUMNS):
        x = tl.load(x_ptr + start + columns, mask=start + columns < IN_FEATURES, other=0.0)
        x = x.to(tl.float32)[None, :]
        sums += tile.to(tl.float32) * x
        other_sums += other_tile.to(tl.float32) * x
        if start + COLUMNS < IN_FEATURES:
            tile, other_tile = _load_pairs(
                first, second, start + COLUMNS, columns, IN_FEATURES, COLUMNS
            )
    if JOINED:
        result, other = tl.split(tl.sum(tl.join(sums, other_sums), axis=1))
    else:
        result = tl.sum(sums, axis=1)
        other = tl.sum(other_sums, axis=1)
    if squares_ptr is not None:
        if SLOTS != 1:
            total = tl.sum(total, axis=0)
        squares = total.to(tl.float32) * (1.0 / UNIT if SLOTS > 0 else 1.0)
        factor = tl.rsqrt(squares / IN_FEATURES + eps)
        result *= factor
        other *= factor
    element = out_ptr.dtype.element_ty
    if SWIGLU:
        result = result * tl.sigmoid(result) * other
    if residual_ptr is not None:
        result = (result + residual.to(tl.float32)).to(element).to(tl.float32)
        other = (other + other_residual.to(tl.float32)).to(element).to(tl.float32)
        scaled, other_scaled = result * norm.to(tl.float32), other * other_norm.to(tl.float32)
        tl.store(scaled_ptr + rows, scaled.to(element), mask=inside)
        tl.store(scaled_ptr + other_rows, other_scaled.to(element), mask=other_inside)
        own = tl.where(inside, result * result, 0.0) + tl.where(other_inside, other * other, 0.0)
        squares = tl.sum(own, axis=0)
        if SLOTS == 0:
            tl.store(sums_ptr + tl.program_id(0), squares)
        else:
            whole = (squares * UNIT + 0.5).to(tl.int64)
            tl.atomic_add(sums_ptr + tl.program_id(0) % SLOTS, whole, sem="relaxed")
            if zeroed_ptr is not None:
                # Whoever read them has ended: this kernel waited for it.
                slots = tl.arange(0, SLOTS)
                zeros = tl.zeros((SLOTS,), dtype=tl.int64)
                tl.store(zeroed_ptr + slots, zeros, mask=(slots >= 0) & (tl.program_id(0) == 0))
    tl.store(out_ptr + rows, result.to(element), mask=inside)
    if not SWIGLU:
        tl.store(out_ptr + other_rows, other.to(element), mask=other_inside)


def product(
    x: Tensor,
    weight: Tensor,
    slots: int,
    squares: Tensor | None = None,
    adds: tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None] | None = None,
    swiglu: bool = False,
    joined: bool = True,
) -> Tensor:
    """One product; adds: residual, norm weight, scaled result, sums, sums to be cleared."""
    out_features, in_features = weight.shape[0] // (2 if swiglu else 1), weight.shape[1]
    plan = choose_plan(out_features, in_features)
    rows = plan.pairs * (1 if swiglu else 2)
    out = torch.empty(1, out_features, dtype=x.dtype, device=x.device)
    parts = squares.numel() if squares is not None and not slots else 1
    programmatic = programmatic_launch(x.device)
    _product_kernel[(triton.cdiv(out_features, rows),)](
        x,
        weight,
        out,
        out_features,
        squares,
        *(adds or (None,) * 5),
        EPS,
        IN_FEATURES=in_features,
        PAIRS=plan.pairs,
        COLUMNS=plan.columns,
        SWIGLU=swiglu,
        JOINED=joined,
        SLOTS=slots,
        PARTS=parts,
        PARTS_PADDED=triton.next_power_of_2(parts),
        PROGRAMMATIC=programmatic,
        num_warps=plan.num_warps,
        launch_pdl=programmatic,
    )
    return out


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


def capture(step: Callable[[], Tensor]) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """A graph, and where it leaves its result."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = step()
    return graph, result


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
        graphs[label] = graph, result = capture(step)
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
