"""Where the time of a step goes: one unmeasured pass of torch's profiler, grouped by kind of kernel.

The pass runs after the timed runs, so that the profiler's cost touches none of them. A kernel's kind
is read from its name; what no kernel accounts for is idle time between kernels.
"""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

_OTHER = "norm, elementwise"
# First match wins. Names are those of cuBLAS, CUTLASS, cuDNN, flash-attention, NCCL and ours.
_KINDS = (
    # Inductor names what it fused after all operators that it stands between, a gemv's as well; it
    # computes a product itself only where it has taken one apart.
    (_OTHER, re.compile(r"^triton_(poi|red|per)_(?!.*_mm_)")),
    ("communication", re.compile(r"nccl|all_?reduce|multimem|symm_mem", re.I)),
    (
        "attention",
        re.compile(
            r"flash|fmha|attention|attn|sdpa|softmax_warp|latent_decode|rope_decode|combine_kernel",
            re.I,
        ),
    ),
    (
        "matmul",
        re.compile(
            r"gemm|gemv|nvjet|cutlass|xmma|splitk|dot_kernel|matmul|_mm_|cublas|_few_rows|_unpack_kernel|_scale_rows",
            re.I,
        ),
    ),
)
_COSTLIEST = 10


def kind_of(kernel: str) -> str:
    return next((name for name, pattern in _KINDS if pattern.search(kernel)), _OTHER)


def least_waiting(profiles: list[dict]) -> dict:
    """Of several ranks' profiles each phase of the rank that waited least for the others.

    A kernel that adds up over ranks lasts until the last of them is there, and profiling holds up
    ranks unequally; what the last one sees is communication alone.
    """
    return {
        phase: min(
            (profile[phase] for profile in profiles),
            key=lambda profile: profile["by_kind"].get("communication", 0.0),
        )
        for phase in profiles[0]
    }


def _profiler() -> profile:
    # acc_events: otherwise torch warns that events of earlier cycles are dropped; there is one.
    return profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU], acc_events=True)


def record_steps(step: Callable[[], None], repeats: int) -> dict:
    """Kernel times of one step, the mean of `repeats`, on the GPU.

    Returns:
        {"kernel_s", "kernels", "by_kind": {kind: s}, "costliest": [{"name", "kind", "calls", "s"}]}.
    """
    torch.cuda.synchronize()
    with _profiler() as profiler:
        for _ in range(repeats):
            step()
        torch.cuda.synchronize()
    spans = [
        (event.time_range.start, event.time_range.end, event.name)
        for event in profiler.events()
        if event.device_type == torch.autograd.DeviceType.CUDA and not event.is_user_annotation
    ]
    return _phase(*attribute(spans, repeats), repeats)


def attribute(spans: list[tuple[float, float, str]], repeats: int) -> tuple[Counter, Counter]:
    """Seconds per repeat and calls of each kernel from (start, end, name) in microseconds.

    A kernel that was launched early waits on the device while its predecessor finishes: where two
    overlap, the time belongs to the one that started first, so that the sum is the time in which
    anything ran.
    """
    seconds, calls = Counter(), Counter()
    frontier = float("-inf")
    for start, end, name in sorted(spans):
        seconds[name] += max(0.0, end - max(start, frontier)) * 1e-6 / repeats
        calls[name] += 1
        frontier = max(frontier, end)
    return seconds, calls


def _phase(seconds: Counter, calls: Counter, repeats: int) -> dict:
    by_kind = Counter()
    for name, time in seconds.items():
        by_kind[kind_of(name)] += time
    costliest = [
        {"name": name[:120], "kind": kind_of(name), "calls": calls[name] / repeats, "s": time}
        for name, time in seconds.most_common(_COSTLIEST)
    ]
    return {
        "kernel_s": sum(seconds.values()),
        "kernels": sum(calls.values()) / repeats,
        "by_kind": dict(by_kind),
        "costliest": costliest,
    }


def write_trace(phases, path: Path) -> None:
    """A Chrome trace of each phase's steps, one phase after the other."""
    for phase in phases:
        phase.prepare()
    with _profiler() as profiler:
        for phase in phases:
            for _ in range(phase.repeats):
                phase.step()
        torch.cuda.synchronize()
    profiler.export_chrome_trace(str(path))
