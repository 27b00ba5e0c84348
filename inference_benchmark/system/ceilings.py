"""What this GPU really reaches: memory bandwidth and matmul rate, measured in a few seconds.

Datasheets promise what no program gets. These ceilings are the best of a large device-to-device
copy (bytes read and written) and a large read, and a large matrix product in the model's precision,
all on random data: on zeros a GPU draws less power and runs faster than it ever will on a model.
"""

import statistics

import torch

from inference_benchmark.hardware import Ceilings

_BYTES = 4 * 2**30
_MATRIX = 8192
_REPEATS = 20
_WARMUP = 3


@torch.inference_mode()
def measure(dtype: torch.dtype, device: torch.device) -> Ceilings:
    """bytes/s of this device, and FLOP/s of its matrix products in dtype."""
    ceilings = Ceilings(_bandwidth(device), _matmul_rate(dtype, device), "measured")
    torch.cuda.empty_cache()
    return ceilings


def _bandwidth(device: torch.device) -> float:
    source = torch.randn(_BYTES // 4, device=device)
    target = torch.empty_like(source)
    copy = 2 * _BYTES / _median_s(lambda: target.copy_(source))
    read = _BYTES / _median_s(source.sum)
    return max(copy, read)


def _matmul_rate(dtype: torch.dtype, device: torch.device) -> float:
    matrix = torch.randn(_MATRIX, _MATRIX, device=device).to(dtype)
    return 2 * _MATRIX**3 / _median_s(lambda: matrix @ matrix)


def _median_s(action) -> float:
    times = []
    for repeat in range(_WARMUP + _REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        action()
        end.record()
        end.synchronize()
        if repeat >= _WARMUP:
            times.append(start.elapsed_time(end) * 1e-3)
    return statistics.median(times)
