"""Microseconds of an all-reduce of a decode step's size in a CUDA graph: alone, and between two products.

    torchrun --standalone --nproc-per-node 2 results/trials/all_reduce.py --output FILE

Of each rank the median of five times 40 replays; of the ranks the slowest.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from inference_benchmark.kernels.gemv import gemv
from inference_benchmark.parallel import collectives
from inference_benchmark.parallel.collectives import (
    all_reduce,
    push_all_reduce,
    push_all_reduce_norm,
)
from inference_benchmark.system.environment import git_commit
from results.trials.capturing import captured

EPS = 1e-5
HIDDEN, QKV, LAYERS = 4096, 6144, 12  # of Llama 3.1 8B; layers of other weights than L2 holds
CALLS, REPLAYS, REPEATS = 50, 40, 5
ROWS = (1, 2, 8, 32)


def microseconds(step: Callable[[], object], calls: int) -> float:
    """Per call, of a step that makes so many."""
    graph, _ = captured(step, capture_error_mode="thread_local")
    times = []
    for _ in range(REPEATS):
        dist.barrier()
        torch.cuda.synchronize()
        graph.replay()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(REPLAYS):
            graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) * 1e3 / REPLAYS / calls)
    slowest = torch.tensor(sorted(times)[REPEATS // 2], device="cuda")
    dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
    return round(float(slowest), 2)


def alone(function: Callable[[Tensor], Tensor], x: Tensor) -> float:
    def step() -> None:
        y = x
        for _ in range(CALLS):
            y = function(y)

    return microseconds(step, CALLS)


def between_products(layer: Callable, size: int) -> float:
    """layer(x, residual, output projection, next projection) -> (y, residual)."""
    out = [_weight(HIDDEN, HIDDEN // size) for _ in range(LAYERS)]
    following = [_weight(QKV // size, HIDDEN) for _ in range(LAYERS)]
    start = torch.randn(1, 1, HIDDEN, device="cuda").to(torch.bfloat16)

    def step() -> None:
        y, residual = start, start
        for weights in zip(out, following, strict=True):
            y, residual = layer(y[..., : HIDDEN // size].contiguous(), residual, *weights)

    return microseconds(step, LAYERS)


def _weight(rows: int, columns: int) -> Tensor:
    return torch.randn(rows, columns, device="cuda").to(torch.bfloat16) / 64


def measure(size: int) -> dict:
    norm_weight = torch.ones(HIDDEN, device="cuda", dtype=torch.bfloat16)
    sums = {
        "none": lambda x: x,
        "nccl": lambda x: all_reduce(x, False),
        "one_shot": lambda x: all_reduce(x, True),
        "push": push_all_reduce,
    }

    def separate(reduce: Callable[[Tensor], Tensor]) -> Callable:
        def layer(y, residual, out, following):
            residual = residual + reduce(gemv(y, out))
            return gemv(F.rms_norm(residual, (HIDDEN,), norm_weight, EPS), following), residual

        return layer

    def pushed(y, residual, out, following):
        normed, residual = push_all_reduce_norm(gemv(y, out), residual, norm_weight, EPS)
        return gemv(normed, following), residual

    messages = {}
    for rows in ROWS:
        x = torch.zeros(rows, 1, HIDDEN, device="cuda", dtype=torch.bfloat16)
        of_size = {name: alone(reduce, x) for name, reduce in sums.items() if name != "none"}
        of_size["push, norm"] = alone(
            lambda y, x=x: push_all_reduce_norm(y, x, norm_weight, EPS)[0], x
        )
        messages[str(x.numel() * x.element_size() // 1024)] = of_size
    chains = {name: between_products(separate(reduce), size) for name, reduce in sums.items()}
    chains["push, norm"] = between_products(pushed, size)
    return {"kib_us": messages, "between_products_us": chains}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, required=True)
    output = parser.parse_args().output
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl", device_id=torch.device("cuda", torch.cuda.current_device()))
    for name in ("push", "one_shot"):
        collectives.share_memory(name)
    size = dist.get_world_size()
    with torch.inference_mode():
        measured = measure(size)
    facts = {"gpu": torch.cuda.get_device_name(), "ranks": size, "torch": torch.__version__}
    facts["git_commit"] = git_commit()
    if dist.get_rank() == 0:
        output.write_text(json.dumps(facts | measured, indent=1) + "\n")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
