"""What this GPU really reaches: memory bandwidth and matmul rate, measured in a few seconds.

Datasheets promise what no program gets. These ceilings are the best of a large device-to-device
copy (bytes read and written) and a large read, and a large matrix product in the model's precision,
all on random data: on zeros a GPU draws less power and runs faster than it ever will on a model.
"""

import statistics

import torch

from inference_benchmark.hardware import Ceilings

_BYTES = 4 * 2**30  # of a copy's source, and of its target
_LEAST_BYTES = 2**28  # below, caches and launches would be measured instead
_MATRIX = 8192
_REPEATS = 20
_WARMUP = 3


@torch.inference_mode()
def measure(
    dtype: torch.dtype, device: torch.device, available_bytes: int | None = None
) -> Ceilings | None:
    """bytes/s of this device, and FLOP/s of its matrix products in dtype.

    None where available_bytes are too few to measure either; nothing stays allocated.
    """
    size = _BYTES if available_bytes is None else min(_BYTES, available_bytes // 3)
    if size < max(_LEAST_BYTES, 2 * _MATRIX**2 * 4):  # a random matrix is made in fp32
        return None
    ceilings = Ceilings(_bandwidth(device, size), _matmul_rate(dtype, device), "measured")
    torch.cuda.empty_cache()
    return ceilings


def _bandwidth(device: torch.device, size: int) -> float:
    count = size // 4
    source = torch.randn(count, device=device)
    target = torch.empty_like(source)
    copy = 2 * 4 * count / _median_s(lambda: target.copy_(source))
    read = 4 * count / _median_s(source.sum)
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
