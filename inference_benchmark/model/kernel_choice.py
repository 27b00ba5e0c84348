"""Which kernels compute a forward where there is a choice; the defaults are PyTorch alone."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kernels:
    """
    attention: of a single token: "sdpa", or "flash_decode", our kernels, one for each kind.
    linear: of a single row: "torch", or "gemv", our kernel.
    fills_cache: whether the kernel that rotates and caches the keys of a single token, beside
        "flash_decode", also does so for a prompt; a compiler that fuses this itself needs no such
        thing.
    shared_heads: whether attention over a prompt may read KV heads that several query heads share;
        tracers that know no such thing need them repeated.
    experts: of a mixture: "grouped", sorted into one grouped product; "fused", the same, but our
        kernels choose the experts and serve a few tokens; or "loop", one by one, which waits for
        the host and is there to be compared with.
    all_reduce: of several ranks' partial sums: "none" on one rank, "nccl", or "one_shot", PyTorch's
        kernel for messages as small as those of a decode step.
    """

    attention: str = "sdpa"
    linear: str = "torch"
    fills_cache: bool = True
    shared_heads: bool = True
    experts: str = "grouped"
    all_reduce: str = "none"
