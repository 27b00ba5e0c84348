"""GPU memory of processes, from a scripted NVML."""

from types import SimpleNamespace

from inference_benchmark.system.process_memory import used_bytes


class NVMLError(Exception):
    pass


def nvml(*gpus: dict[int, int | None]) -> SimpleNamespace:
    """Each GPU as {pid: bytes}."""
    return SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: len(gpus),
        nvmlDeviceGetHandleByIndex=lambda index: gpus[index],
        nvmlDeviceGetComputeRunningProcesses=lambda gpu: [
            SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in gpu.items()
        ],
    )


def test_it_is_the_sum_over_gpus_of_these_processes_alone():
    assert used_bytes({1, 2}, nvml({1: 10, 3: 100}, {2: 5})) == 15


def test_what_is_not_known_is_none():
    assert used_bytes({1}, nvml({2: 10})) is None
    assert used_bytes({1}, nvml({1: None})) is None
    assert used_bytes(set(), nvml({1: 10})) is None

    def refuse():
        raise NVMLError

    broken = nvml({1: 10})
    broken.nvmlInit = refuse
    assert used_bytes({1}, broken) is None
