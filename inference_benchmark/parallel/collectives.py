"""What ranks exchange within a step, each operation an opaque operator.

`all_reduce` adds up the partial sums that a layer's output and down projections leave on the ranks:
two per layer, hidden_size values per token. `all_gather` puts the logits together, of which each
rank computed those of its share of the vocabulary: once per step, vocab_size values per sequence
(0.25 MB in bf16 for 128,000 tokens, some 10 us between GPUs of one host), after which every rank
makes the same greedy choice.

A message of a decode step is a few KB, so its time is latency. NCCL needs some 10 us for it;
PyTorch's one-shot kernel, in which each GPU reads all others' buffers over NVLink at once, somewhat
less; kernels/push_all_reduce.py, where each GPU writes into the others' memory and the norm that
follows is computed in passing, is ours. In both every rank adds in the same order and so gets the
same bits, without which their routers could choose different experts. None needs NVLink multicast,
which nothing here uses.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from inference_benchmark.kernels._registration import register_operator
from inference_benchmark.kernels.push_all_reduce import (
    MAX_ROWS,
    Inboxes,
    inbox_words,
    is_served,
    launch_push_all_reduce,
    launch_push_all_reduce_norm,
)

# Beyond this a ring, which sends each value about twice, beats reading it from every rank.
ONE_SHOT_BYTES = 256 * 1024
_ALIGNMENT_BYTES = 16
_ONE_SHOT_DTYPES = (torch.bfloat16, torch.float32)

_symmetric: dict[torch.dtype, Tensor] = {}
_inboxes: list[Inboxes] = []  # one of this process at most


def make_all_reduce(backend: str) -> Callable[[Tensor], Tensor]:
    """The sum over ranks: "none" on one rank, "nccl" (gloo on a CPU), or for a few rows PyTorch's
    kernel with "one_shot", ours with "push"."""
    if backend == "none":
        return lambda x: x
    if backend == "push":
        return lambda x: push_all_reduce(x) if is_served(x) else all_reduce(x, False)
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


def push_all_reduce(x: Tensor) -> Tensor:
    """The same for the few rows that is_served tells."""
    return _push_operator(x)


def push_all_reduce_norm(
    update: Tensor, residual: Tensor, norm_weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """rms_norm(total) and total = residual + the sum of all ranks' update, for such rows."""
    return _push_norm_operator(update, residual, norm_weight, eps)


def share_memory(name: str) -> None:
    """Prepare one of SHARED_SUMS; collective, between GPUs of one host.

    Raises:
        RuntimeError: these GPUs can't read each other's memory.
    """
    # Rendezvous would set multicast up although no kernel here uses it.
    os.environ.setdefault("TORCH_SYMM_MEM_DISABLE_MULTICAST", "1")
    if name == "push":
        _inboxes[:] = [_open_inboxes()]
        return
    for dtype in _ONE_SHOT_DTYPES:
        _symmetric[dtype], _ = _shared(ONE_SHOT_BYTES // dtype.itemsize, dtype)


def _open_inboxes() -> Inboxes:
    size, rank = dist.get_world_size(), dist.get_rank()
    inbox, handle = _shared(inbox_words(size), torch.int64)
    inbox.zero_()
    offset = inbox.data_ptr() - handle.buffer_ptrs[rank]  # in the block that is shared
    addresses = torch.tensor([start + offset for start in handle.buffer_ptrs], device=inbox.device)
    calls = torch.zeros(MAX_ROWS, dtype=torch.int32, device=inbox.device)
    torch.cuda.synchronize()
    dist.barrier()  # nobody sends before all are zero
    return Inboxes(addresses, calls, rank, keeps=(inbox, handle))


def _shared(count: int, dtype: torch.dtype) -> tuple[Tensor, object]:
    """This rank's of the buffers [count], and the handle that knows all ranks'."""
    import torch.distributed._symmetric_memory as symmetric_memory

    buffer = symmetric_memory.empty(count, dtype=dtype, device="cuda")
    return buffer, symmetric_memory.rendezvous(buffer, dist.group.WORLD)


def give_up_memory(name: str) -> None:
    (_inboxes if name == "push" else _symmetric).clear()


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


def _push(x: torch.Tensor) -> torch.Tensor:
    return launch_push_all_reduce(x, *_inboxes)


def _push_reference(x: torch.Tensor) -> torch.Tensor:
    return _sum(x, False)


def _push_norm(
    update: torch.Tensor, residual: torch.Tensor, norm_weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    return launch_push_all_reduce_norm(update, residual, norm_weight, eps, *_inboxes)


def _push_norm_reference(
    update: torch.Tensor, residual: torch.Tensor, norm_weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    total = residual + _sum(update, False)
    return F.rms_norm(total, total.shape[-1:], norm_weight, eps), total


def _push_fake(x: torch.Tensor) -> torch.Tensor:
    return _sum_fake(x, False)


def _push_norm_fake(
    update: torch.Tensor, residual: torch.Tensor, norm_weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    return _sum_fake(update, False), _sum_fake(update, False)


def _gather(x: torch.Tensor, size: int) -> torch.Tensor:
    batch, share = x.shape
    by_rank = x.new_empty(size * batch, share)
    dist.all_gather_into_tensor(by_rank, x.contiguous())
    by_rank = by_rank.view(size, batch, share)
    return by_rank.transpose(0, 1).contiguous().view(batch, size * share)


def _gather_fake(x: torch.Tensor, size: int) -> torch.Tensor:
    return x.new_empty(x.shape[0], size * x.shape[1])


_all_reduce_operator = register_operator("all_reduce", _sum, _sum, _sum_fake)
_push_operator = register_operator("push_all_reduce", _push_reference, _push, _push_fake)
_push_norm_operator = register_operator(
    "push_all_reduce_norm", _push_norm_reference, _push_norm, _push_norm_fake
)
_all_gather_operator = register_operator("all_gather", _gather, _gather, _gather_fake)
