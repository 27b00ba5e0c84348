"""Counters by which the last of several programs knows that it is the last."""

from __future__ import annotations

import torch


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


kept_counters: dict[tuple[str, torch.device, int], torch.Tensor] = {}
