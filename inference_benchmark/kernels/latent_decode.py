"""Multi-head latent attention of one new token per sequence, in its absorbed form (flash-decoding).

All heads attend to the same compressed cache: a slot is a latent vector and a rotated key, together
the key of every head, and the latent vector alone is the value. So the heads are the rows of matrix
products with the cache, and a tile that was loaded for the scores is used again for the sum. With
128 heads that is some 240 FLOPs per byte of cache, about what an H200 can do for each byte it
reads, but at batch 1 there is little of either: 1,500 tokens are 1.7 MB. What counts there is that
every multiprocessor gets a share. The sequence is split, and so are the heads: a block of heads
reads the cache by itself, from L2 where another block came first, and leaves fewer splits to be
combined than as many programs along the sequence alone would.

A partial result is large here, latent_dim values in fp32 for each head and split: 4 MB at 128 heads
and 16 splits. The last program to arrive, as in flash_decode, would have to read the 512 KB of its
block of heads alone, through one multiprocessor; so a second kernel combines, of a few programs per
head, each of which asks for all it needs at once.

As in flash_decode the context is cut by the position, which is read on the device; the number of
programs follows from static shapes alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from inference_benchmark.kernels._registration import (
    jit,
    multiprocessor_count,
    programmatic_launch,
    register_operator,
    tl,
    triton,
)
from inference_benchmark.kernels.attention_plan import LOG2_E, MIN_HEAD_DIM
from inference_benchmark.kernels.integers import cdiv, power_of_2_at_most
from inference_benchmark.kernels.split_attention import chunk_tokens

MIN_HEAD_BLOCK = 16  # the least rows a tensor core takes
# The rows of Hopper's own matrix instructions, which take both operands from shared memory. Wide
# blocks read the cache fewer times, but fill the GPU with more splits, all to be combined; so they
# are for calls with sequences enough that few splits do.
WIDE_HEAD_BLOCK = 64
MAX_WIDE_SPLITS = 8
# Bytes of one tile of the cache; its length in tokens follows from it. 32 tokens of DeepSeek V3 in
# a 2-byte dtype: twice that, beside the queries and the sums, is more than the registers hold.
TILE_BYTES = 36864
MIN_TILE_TOKENS = 16
MAX_TILE_TOKENS = 64
NUM_STAGES = 3
# Elements of partial results that a program of the second kernel combines: 32 for each thread of 4
# warps, all of them on their way at a time.
COMBINE_ELEMENTS = 4096
COMBINE_WARPS = 4


@dataclass(frozen=True)
class Plan:
    """How one call is cut and compiled. A function of static shapes, never of the position."""

    head_block: int  # heads per program; more than there are is padding
    splits: int  # programs per (sequence, block of heads)
    tile_tokens: int
    num_warps: int
    num_stages: int = NUM_STAGES


def choose_plan(
    batch: int,
    heads: int,
    cache_length: int,
    cache_dim: int,
    element_bytes: int,
    multiprocessors: int,
) -> Plan:
    tile_tokens = min(TILE_BYTES // (cache_dim * element_bytes), MAX_TILE_TOKENS)
    tile_tokens = power_of_2_at_most(max(tile_tokens, MIN_TILE_TOKENS))
    wide_pairs = batch * (heads // WIDE_HEAD_BLOCK)
    is_wide = element_bytes == 2 and wide_pairs * (MAX_WIDE_SPLITS + 1) > multiprocessors
    head_block = WIDE_HEAD_BLOCK if is_wide else MIN_HEAD_BLOCK
    splits = max(1, multiprocessors // (batch * cdiv(heads, head_block)))
    splits = min(splits, cdiv(cache_length, tile_tokens))
    return Plan(head_block, splits, tile_tokens, num_warps=8 if is_wide else 4)


def latent_decode(
    q_latent: torch.Tensor,
    q_rope: torch.Tensor,
    cache: torch.Tensor,
    position: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """Attention of all heads over the slots 0 .. position of one compressed cache.

    q_latent [batch, heads, latent_dim] and q_rope [batch, heads, rope_dim]: the two parts of the
    absorbed queries. cache [batch, 1, cache_length, latent_dim + rope_dim]: the key of every head,
    whose first latent_dim elements are its value. All with unit last stride, other strides
    arbitrary. position: int64 [1] on the device, less than cache_length (not checked: that would
    need a synchronisation). scale: of the scores. Returns [batch, heads, latent_dim], contiguous,
    in the dtype of q_latent, accumulated in fp32.

    On a GPU both dimensions are powers of two of at least 16 (ValueError).
    """
    return _operator(q_latent, q_rope, cache, position, scale)


def latent_decode_reference(
    q_latent: torch.Tensor,
    q_rope: torch.Tensor,
    cache: torch.Tensor,
    position: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """The same in plain PyTorch; float64 inputs are computed in float64. Synchronises on a GPU."""
    dtype = torch.promote_types(q_latent.dtype, torch.float32)
    keys = cache[:, 0, : int(position) + 1].to(dtype)  # [batch, length, latent_dim + rope_dim]
    scores = torch.cat((q_latent, q_rope), dim=-1).to(dtype) @ keys.mT * scale
    values = keys[..., : q_latent.shape[-1]]
    return (scores.softmax(dim=-1) @ values).to(q_latent.dtype)


@jit
def _latent_decode_kernel(
    q_latent_ptr,
    q_rope_ptr,
    cache_ptr,
    position_ptr,
    out_ptr,  # [batch, HEADS, LATENT_DIM]
    partial_ptr,  # [batch, SPLITS, HEADS, LATENT_DIM]
    lse_ptr,  # [batch, SPLITS, HEADS]
    q_latent_stride_b,
    q_latent_stride_h,
    q_rope_stride_b,
    q_rope_stride_h,
    cache_stride_b,
    cache_stride_t,
    scale_log2,
    HEADS: tl.constexpr,
    HEAD_BLOCK: tl.constexpr,
    SPLITS: tl.constexpr,
    LATENT_DIM: tl.constexpr,
    ROPE_DIM: tl.constexpr,
    TILE_TOKENS: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
):
    heads = tl.program_id(0) * HEAD_BLOCK + tl.arange(0, HEAD_BLOCK)
    split = tl.program_id(1)
    batch = tl.program_id(2).to(tl.int64)
    latent_dims = tl.arange(0, LATENT_DIM)
    rope_dims = tl.arange(0, ROPE_DIM)
    tokens = tl.arange(0, TILE_TOKENS)
    is_head = heads < HEADS
    if PROGRAMMATIC:
        # In this order: once the dependent runs, the position is known to it as well.
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()

    # Before the position, whose value all addresses of the cache wait for: one latency, not two.
    q_latent = tl.load(
        q_latent_ptr
        + batch * q_latent_stride_b
        + heads[:, None] * q_latent_stride_h
        + latent_dims[None, :],
        mask=is_head[:, None],
        other=0.0,
    )
    q_rope = tl.load(
        q_rope_ptr
        + batch * q_rope_stride_b
        + heads[:, None] * q_rope_stride_h
        + rope_dims[None, :],
        mask=is_head[:, None],
        other=0.0,
    )
    length = tl.load(position_ptr).to(tl.int32) + 1
    chunk = chunk_tokens(length, SPLITS, TILE_TOKENS)
    begin = split * chunk
    if begin >= length:
        return
    end = tl.minimum(begin + chunk, length)

    latent_ptr = cache_ptr + batch * cache_stride_b
    rope_ptr = latent_ptr + LATENT_DIM
    latent_offsets = tokens[:, None] * cache_stride_t + latent_dims[None, :]
    rope_offsets = tokens[:, None] * cache_stride_t + rope_dims[None, :]

    running_max = tl.full([HEAD_BLOCK], float("-inf"), tl.float32)
    # The sum over a tile's columns crosses warps, so it is taken once, after the loop.
    weight_sums = tl.zeros([HEAD_BLOCK, TILE_TOKENS], tl.float32)
    acc = tl.zeros([HEAD_BLOCK, LATENT_DIM], tl.float32)
    for start in range(begin, end, TILE_TOKENS):
        filled = start + tokens < end
        offset = tl.cast(start, tl.int64) * cache_stride_t
        # Masked, not only ignored: an unwritten slot may hold NaN, and 0 * NaN is NaN.
        latent = tl.load(latent_ptr + offset + latent_offsets, mask=filled[:, None], other=0.0)
        k_rope = tl.load(rope_ptr + offset + rope_offsets, mask=filled[:, None], other=0.0)
        scores = tl.dot(q_rope, tl.trans(k_rope), input_precision="ieee")
        scores = tl.dot(q_latent, tl.trans(latent), scores, input_precision="ieee") * scale_log2
        scores = tl.where(filled[None, :], scores, float("-inf"))
        new_max = tl.maximum(running_max, tl.max(scores, axis=1))
        decay = tl.exp2(running_max - new_max)
        weights = tl.exp2(scores - new_max[:, None])
        weight_sums = weight_sums * decay[:, None] + weights
        acc = acc * decay[:, None]
        acc = tl.dot(weights.to(latent.dtype), latent, acc, input_precision="ieee")
        running_max = new_max

    weight_sum = tl.sum(weight_sums, axis=1)
    result = acc / weight_sum[:, None]
    index = (batch * SPLITS + split) * HEADS + heads
    offsets = index[:, None] * LATENT_DIM + latent_dims[None, :]
    if SPLITS == 1:
        tl.store(out_ptr + offsets, result.to(out_ptr.dtype.element_ty), is_head[:, None])
    else:
        tl.store(partial_ptr + offsets, result, is_head[:, None])
        tl.store(lse_ptr + index, running_max + tl.log2(weight_sum), is_head)


@jit
def _latent_combine_kernel(
    position_ptr,
    out_ptr,  # [batch, HEADS, LATENT_DIM]
    partial_ptr,  # [batch, SPLITS, HEADS, LATENT_DIM]
    lse_ptr,  # [batch, SPLITS, HEADS]
    HEADS: tl.constexpr,
    SPLITS: tl.constexpr,
    SPLITS_PADDED: tl.constexpr,
    LATENT_DIM: tl.constexpr,
    COLUMNS: tl.constexpr,
    TILE_TOKENS: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
):
    head = tl.program_id(0)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    batch = tl.program_id(2).to(tl.int64)
    splits = tl.arange(0, SPLITS_PADDED)
    # Before the wait: the kernel before this one has waited for the position before it let this one
    # start. (.cg: from L2, where it was written.)
    length = tl.load(position_ptr, cache_modifier=".cg").to(tl.int32) + 1
    is_active = splits < tl.cdiv(length, chunk_tokens(length, SPLITS, TILE_TOKENS))
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    index = (batch * SPLITS + splits) * HEADS + head
    partial = tl.load(
        partial_ptr + index[:, None] * LATENT_DIM + columns[None, :],
        mask=is_active[:, None],
        other=0.0,
    )
    lse = tl.load(lse_ptr + index, mask=is_active, other=float("-inf"))
    weights = tl.exp2(lse - tl.max(lse, axis=0))
    weights = weights / tl.sum(weights, axis=0)
    mean = tl.sum(partial * weights[:, None], axis=0)
    out = out_ptr + (batch * HEADS + head) * LATENT_DIM + columns
    tl.store(out, mean.to(out_ptr.dtype.element_ty))


def launch_latent_decode(
    q_latent: torch.Tensor,
    q_rope: torch.Tensor,
    cache: torch.Tensor,
    position: torch.Tensor,
    scale: float,
    plan: Plan | None = None,
) -> torch.Tensor:
    """The Triton kernels, on the current device and stream. plan None: the one of choose_plan."""
    _check(q_latent, q_rope, cache)
    batch, heads, latent_dim = q_latent.shape
    plan = plan or choose_plan(
        batch,
        heads,
        *cache.shape[2:],
        q_latent.element_size(),
        multiprocessor_count(q_latent.device),
    )
    out = _empty_output(q_latent)
    partial, lse = None, None
    if plan.splits > 1:
        rows = (batch, plan.splits, heads)
        partial = torch.empty((*rows, latent_dim), dtype=torch.float32, device=out.device)
        lse = torch.empty(rows, dtype=torch.float32, device=out.device)
    programmatic = programmatic_launch(out.device)
    _latent_decode_kernel[(cdiv(heads, plan.head_block), plan.splits, batch)](
        q_latent,
        q_rope,
        cache,
        position,
        out,
        partial,
        lse,
        *q_latent.stride()[:2],
        *q_rope.stride()[:2],
        cache.stride(0),
        cache.stride(2),
        scale * LOG2_E,
        HEADS=heads,
        HEAD_BLOCK=plan.head_block,
        SPLITS=plan.splits,
        LATENT_DIM=latent_dim,
        ROPE_DIM=q_rope.shape[-1],
        TILE_TOKENS=plan.tile_tokens,
        PROGRAMMATIC=programmatic,
        num_warps=plan.num_warps,
        num_stages=plan.num_stages,
        launch_pdl=programmatic,
    )
    if plan.splits > 1:
        splits_padded = triton.next_power_of_2(plan.splits)
        columns = min(latent_dim, max(1, COMBINE_ELEMENTS // splits_padded))
        _latent_combine_kernel[(heads, latent_dim // columns, batch)](
            position,
            out,
            partial,
            lse,
            HEADS=heads,
            SPLITS=plan.splits,
            SPLITS_PADDED=splits_padded,
            LATENT_DIM=latent_dim,
            COLUMNS=columns,
            TILE_TOKENS=plan.tile_tokens,
            PROGRAMMATIC=programmatic,
            num_warps=COMBINE_WARPS,
            launch_pdl=programmatic,
        )
    return out


def _check(q_latent: torch.Tensor, q_rope: torch.Tensor, cache: torch.Tensor) -> None:
    batch, heads, latent_dim = q_latent.shape
    rope_dim = q_rope.shape[-1]
    for name, size in (("latent_dim", latent_dim), ("rope_dim", rope_dim)):
        if size < MIN_HEAD_DIM or size & (size - 1):
            raise ValueError(
                f"latent_decode: {name} {size} is not a power of two of at least {MIN_HEAD_DIM}"
            )
    fits = cache.shape[:2] == (batch, 1) and cache.shape[3] == latent_dim + rope_dim
    if not fits or q_rope.shape[:2] != (batch, heads):
        raise ValueError(
            f"latent_decode: q_latent {tuple(q_latent.shape)}, q_rope {tuple(q_rope.shape)} and "
            f"cache {tuple(cache.shape)} do not fit"
        )
    if any(tensor.stride(-1) != 1 for tensor in (q_latent, q_rope, cache)):
        raise ValueError("latent_decode: the elements of a head must be contiguous")


def _empty_output(q_latent: torch.Tensor) -> torch.Tensor:
    return torch.empty(q_latent.shape, dtype=q_latent.dtype, device=q_latent.device)


def _fake(
    q_latent: torch.Tensor,
    q_rope: torch.Tensor,
    cache: torch.Tensor,
    position: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    return _empty_output(q_latent)


_operator = register_operator("latent_decode", latent_decode_reference, launch_latent_decode, _fake)
