"""GPU memory that processes hold, as the driver counts it: contexts and reserved pools included."""

from collections.abc import Collection
from types import ModuleType
from typing import Any

from inference_benchmark.system.own_processes import import_pynvml


def used_bytes(pids: Collection[int], nvml: ModuleType | Any | None = None) -> int | None:
    """What these processes hold together on all GPUs of the host.

    pids: as the driver numbers them, see own_processes.py. None: it can't be asked, or does not
    say for one of them.
    """
    nvml = import_pynvml() if nvml is None else nvml
    if nvml is None or not pids:
        return None
    try:
        nvml.nvmlInit()
    except (nvml.NVMLError, OSError):
        return None
    try:
        handles = map(nvml.nvmlDeviceGetHandleByIndex, range(nvml.nvmlDeviceGetCount()))
        used = [
            process.usedGpuMemory
            for handle in handles
            for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle)
            if process.pid in pids
        ]
    except (nvml.NVMLError, AttributeError, OSError):
        return None
    finally:
        nvml.nvmlShutdown()
    return None if not used or None in used else sum(used)
