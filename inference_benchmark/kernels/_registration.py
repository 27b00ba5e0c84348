"""What the kernel files share: Triton if it is installed, and registration as an opaque operator.

A kernel becomes one operator of PyTorch's dispatcher, so that eager, torch.compile and any tracer
call the very same code: its plain PyTorch reference for CPU tensors, its Triton launch for CUDA
tensors. Compilers see the operator from outside only: a shape function and the arguments it writes.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch

try:
    import triton
    import triton.language as tl
except ImportError:  # CPU-only installations: the references still work
    triton = tl = None

NAMESPACE = "inference_benchmark"
# Straight into the dispatcher: torch.library.custom_op checks every call's results for aliasing,
# host time that a short prefill waits for. The tests check each operator once (opcheck).
_LIBRARY = torch.library.Library(NAMESPACE, "FRAGMENT")

# Programmatic dependent launch: a kernel's blocks are placed while its predecessor still drains,
# and wait on the device for its results. It hides most of the ~1 us between two kernels.
PROGRAMMATIC_LAUNCH = True
# First compute capability (major) that has it.
PROGRAMMATIC_LAUNCH_CAPABILITY = 9


def jit(function: Callable[..., Any], **options: Any) -> Any:
    """`triton.jit`, or the untouched function where Triton is missing, so that files import."""
    return function if triton is None else triton.jit(function, **options)


@jit
def prefetch(pointers):
    """Send the lines of memory that these point into on their way to L2; nothing waits for them.
    Not for the interpreter."""
    tl.inline_asm_elementwise(
        "prefetch.global.L2 [$1]; mov.u32 $0, 0;",
        "=r,l",
        [pointers.to(tl.int64)],
        dtype=tl.int32,
        is_pure=False,
        pack=1,
    )


def register_operator(
    name: str,
    reference: Callable[..., Any],
    launch: Callable[..., Any],
    fake: Callable[..., Any],
    mutates_args: Sequence[str] = (),
) -> Callable[..., Any]:
    """Register `inference_benchmark::name` and return the operator.

    reference, launch and fake take the same arguments; the schema is read from the annotations of
    reference, fake returns empty tensors of the right shapes, mutates_args names the arguments that
    are updated in place.
    """
    # Of what a wrapper wraps, whose annotations have names of its own file.
    annotated = inspect.unwrap(reference)
    schema = torch.library.infer_schema(annotated, mutates_args=tuple(mutates_args))
    _LIBRARY.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
    _LIBRARY.impl(name, reference, "CPU")
    _LIBRARY.impl(name, launch if triton is not None else _without_triton(name), "CUDA")
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=_LIBRARY)
    return getattr(getattr(torch.ops, NAMESPACE), name).default


def _without_triton(name: str) -> Callable[..., Any]:
    def unavailable(*args: Any, **kwargs: Any) -> Any:
        raise ImportError(f"{name} on a GPU needs Triton: pip install triton")

    return unavailable


@functools.cache
def multiprocessor_count(device: torch.device) -> int:
    """Streaming multiprocessors of a GPU; 1 for the CPU, where kernels run interpreted."""
    if device.type != "cuda":
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count


@functools.cache
def capability(device: torch.device) -> int:
    """A GPU's compute capability, the first number; 0 for the CPU."""
    return torch.cuda.get_device_capability(device)[0] if device.type == "cuda" else 0


@functools.cache
def programmatic_launch(device: torch.device) -> bool:
    """Whether kernels on this device are launched before their predecessor has finished."""
    return PROGRAMMATIC_LAUNCH and capability(device) >= PROGRAMMATIC_LAUNCH_CAPABILITY
