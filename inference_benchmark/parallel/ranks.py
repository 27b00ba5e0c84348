"""This process among those that torchrun started: one per GPU, each running the same program.

All ranks take the same path through a session, because each decision is rank 0's and each outcome
is known to all before the next step begins. For that they meet in `all_gather`, outside timed
regions, over a gloo group of its own: nothing is launched on a GPU. A rank that fails sends its
error with the next all_gather, where every rank raises it; and a signal on any rank interrupts all
of them in the same all_gather. A rank that dies is noticed by torchrun, which ends the others.
"""

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch

from inference_benchmark.errors import CannotRun
from inference_benchmark.parallel.sharding import Shard
from inference_benchmark.parallel.shared_sums import SHARED_SIZES, SHARED_SUMS
from inference_benchmark.system import signals

# How long a rank waits for the others at the start, and for their messages in a timed step.
_STEP_TIMEOUT = timedelta(seconds=60)
# The same while ranks compile their first steps or read a checkpoint, which takes minutes.
_PREPARATION_TIMEOUT = timedelta(seconds=600)
# A rank that failed tells the others at their next message. If they are stuck in a step that it will
# never join, no message comes, and after this time it ends the session.
_ALONE_S = 30.0


class PeerFailed(RuntimeError):
    """What went wrong on another rank, in its words."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class _Message:
    value: Any
    problem: tuple[str, str] | None
    interrupted: bool


class Ranks:
    """The only rank there is: gathering gives its own value."""

    shard = Shard()
    local_size = 1
    # Kernels that sum over ranks without NCCL, as far as they work here, and why they do not.
    shared_sums: frozenset[str] = frozenset()
    no_shared_sums: str | None = None

    @property
    def size(self) -> int:
        return self.shard.size

    @property
    def is_first(self) -> bool:
        """Whether this rank speaks and writes for all."""
        return self.shard.rank == 0

    @property
    def num_nodes(self) -> int:
        return self.size // self.local_size

    def all_gather(self, value: Any = None) -> list:
        """Every rank's value, in the order of ranks.

        Raises:
            PeerFailed: another rank reported a problem.
            KeyboardInterrupt: some rank was interrupted.
        """
        return [value]

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value."""
        return self.all_gather(value)[0]

    def report(self, problem: tuple[str, str]) -> None:
        """Send (status, message) with the next all_gather, in which the other ranks raise it."""

    def start_together(self) -> None:
        """Return on all ranks within microseconds of one another."""

    def shorten_timeout(self) -> None:
        """After the preparation: a rank that keeps the others waiting longer than a step is lost."""

    def lengthen_timeout(self) -> None:
        """Before the next preparation: ranks compile again, some of them faster than others."""

    def leave(self, code: int | None) -> int:
        """Rank 0's exit code for all, once it has nothing left to say."""
        return code


class Group(Ranks):
    """One of several ranks, with the process group of torch.distributed."""

    def __init__(self, shard: Shard, local_size: int, control) -> None:
        self.shard = shard
        self.local_size = local_size
        self._control = control
        self._interrupted = False

    def interrupt(self, *_: object) -> None:
        """To be raised by the next all_gather: a rank that leaves in a step would hang the others."""
        self._interrupted = True

    def all_gather(self, value: Any = None) -> list:
        messages = self._meet(_Message(value, None, self._interrupted))
        for rank, message in enumerate(messages):
            if message.problem is not None:
                status, text = message.problem
                raise PeerFailed(status, f"rank {rank}: {text}")
        return [message.value for message in messages]

    def report(self, problem: tuple[str, str]) -> None:
        timer = threading.Timer(_ALONE_S, self._give_up, [problem])
        timer.daemon = True
        timer.start()
        try:
            self._meet(_Message(None, problem, self._interrupted))
        finally:
            timer.cancel()

    def start_together(self) -> None:
        self.all_gather()
        torch.distributed.barrier()
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()

    def shorten_timeout(self) -> None:
        _set_timeout(_STEP_TIMEOUT)

    def lengthen_timeout(self) -> None:
        _set_timeout(_PREPARATION_TIMEOUT)

    def leave(self, code: int | None) -> int:
        self._interrupted = False
        return self.broadcast(code)

    def _meet(self, sent: _Message) -> list[_Message]:
        messages: list[Any] = [None] * self.size
        try:
            torch.distributed.all_gather_object(messages, sent, group=self._control)
        except RuntimeError as error:
            line = str(error).splitlines()[0]
            raise CannotRun(f"rank {self.shard.rank}: another rank is gone ({line})") from None
        if any(message.interrupted for message in messages):
            raise KeyboardInterrupt
        return messages

    def _give_up(self, problem: tuple[str, str]) -> None:
        print(
            f"rank {self.shard.rank}: {problem[1]}; the other ranks could not be told",
            file=sys.stderr,
        )
        sys.stderr.flush()
        os._exit(1)


