"""Counters by which the last of several programs knows that it is the last."""

from __future__ import annotations

import torch

from inference_benchmark.kernels._registration import jit, tl


def arrival_counters(kernel: str, device: torch.device, count: int) -> torch.Tensor:
    """int32 zeros [count]: every call takes them at zero and leaves them at zero.

    Kept for the life of the process, because captured graphs hold their address. A call that is
    captured before any eager one gets its own instead, cleared in each replay of that graph.
    """
    key = kernel, device, count
    counters = kept_counters.get(key)
    if counters is None:
        counters = torch.zeros(count, dtype=torch.int32, device=device)
        if device.type != "cuda" or not torch.cuda.is_current_stream_capturing():
            kept_counters[key] = counters
    return counters


@jit
def is_last(arrivals_ptr, count):
    """Whether this program is the last of `count` to call this. What the others stored before they
    called is then in L2, from where it has to be read (.cg), and the counter is zero again.

    The barrier orders the stores of all threads before the one that counts; the counter releases
    them to, and acquires those of, the other programs.
    """
    tl.debug_barrier()
    arrived = tl.atomic_add(arrivals_ptr, 1, sem="acq_rel", scope="gpu")
    if arrived == count - 1:
        tl.store(arrivals_ptr, 0)  # for the next call, or replay
    return arrived == count - 1


kept_counters: dict[tuple[str, torch.device, int], torch.Tensor] = {}
