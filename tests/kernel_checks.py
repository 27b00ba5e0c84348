"""What the kernels' tests share: where they run, how near a result must be, poisoned memory.

The kernels run natively where there is a GPU (marker `gpu`). Everywhere a few small cases run
through Triton's interpreter, in a process of their own because the interpreter must be chosen
before Triton is imported. The interpreter knows neither bf16 matrix products nor concurrency, so
bf16, the order of memory operations and CUDA graphs are tested on a GPU only.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
HAS_GPU = torch.cuda.is_available() and not INTERPRETED
DEVICE = "cuda" if HAS_GPU else "cpu"
H200_MULTIPROCESSORS = 132
ROOT = Path(__file__).resolve().parent.parent

# ||out - reference|| / ||reference||, reference in float64 of the same inputs: a few units of
# roundoff (6e-8, 4.9e-4, 3.9e-3), which covers weights rounded to the dtype before the product.
TOLERANCE = {torch.float32: 2e-6, torch.float16: 6e-4, torch.bfloat16: 5e-3}

on_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not HAS_GPU, reason="needs a GPU"),
]
interpreted_only = pytest.mark.skipif(not INTERPRETED, reason="runs inside the interpreter's test")
starts_interpreter = [
    pytest.mark.skipif(INTERPRETED, reason="runs the interpreter's tests and is not one of them"),
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton"),
]


def run_in_interpreter(test_file: str) -> None:
    """The tests of a file whose names hold "interpreted"."""
    done = _run_all_in_interpreter()
    name = Path(test_file).resolve().relative_to(ROOT).as_posix()
    lines = [line for line in done.stdout.splitlines() if f" {name}::" in line]
    passed = [line for line in lines if line.startswith("PASSED")]
    assert passed, f"no test of {name} ran:\n{done.stdout}{done.stderr}"
    if len(passed) < len(lines):
        raise AssertionError(done.stdout + done.stderr)


@functools.cache
def _run_all_in_interpreter() -> subprocess.CompletedProcess:
    """Of all kernels at once, for a process of its own per file would load torch each time."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "interpreted"]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [*command, "-rA", "tests/kernels"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )


if INTERPRETED:
    import triton_interpreter

    triton_interpreter.mend()


def relative_error(out: torch.Tensor, reference: torch.Tensor) -> float:
    difference = torch.linalg.vector_norm(out.double() - reference.double())
    return float(difference / torch.linalg.vector_norm(reference.double()))


def assert_close(
    out: torch.Tensor, reference: torch.Tensor, dtype: torch.dtype, roundings: float = 0.0
) -> None:
    """roundings: what the sums of this kernel may lose in fp32, beyond the usual tolerance."""
    assert out.dtype == dtype
    assert out.shape == reference.shape
    assert bool(torch.isfinite(out).all())
    assert relative_error(out, reference) < TOLERANCE[dtype] + roundings


def calls_again(position: int, positions: tuple[int, ...]) -> bool:
    """Whether a second call, which must give the same bits, is made at this position.

    On a GPU at each: the order of arrival may differ. The interpreter has none, and the second call
    shows only what the first left behind: once after the last.
    """
    return not INTERPRETED or position == positions[-1]


def doubles(tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Floating tensors in float64, the others as they are."""
    return tuple(tensor.double() if tensor.is_floating_point() else tensor for tensor in tensors)


def same_bits(left: torch.Tensor, right: torch.Tensor) -> bool:
    return torch.equal(left.view(torch.uint8), right.view(torch.uint8))


def as_layer(cache: torch.Tensor, layers_first: bool) -> torch.Tensor:
    """A copy that is the second of two layers: [2, batch, ...][1], or [batch, 2, ...][:, 1]."""
    memory = cache.new_zeros(2 * cache.numel())
    batch_stride, *strides = cache.stride()
    if layers_first:
        view = memory.as_strided(cache.shape, cache.stride(), cache.numel())
    else:
        view = memory.as_strided(cache.shape, (2 * batch_stride, *strides), batch_stride)
    return view.copy_(cache)
