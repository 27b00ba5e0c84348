"""Which kernels compute a forward where there is a choice; the defaults are PyTorch alone."""

from dataclasses import dataclass

from inference_benchmark.model.parts import Attention

# Of a plain matrix's product, up to which "gemv" has a kernel.
FEW_ROWS = 32


@dataclass(frozen=True)
class KernelConfig:
    """
    attention: decode attention: "sdpa", "matmul" and "flex" are PyTorch's (attention/over_slots.py),
        "flash_decode" our kernels, which also rotate queries and keys and write the cache.
    linear: linear layers of up to FEW_ROWS rows: "torch", or "gemv", our kernels, with the norm
        before and SwiGLU behind, and for the greedy choice. Of quantised weights "gemv" are our
        kernels, "dequantized" is the product with the matrix that they stand for.
    fills_cache: with "flash_decode", whether our kernel also rotates and caches the keys of a
        prompt. Off where a compiler fuses these operations itself.
    shared_heads: whether prefill attention reads a KV head once for all query heads that share it.
        Off for tracers whose attention operator needs one KV head per query head.
    experts: a mixture's experts: "grouped" sorts tokens by expert into one grouped matrix product;
        "fused" is the same with our kernels for routing and for a few tokens; "loop" computes one
        expert after the other and synchronises with the host: it is the reference.
    all_reduce: the sum over ranks: "none" on one rank, "nccl", or for messages as small as those of a
        decode step "one_shot", PyTorch's kernel, or "push", ours, which also adds and normalises.
    """

    attention: str = "sdpa"
    linear: str = "torch"
    fills_cache: bool = True
    shared_heads: bool = True
    experts: str = "grouped"
    all_reduce: str = "none"


def needs_mask(attention: Attention, kernels: KernelConfig) -> bool:
    """Whether a decode step attends to all slots of the cache, and masks those not yet filled."""
    return kernels.attention != "flash_decode" or not attention.supports_flash_decode
