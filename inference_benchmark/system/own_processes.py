"""Which processes on the GPUs of this host belong to this program."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


class OwnProcesses:
    """Which of the processes on this host's GPUs are this program's: itself and its workers.

    In a container the driver reports the host's process numbers, under which our own are strangers
    that no /proc of ours shows. So they are told by when they appear: what is new on the GPUs after
    something of ours was started, and wasn't there before, is ours; everything else is foreign.

        own_processes = OwnProcesses()
        with own_processes.starting():
            torch.cuda.init() ... the first allocation
        with own_processes.starting(workers=4):
            start the engine's server
        monitor = GpuMonitor(uuid, own_processes=own_processes)
    """

    def __init__(self, nvml: ModuleType | Any | None = None) -> None:
        self.pids: set[int] = {os.getpid()}
        self._nvml = import_pynvml() if nvml is None else nvml

    @contextmanager
    def starting(self, workers: int = 1) -> Iterator[None]:
        """Around the start of this process's own use of a GPU, or of so many worker processes.

        Of several ranks on a host, which start together, each gives their number. Keep it short:
        another program that starts meanwhile, and that no /proc of ours shows, can't be told from
        ours. Of more newcomers than were started the first are taken for ours.
        """
        before = self._gpu_pids()
        try:
            yield
        finally:
            new = sorted(self._gpu_pids() - before - self.pids)
            visible = [pid for pid in new if os.path.exists(f"/proc/{pid}")]
            self.pids |= {pid for pid in visible if _is_descendant(pid)}
            if not self._shows_our_numbers(before):
                strangers = [pid for pid in new if pid not in visible]
                self.pids |= set(strangers[:workers])

    def _shows_our_numbers(self, before: set[int]) -> bool:
        """Whether the driver numbers processes as we do: then no stranger is one of ours."""
        return os.getpid() in before | self._gpu_pids()

    def _gpu_pids(self) -> set[int]:
        """Of all processes that compute on any GPU of the host; empty where NVML can't be asked."""
        nvml = self._nvml
        if nvml is None:
            return set()
        try:
            nvml.nvmlInit()
        except (nvml.NVMLError, OSError):
            return set()
        try:
            handles = map(nvml.nvmlDeviceGetHandleByIndex, range(nvml.nvmlDeviceGetCount()))
            return {
                process.pid
                for handle in handles
                for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle)
            }
        except (nvml.NVMLError, AttributeError, OSError):
            return set()
        finally:
            nvml.nvmlShutdown()


def _is_descendant(pid: int) -> bool:
    """Whether this process or one of its ancestors is us. False for one that has ended."""
    while pid > 1:
        if pid == os.getpid():
            return True
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                pid = int(file.read().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return False
    return False


def import_pynvml() -> ModuleType | None:
    try:
        import pynvml
    except ImportError:
        return None
    return pynvml