def describe_rank(gpu: dict | None) -> dict:
    """For the result file; the numbers are torchrun's."""
    node, local_rank = (int(os.environ.get(name, 0)) for name in ("GROUP_RANK", "LOCAL_RANK"))
    return {"node": node, "local_rank": local_rank, "gpu_uuid": gpu and gpu["uuid"]}


@contextmanager
def join(size: int, device: str, all_reduce: str) -> Iterator[Ranks]:
    """The ranks of this session, `size` of them as torchrun says; one needs no group.

    all_reduce: "auto", "nccl", or a kernel over shared memory, which auto has where it works.

    Raises:
        CannotRun: fewer GPUs than ranks, ranks that do not appear, or not the kernel that is asked.
    """
    if size == 1:
        with signals.raised():
            yield Ranks()
        return
    import torch.distributed as dist

    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    own_device = _own_device(device, local_rank, local_size)
    try:
        dist.init_process_group(
            "nccl" if device == "cuda" else "gloo", timeout=_STEP_TIMEOUT, device_id=own_device
        )
        control = dist.new_group(backend="gloo", timeout=_PREPARATION_TIMEOUT)
        _set_timeout(_PREPARATION_TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise CannotRun(f"the {size} ranks could not meet: {error}") from None
    shard = Shard(dist.get_rank(), size)
    group = Group(shard, local_size, control)
    _share_memory(group, device, all_reduce)
    with signals.passed_to(group.interrupt):
        yield group
    # After an error the process ends as it is: taking the group down waits for the other ranks.
    dist.destroy_process_group()


def _set_timeout(timeout: timedelta) -> None:
    """Of the group that computes; PyTorch has no public name for it."""
    from torch.distributed import distributed_c10d

    distributed_c10d._set_pg_timeout(timeout)


def _own_device(device: str, local_rank: int, local_size: int) -> torch.device | None:
    if device != "cuda":
        return None
    count = torch.cuda.device_count()
    if local_size > count:
        raise CannotRun(f"{local_size} ranks on {socket.gethostname()}, which has {count} GPUs")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def _share_memory(group: Group, device: str, wanted: str) -> None:
    """What the group can use of the kernels that are wanted: the same on all ranks."""
    if wanted == "nccl" or device != "cuda":
        return
    problem = None
    if group.num_nodes > 1 or group.size not in SHARED_SIZES:
        problem = f"it needs {', '.join(map(str, SHARED_SIZES))} GPUs of one host"
    elif not all(group.all_gather(_reaches_all_peers(group.local_size))):
        problem = "these GPUs can't read each other's memory"
    else:
        names = tuple(SHARED_SUMS) if wanted == "auto" else (wanted,)
        problems = {name: _share(group, name) for name in names}
        group.shared_sums = frozenset(name for name, why in problems.items() if why is None)
        problem = next(filter(None, problems.values()), None)
    if problem is None:
        return
    if wanted != "auto":
        raise CannotRun(f"--all-reduce {wanted}: {problem}")
    group.no_shared_sums = problem


def _share(group: Group, name: str) -> str | None:
    """Prepare one of SHARED_SUMS, on all ranks or on none; why not."""
    from inference_benchmark.parallel import collectives

    problem = None
    try:
        collectives.share_memory(name)
    except (RuntimeError, ImportError, AttributeError) as error:
        problem = str(error).splitlines()[0]
    problem = next(filter(None, group.all_gather(problem)), None)
    if problem is not None:
        collectives.give_up_memory(name)
    return problem


def _reaches_all_peers(local_size: int) -> bool:
    device = torch.cuda.current_device()
    others = [other for other in range(local_size) if other != device]
    return all(torch.cuda.can_device_access_peer(device, other) for other in others)
