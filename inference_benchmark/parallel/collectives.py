"""What ranks exchange within a step: two operations, each an opaque operator.

`all_reduce` adds up the partial sums that a layer's output and down projections leave on the ranks:
two per layer, hidden_size values per token. `all_gather` puts the logits together, of which each
rank computed those of its share of the vocabulary: once per step, vocab_size values per sequence
(0.25 MB in bf16 for 128,000 tokens, some 10 us between GPUs of one host), after which every rank
makes the same greedy choice.

A message of a decode step is a few KB, so its time is latency. NCCL needs some 10 us for it;
PyTorch's one-shot kernel, in which each GPU reads all others' buffers over NVLink at once, about
half. Every rank adds in the same order and so gets the same bits, without which their routers could
choose different experts. It needs no NVLink multicast, which nothing here uses.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from inference_benchmark.kernels._registration import register_operator

# Beyond this a ring, which sends each value about twice, beats reading it from every rank.
ONE_SHOT_BYTES = 256 * 1024
# For these sizes the kernel is known to add in the order of ranks.
ONE_SHOT_SIZES = (2, 4, 8)
_ALIGNMENT_BYTES = 16
_ONE_SHOT_DTYPES = (torch.bfloat16, torch.float32)

_symmetric: dict[torch.dtype, Tensor] = {}


def make_all_reduce(backend: str) -> Callable[[Tensor], Tensor]:
    """The sum over ranks: "none" on one rank, "nccl" (gloo on a CPU), "one_shot" if small."""
    if backend == "none":
        return lambda x: x
    one_shot = backend == "one_shot"
    return lambda x: all_reduce(x, one_shot)


def make_all_gather(backend: str, size: int) -> Callable[[Tensor], Tensor]:
    if backend == "none":
        return lambda x: x
    return lambda x: all_gather(x, size)


def all_reduce(x: Tensor, one_shot: bool) -> Tensor:
    """The sum of all ranks' x; one_shot: by the kernel for small messages where it can."""
    return _all_reduce_operator(x, one_shot)


def all_gather(x: Tensor, size: int) -> Tensor:
    """x [batch, share] of all `size` ranks -> [batch, size * share]."""
    return _all_gather_operator(x, size)


def enable_one_shot(dtypes: tuple[torch.dtype, ...] = _ONE_SHOT_DTYPES) -> None:
    """Buffers that all ranks of this host can read; collective.

    Raises:
        RuntimeError: these GPUs can't read each other's memory.
    """
    # Rendezvous would set multicast up although the kernel does not use it.
    os.environ.setdefault("TORCH_SYMM_MEM_DISABLE_MULTICAST", "1")
    import torch.distributed._symmetric_memory as symmetric_memory

    for dtype in dtypes:
        count = ONE_SHOT_BYTES // dtype.itemsize
        buffer = symmetric_memory.empty(count, dtype=dtype, device="cuda")
        symmetric_memory.rendezvous(buffer, dist.group.WORLD)
        _symmetric[dtype] = buffer


def disable_one_shot() -> None:
    _symmetric.clear()


def _sum(x: torch.Tensor, one_shot: bool) -> torch.Tensor:
    if one_shot and _is_small(x):
        buffer = _symmetric[x.dtype][: x.numel()]
        name = dist.group.WORLD.group_name
        flat = x.contiguous().view(-1)
        return torch.ops.symm_mem.one_shot_all_reduce_copy(buffer, flat, "sum", name).view(x.shape)
    total = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def _is_small(x: Tensor) -> bool:
    size = x.numel() * x.element_size()
    return x.dtype in _symmetric and size <= ONE_SHOT_BYTES and size % _ALIGNMENT_BYTES == 0


def _sum_fake(x: torch.Tensor, one_shot: bool) -> torch.Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _gather(x: torch.Tensor, size: int) -> torch.Tensor:
    batch, share = x.shape
    by_rank = x.new_empty(size * batch, share)
    dist.all_gather_into_tensor(by_rank, x.contiguous())
    by_rank = by_rank.view(size, batch, share)
    return by_rank.transpose(0, 1).contiguous().view(batch, size * share)


def _gather_fake(x: torch.Tensor, size: int) -> torch.Tensor:
    return x.new_empty(x.shape[0], size * x.shape[1])


_all_reduce_operator = register_operator("all_reduce", _sum, _sum, _sum_fake)
_all_gather_operator = register_operator("all_gather", _gather, _gather, _gather_fake)
