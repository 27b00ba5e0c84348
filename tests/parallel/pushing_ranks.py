"""Run by torchrun on several GPUs: rows pushed between them, eagerly and in graphs replayed at will.

Sums have the bits of the same additions by PyTorch; and a chain of calls, each of which goes into the
next, ends in the same bits on all ranks, whether or not some rank is late at random.
"""

import os
import random
import time

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from inference_benchmark.parallel import collectives
from inference_benchmark.parallel.collectives import push_all_reduce, push_all_reduce_norm

EPS = 1e-5
CHAIN, REPLAYS = 16, 1500
LATEST_CYCLES = 2_000_000  # a millisecond


def gathered(x: Tensor) -> list[Tensor]:
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x)
    return parts


def assert_same_everywhere(x: Tensor) -> None:
    first, *others = gathered(x.contiguous().view(torch.uint8))
    assert all(torch.equal(first, other) for other in others), "ranks differ"


def check_sums(rank: int) -> None:
    """Rows, features and types change from call to call, and with them the programs."""
    for call, (rows, features, dtype) in enumerate(
        [(1, 4096, torch.bfloat16), (32, 8192, torch.bfloat16), (3, 514, torch.float16)] * 20
    ):
        torch.manual_seed(call)
        residual = torch.randn(rows, 1, features, device="cuda").to(dtype)
        weight = torch.randn(features, device="cuda").to(dtype)
        torch.manual_seed(1000 * call + rank)
        update = torch.randn(rows, 1, features, device="cuda").to(dtype)
        parts = gathered(update)
        expected = sum((part.float() for part in parts[1:]), parts[0].float())
        assert torch.equal(push_all_reduce(update), expected.to(dtype)), (call, "sum")
        normed, total = push_all_reduce_norm(update, residual, weight, EPS)
        assert torch.equal(total, (residual.float() + expected).to(dtype)), (call, "total")
        wide = F.rms_norm(total.double(), (features,), weight.double(), EPS)
        error = (normed.double() - wide).norm() / wide.norm()
        assert error < 5e-3, (call, float(error))
        assert_same_everywhere(normed)


def captured_chain(
    rank: int, rows: int, features: int
) -> tuple[torch.cuda.CUDAGraph, Tensor, tuple[Tensor, ...]]:
    """A graph of CHAIN calls from a state [rows, 1, features] to the next, and what it reads.

    A graph keeps no tensor that was there before it alive.
    """
    torch.manual_seed(rows)
    state = torch.randn(rows, 1, features, device="cuda").to(torch.bfloat16)
    weight = torch.ones(features, dtype=torch.bfloat16, device="cuda")
    torch.manual_seed(rank)
    factor = torch.randn(features, device="cuda").to(torch.bfloat16)  # the ranks' parts differ

    def chain() -> None:
        normed, total = state * factor, state
        for _ in range(CHAIN):
            normed, total = push_all_reduce_norm(normed * factor, total * 0.5, weight, EPS)
        state.copy_(normed)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        chain()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        chain()
    return graph, state, (weight, factor)


def check_replays(rank: int, rows: int) -> None:
    graph, state, _read = captured_chain(rank, rows, 4096)
    start = state.clone()
    ends = []
    for is_late in (False, True):
        late = random.Random(rank)
        state.copy_(start)
        for replay in range(REPLAYS):
            if is_late and late.random() < 0.05:
                torch.cuda._sleep(late.randrange(LATEST_CYCLES))
            if is_late and late.random() < 0.01:
                time.sleep(0.001)
            graph.replay()
            if replay % 500 == 499:
                torch.cuda.synchronize()
        ends.append(state.clone())
    assert bool(torch.isfinite(ends[0]).all())
    assert torch.equal(*ends), "a late rank changes the result"
    assert_same_everywhere(ends[0])


def main() -> None:
    rank = int(os.environ["RANK"])
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl", device_id=torch.device("cuda", torch.cuda.current_device()))
    collectives.share_memory("push")
    check_sums(rank)
    for rows in (1, 5, 32):
        check_replays(rank, rows)
    torch.cuda.synchronize()
    if rank == 0:
        print("the ranks agree", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
