"""Which kernels compute a forward where there is a choice; the defaults are PyTorch alone."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kernels:
    """
    attention: of a single token: "sdpa", or "flash_decode", our kernels, one for each kind.
    linear: of a single row: "torch", or "gemv", our kernel.
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
    shared_heads: bool = True
    experts: str = "grouped"
    all_reduce: str = "none"
