"""What a result depends on besides the code: GPU, driver, versions, the state of the repository."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from inference_benchmark import __version__

_PACKAGES = {
    "torch": "torch",
    "thunder": "lightning-thunder",
    "transformers": "transformers",
    "transformer_engine": "transformer-engine",
    "triton": "triton",
}
_COMMIT_VARIABLE = "BENCHMARK_GIT_COMMIT"
_ROOT = Path(__file__).resolve().parents[2]


def describe(device) -> dict:
    """The result file's `environment`; null where something is unknown or not installed."""
    import torch

    versions = {field: _version(package) for field, package in _PACKAGES.items()}
    gpu = describe_gpu(device) if device.type == "cuda" else None
    commit, dirty = _git_state()
    return {
        "gpu": gpu,
        "nodes": 1,
        "driver": _driver() if gpu else None,
        "cuda": torch.version.cuda if gpu else None,
        **versions,
        "nvfuser": _nvfuser_version(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": platform.processor() or platform.machine(),
        "preloaded": os.environ.get("LD_PRELOAD") or None,
        "git_commit": commit,
        "git_dirty": dirty,
        "benchmark_version": __version__,
    }


def describe_gpu(device) -> dict:
    import torch

    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "count": 1,
        "memory_bytes": properties.total_memory,
        "multiprocessors": properties.multi_processor_count,
        "uuid": gpu_uuid(device),
        "power_limit_w": None,
        "default_power_limit_w": None,
        "max_sm_clock_hz": _max_sm_clock_hz(gpu_uuid(device)),
    }


def git_commit() -> str | None:
    """Of this code, as its results say."""
    return _git_state()[0]


def gpu_name() -> str | None:
    """Of the first GPU that a program started here would see, asked without opening it; None where
    there is none or nobody can tell."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0].strip()
    try:
        import pynvml

        pynvml.nvmlInit()
        if visible.isdecimal():
            gpu = pynvml.nvmlDeviceGetHandleByIndex(int(visible))
        else:
            gpu = pynvml.nvmlDeviceGetHandleByUUID(visible)
        return pynvml.nvmlDeviceGetName(gpu)
    except Exception:  # as for the driver's version
        return None


def gpu_uuid(device) -> str | None:
    import torch

    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    return f"GPU-{uuid}" if uuid is not None else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _nvfuser_version() -> str | None:
    """nvFuser's wheels are named for their CUDA and torch: nvfuser-cu128-torch210."""
    for folder in sys.path:  # by their names: to read what all installed packages say takes longer
        for path in Path(folder).glob("nvfuser*.dist-info"):
            distribution = metadata.PathDistribution(path)
            return f"{distribution.version} ({distribution.metadata['Name']})"
    return None


def _max_sm_clock_hz(uuid: str | None) -> float | None:
    """The highest clock that this GPU is allowed to reach."""
    try:
        import pynvml

        pynvml.nvmlInit()
        gpu = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        return pynvml.nvmlDeviceGetMaxClockInfo(gpu, pynvml.NVML_CLOCK_SM) * 1e6
    except Exception:  # as for the driver's version
        return None


def _driver() -> str | None:
    try:
        import pynvml

        pynvml.nvmlInit()
        return pynvml.nvmlSystemGetDriverVersion()
    except Exception:  # no NVML is no reason to stop: the field stays unknown
        return None


def _git_state() -> tuple[str | None, bool | None]:
    """Of a copy without its history, or whose history ends before it, the variable names it."""
    if named := os.environ.get(_COMMIT_VARIABLE):
        return named, None
    commit = _git("rev-parse", "--verify", "HEAD")
    status = _git("status", "--porcelain", "--untracked-files=no")
    return commit, None if status is None else bool(status)


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(_ROOT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
