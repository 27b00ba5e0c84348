"""One kernel that stays on the GPU for all layers of a decode step, against a chain of kernels.

    python results/trials/persistent_layers.py --output FILE.json

A trial on the shapes of Llama 3.2 1B, batch 1: what a step reads of its layers' matrices takes 28 us a
layer at 4.3 TB/s, so the microseconds between kernels weigh most here. The kernel of the trial is
launched once, with as many programs as are resident together; between the four products of a layer
they wait for each other at a counter, and before they wait they request their first weights of the
next product. It is held against this project's own kernels, launched one before the other has ended,
on the same numbers. Attention is left out of both: the queries stand for its result. So the figures
bound what such a kernel could gain; each further phase costs the kernel one more wait.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from inference_benchmark.kernels._registration import prefetch
from inference_benchmark.kernels.add_norm import add_norm
from inference_benchmark.kernels.gemv import gemv, gemv_swiglu
from inference_benchmark.system.environment import git_commit
from results.trials.capturing import captured

LAYERS, HIDDEN, QKV, WIDTH, EPS = 16, 2048, 3072, 8192, 1e-5
# programs per multiprocessor, warps, KiB of weights in a step, steps in flight, steps requested early
PLANS = (
    (1, 16, 16, 4, 2),
    (2, 8, 8, 4, 2),
    (2, 8, 8, 4, 0),
    (2, 8, 16, 3, 2),
    (3, 4, 8, 3, 1),
    (3, 4, 4, 4, 2),
)


@triton.jit
def _wait_for_all(counter_ptr, target):
    """Return when all programs have called this for as many as target counts. What they stored
    before is then in L2, from where it has to be read (.cg)."""
    tl.debug_barrier()
    tl.atomic_add(counter_ptr, 1, sem="release", scope="gpu")
    tl.inline_asm_elementwise(
        "{ .reg .pred other, again; .reg .b32 thread, count; mov.u32 thread, %tid.x; "
        "setp.ne.u32 other, thread, 0; @other bra done; "
        "wait: ld.acquire.gpu.global.b32 count, [$1]; setp.lt.s32 again, count, $2; @again bra wait; "
        "done: mov.u32 $0, 0; }",
        "=r,l,r",
        [counter_ptr.to(tl.int64), target],
        dtype=tl.int32,
        is_pure=False,
        pack=1,
    )
    tl.debug_barrier()


@triton.jit
def _request(
    weight_ptr, OUT: tl.constexpr, IN: tl.constexpr, ROWS: tl.constexpr, AHEAD: tl.constexpr
):
    """The first steps of this program: to L2, where nobody waits for them."""
    lines = tl.arange(0, ROWS)[:, None] * IN + (tl.arange(0, IN // 64) * 64)[None, :]
    for step in tl.static_range(AHEAD):
        block = tl.program_id(0) + step * tl.num_programs(0)
        if block * ROWS < OUT:
            prefetch(weight_ptr + block * (ROWS * IN) + lines)


@triton.jit
def _product(
    x,  # [IN], fp32
    weight_ptr,  # [OUT, IN], with SWIGLU [2 * OUT, IN]
    residual_ptr,  # [OUT], added to the result; None
    out_ptr,  # [OUT]
    OUT: tl.constexpr,
    IN: tl.constexpr,
    ROWS: tl.constexpr,
    STAGES: tl.constexpr,
    SWIGLU: tl.constexpr,
):
    """This program's blocks of ROWS rows."""
    rows = tl.arange(0, ROWS)
    tile = rows[:, None] * IN + tl.arange(0, IN)[None, :]
    for block in tl.range(tl.program_id(0), OUT // ROWS, tl.num_programs(0), num_stages=STAGES):
        weights = weight_ptr + block * (ROWS * IN) + tile
        result = tl.sum(tl.load(weights).to(tl.float32) * x[None, :], axis=1)
        if SWIGLU:
            up = tl.load(weights + OUT * IN).to(tl.float32)
            result = result * tl.sigmoid(result) * tl.sum(up * x[None, :], axis=1)
        at = block * ROWS + rows
        if residual_ptr is not None:
            result += tl.load(residual_ptr + at, cache_modifier=".cg").to(tl.float32)
        tl.store(out_ptr + at, result.to(out_ptr.dtype.element_ty))


@triton.jit
def _normed(residual_ptr, norm_ptr, HIDDEN: tl.constexpr, eps):
    columns = tl.arange(0, HIDDEN)
    x = tl.load(residual_ptr + columns, cache_modifier=".cg").to(tl.float32)
    scale = tl.load(norm_ptr + columns).to(tl.float32)
    return x * tl.rsqrt(tl.sum(x * x, axis=0) / HIDDEN + eps) * scale


@triton.jit
def _layers_kernel(
    residual_ptr,  # [HIDDEN], in place
    qkv_ptr,  # [QKV], between phases
    product_ptr,  # [WIDTH]
    counter_ptr,  # zero at first
    norms_ptr,  # [layers, 2, HIDDEN]
    w_qkv_ptr,
    w_o_ptr,
    w_gate_up_ptr,
    w_down_ptr,
    layers,
    eps,
    HIDDEN: tl.constexpr,
    QKV: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,  # of HIDDEN weights in a step
    STAGES: tl.constexpr,
    AHEAD: tl.constexpr,
    WAITS: tl.constexpr,  # whether programs wait for each other: without it the results are wrong
    PRODUCTS: tl.constexpr,  # whether anything is computed between
):
    programs = tl.num_programs(0)
    columns = tl.arange(0, HIDDEN)
    LONG: tl.constexpr = ROWS * HIDDEN // WIDTH if ROWS * HIDDEN > WIDTH else 1
    PAIRS: tl.constexpr = ROWS // 2 if ROWS > 1 else 1
    for layer in range(layers):
        w_qkv = w_qkv_ptr + layer * (QKV * HIDDEN)
        w_o = w_o_ptr + layer * (HIDDEN * HIDDEN)
        w_gate_up = w_gate_up_ptr + layer * (2 * WIDTH * HIDDEN)
        w_down = w_down_ptr + layer * (HIDDEN * WIDTH)
        norms = norms_ptr + layer * (2 * HIDDEN)
        if PRODUCTS:
            x = _normed(residual_ptr, norms, HIDDEN, eps)
            _product(x, w_qkv, None, qkv_ptr, QKV, HIDDEN, ROWS, STAGES, False)
            _request(w_o, HIDDEN, HIDDEN, ROWS, AHEAD)
        if WAITS:
            _wait_for_all(counter_ptr, (4 * layer + 1) * programs)
        if PRODUCTS:
            x = tl.load(qkv_ptr + columns, cache_modifier=".cg").to(tl.float32)
            _product(x, w_o, residual_ptr, residual_ptr, HIDDEN, HIDDEN, ROWS, STAGES, False)
            _request(w_gate_up, WIDTH, HIDDEN, PAIRS, AHEAD)
            _request(w_gate_up + WIDTH * HIDDEN, WIDTH, HIDDEN, PAIRS, AHEAD)
        if WAITS:
            _wait_for_all(counter_ptr, (4 * layer + 2) * programs)
        if PRODUCTS:
            x = _normed(residual_ptr, norms + HIDDEN, HIDDEN, eps)
            _product(x, w_gate_up, None, product_ptr, WIDTH, HIDDEN, PAIRS, STAGES, True)
            _request(w_down, HIDDEN, WIDTH, LONG, AHEAD)
        if WAITS:
            _wait_for_all(counter_ptr, (4 * layer + 3) * programs)
        if PRODUCTS:
            x = tl.load(product_ptr + tl.arange(0, WIDTH), cache_modifier=".cg").to(tl.float32)
            _product(x, w_down, residual_ptr, residual_ptr, HIDDEN, WIDTH, LONG, STAGES, False)
            if layer + 1 < layers:
                _request(w_qkv + QKV * HIDDEN, QKV, HIDDEN, ROWS, AHEAD)
        if WAITS:
            _wait_for_all(counter_ptr, (4 * layer + 4) * programs)


class Layers:
    """Weights at the scale that keeps activations near unit variance, and the two ways."""

    def __init__(self, device: str, layers: int = LAYERS) -> None:
        torch.manual_seed(0)

        def random(*shape: int) -> Tensor:
            values = torch.empty(shape, dtype=torch.bfloat16, device=device)
            return values.normal_(std=shape[-1] ** -0.5)

        self.layers = layers
        self.norms = torch.ones(layers, 2, HIDDEN, dtype=torch.bfloat16, device=device)
        self.qkv = random(layers, QKV, HIDDEN)
        self.o = random(layers, HIDDEN, HIDDEN)
        self.gate_up = random(layers, 2 * WIDTH, HIDDEN)
        self.down = random(layers, HIDDEN, WIDTH)
        self.start = random(1, HIDDEN) * HIDDEN**0.5
        self.residual = self.start.clone()
        self.buffers = [
            torch.empty(size, dtype=torch.bfloat16, device=device) for size in (QKV, WIDTH)
        ]
        self.counter = torch.zeros(1, dtype=torch.int32, device=device)

    @property
    def matrices(self) -> tuple[Tensor, ...]:
        return self.qkv, self.o, self.gate_up, self.down

    def reference(self) -> Tensor:
        """In fp32, rounded nowhere."""
        residual = self.start.float()
        for norms, qkv, o, gate_up, down in zip(self.norms, *self.matrices, strict=True):
            queries = (
                F.rms_norm(residual, (HIDDEN,), norms[0].float(), EPS) @ qkv[:HIDDEN].float().T
            )
            residual = residual + queries @ o.float().T
            normed = F.rms_norm(residual, (HIDDEN,), norms[1].float(), EPS)
            gate, up = (normed @ gate_up.float().T).chunk(2, dim=-1)
            residual = residual + (F.silu(gate) * up) @ down.float().T
        return residual

    def chain(self) -> Tensor:
        """This project's kernels, six a layer."""
        residual, update = self.start, torch.zeros_like(self.start)
        for norms, qkv, o, gate_up, down in zip(self.norms, *self.matrices, strict=True):
            normed, residual = add_norm(update, residual, norms[0], EPS)
            update = gemv(gemv(normed, qkv)[:, :HIDDEN], o)
            normed, residual = add_norm(update, residual, norms[1], EPS)
            update = gemv(gemv_swiglu(normed, gate_up), down)
        return residual + update

    def persistent(
        self, programs: int, plan: tuple, waits: bool = True, products: bool = True
    ) -> Tensor:
        """One launch for all layers."""
        _, num_warps, kib, stages, ahead = plan
        self.counter.zero_()
        self.residual.copy_(self.start)
        _layers_kernel[(programs,)](
            self.residual,
            *self.buffers,
            self.counter,
            self.norms,
            *self.matrices,
            self.layers,
            EPS,
            HIDDEN=HIDDEN,
            QKV=QKV,
            WIDTH=WIDTH,
            ROWS=max(1, kib * 1024 // (2 * HIDDEN)),
            STAGES=stages,
            AHEAD=ahead,
            WAITS=waits,
            PRODUCTS=products,
            num_warps=num_warps,
            launch_cooperative_grid=True,
        )
        return self.residual


def microseconds(step: Callable[[], Tensor], replays: int = 60, rounds: int = 5) -> float:
    """The median of rounds of a captured step."""
    graph, _ = captured(step)
    times = []
    for _ in range(rounds):
        graph.replay()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(replays):
            graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1e3 / replays)
    return sorted(times)[rounds // 2]


def read_bandwidth(device: str) -> float:
    """Bytes per second of summing 4 GiB."""
    values = torch.zeros(1 << 30, dtype=torch.float32, device=device)
    return values.nbytes / (microseconds(values.sum, 5) * 1e-6)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    properties = torch.cuda.get_device_properties(0)
    layers = Layers("cuda")
    bandwidth = read_bandwidth("cuda")
    num_bytes = sum(matrix.nbytes for matrix in layers.matrices)
    expected = layers.reference()

    def error(result: Tensor) -> float:
        return float((result.float() - expected).norm() / expected.norm())

    result = {
        "gpu": properties.name,
        "torch": torch.__version__,
        "git_commit": git_commit(),
        "triton": triton.__version__,
        "layers": LAYERS,
        "bytes": num_bytes,
        "read_bytes_per_s": bandwidth,
        "limit_us_per_layer": num_bytes / bandwidth * 1e6 / LAYERS,
        "chain": {
            "error": error(layers.chain()),
            "us_per_layer": microseconds(layers.chain) / LAYERS,
        },
        "persistent": [],
    }
    print(f"limit {result['limit_us_per_layer']:.1f} us a layer, chain {result['chain']}")
    for plan in PLANS:
        programs = plan[0] * properties.multi_processor_count
        row = {"plan": plan}
        try:
            row["error"] = error(layers.persistent(programs, plan))
            for name, options in (
                ("us_per_layer", {}),
                ("without_waits_us_per_layer", {"waits": False}),
                ("waits_alone_us_per_layer", {"products": False}),
            ):
                step = lambda options=options, plan=plan, programs=programs: layers.persistent(  # noqa: E731
                    programs, plan, **options
                )
                row[name] = microseconds(step) / LAYERS
        except Exception as problem:  # a plan that does not fit is a row with a reason
            row["problem"] = str(problem).splitlines()[0]
        result["persistent"].append(row)
        print(
            {name: round(v, 3) if isinstance(v, float) else v for name, v in row.items()},
            flush=True,
        )
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
