"""The sum over ranks of a few rows, with the addition to the residual stream and the norm behind it.

In a decode step under tensor parallelism every rank needs the sum of a few kilobytes from each, twice
per layer, so the time is latency: of the launch, of the link, and of each further kernel. Here one
program per row pushes its rank's part into every rank's memory, its own included, waits until all
parts are there, and adds them up in the order of ranks: the same additions of the same bits
everywhere. It also normalises the row, which no second kernel has to read again, while the programs
of the next linear layer are already launched and have requested their first weights.

Which call a word belongs to is a number that both sides count, so nothing is reset or acknowledged:
a graph may be replayed at will, as long as all ranks make the same calls. Two halves of the memory
take turns. A rank sends call n only after it received all of n - 1, which its peers sent after their
kernel of n - 2 had ended: what n overwrites, the words of n - 2, was read. Nobody waits for what a
program of its own GPU does, so programs need not be resident at the same time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor

from inference_benchmark.kernels._registration import jit, programmatic_launch, tl, triton
from inference_benchmark.kernels.peer_words import WORDS_AT_ONCE, ptx_that_waits, receive, send

MAX_ROWS = 32
MAX_FEATURES = 16384
DTYPES = (torch.bfloat16, torch.float16)
HALVES = 2
_ROW_WORDS = MAX_FEATURES // 2  # two values each
_WARP = 32


@dataclass(frozen=True)
class Inboxes:
    """Where every rank of a host receives, as one of them sees it.

    addresses: int64 [size], of each rank's inbox: inbox_words(size) int64, zero at first.
    calls: int32 [MAX_ROWS], zero at first: how many calls each row has seen.
    keeps: whatever has to live as long as these.
    """

    addresses: Tensor
    calls: Tensor
    rank: int
    keeps: tuple = ()

    @property
    def size(self) -> int:
        return len(self.addresses)


def inbox_words(size: int) -> int:
    """[HALVES, MAX_ROWS, size, words of a row]: 8 MiB for two ranks, 32 for eight."""
    return HALVES * MAX_ROWS * size * _ROW_WORDS


def is_served(x: Tensor) -> bool:
    """Whether x [..., features], of one of DTYPES, is few and short enough rows.

    By its shape alone: a tracer may know types by names of its own.
    """
    features = x.shape[-1]
    rows = 1
    for size in x.shape[:-1]:
        rows *= size
    return rows <= MAX_ROWS and features <= MAX_FEATURES and features % 2 == 0


@jit
def _low_high(pairs, dtype: tl.constexpr):
    """Two values of 16 bits from each int32, in fp32."""
    low = pairs.to(tl.int16).to(dtype, bitcast=True)
    high = (pairs >> 16).to(tl.int16).to(dtype, bitcast=True)
    return low.to(tl.float32), high.to(tl.float32)


@jit
def _pairs(low, high, dtype: tl.constexpr):
    """The inverse, of fp32 values, which are rounded."""
    low_bits = low.to(dtype).to(tl.int16, bitcast=True).to(tl.int32) & 0xFFFF
    return low_bits | (high.to(dtype).to(tl.int16, bitcast=True).to(tl.int32) << 16)


@partial(jit, do_not_specialize=["rank"])  # one kernel for all ranks
def _push_all_reduce_kernel(
    x_ptr,  # [rows, FEATURES], this rank's part
    residual_ptr,  # [rows, FEATURES]
    norm_weight_ptr,  # [FEATURES]
    sum_ptr,  # [rows, FEATURES], of all ranks, and with NORM of the residual
    normed_ptr,  # [rows, FEATURES]
    addresses_ptr,  # [SIZE]
    calls_ptr,  # [MAX_ROWS]
    rank,
    eps,
    FEATURES: tl.constexpr,
    BLOCK: tl.constexpr,  # a power of two, FEATURES / 2 or more
    ROW_WORDS: tl.constexpr,
    MAX_ROWS: tl.constexpr,
    SIZE: tl.constexpr,
    NORM: tl.constexpr,
    WAIT: tl.constexpr,  # PTX; None in the interpreter
    PROGRAMMATIC: tl.constexpr,
):
    dtype: tl.constexpr = x_ptr.dtype.element_ty
    as_pairs: tl.constexpr = tl.pointer_type(tl.int32)
    as_words: tl.constexpr = tl.pointer_type(tl.int64)
    row = tl.program_id(0)
    pairs = tl.arange(0, BLOCK)
    inside = pairs < FEATURES // 2
    # Behind the last pair the last one is sent and received again, which needs no mask.
    pairs = tl.minimum(pairs, FEATURES // 2 - 1)
    at = row * (FEATURES // 2) + pairs
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_launch_dependents()
    inboxes = ()
    for peer in tl.static_range(SIZE):
        inboxes = inboxes + (tl.load(addresses_ptr + peer).to(as_words),)
    inbox = tl.load(addresses_ptr + rank).to(as_words)
    if NORM:
        scales = tl.load(norm_weight_ptr.to(as_pairs) + pairs)
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()
    # .cg: this kernel's previous call wrote it, maybe from another multiprocessor.
    number = tl.load(calls_ptr + row, cache_modifier=".cg") + 1
    part = tl.load(x_ptr.to(as_pairs) + at)
    first = ((number & 1) * MAX_ROWS + row) * SIZE * ROW_WORDS
    for peer in tl.static_range(SIZE):
        send(inboxes[peer] + first + rank * ROW_WORDS + pairs, part, number, WAIT is None)
    if NORM:
        total_low, total_high = _low_high(tl.load(residual_ptr.to(as_pairs) + at), dtype)
    parts = receive(inbox + first + pairs, number, ROW_WORDS, SIZE, WAIT)
    low, high = _low_high(parts[0], dtype)
    for peer in tl.static_range(1, SIZE):
        next_low, next_high = _low_high(parts[peer], dtype)
        low += next_low
        high += next_high
    if NORM:
        total = _pairs(total_low + low, total_high + high, dtype)
        low, high = _low_high(total, dtype)
        squares = tl.sum(tl.where(inside, low * low + high * high, 0.0), axis=0)
        factor = tl.rsqrt(squares / FEATURES + eps)
        scale_low, scale_high = _low_high(scales, dtype)
        normed = _pairs(low * factor * scale_low, high * factor * scale_high, dtype)
        tl.store(normed_ptr.to(as_pairs) + at, normed, mask=inside)
    else:
        total = _pairs(low, high, dtype)
    tl.store(sum_ptr.to(as_pairs) + at, total, mask=inside)
    tl.debug_barrier()  # every thread has the number
    tl.store(calls_ptr + row, number)


@cache
def _wait_for(size: int) -> tuple[str, str, int]:
    return ptx_that_waits(_ROW_WORDS, size)


def plan(features: int) -> tuple[int, int]:
    """(BLOCK, warps): a thread has WORDS_AT_ONCE words, or more where there are too few threads."""
    block = max(triton.next_power_of_2(features // 2), _WARP * WORDS_AT_ONCE)
    return block, min(32, block // (_WARP * WORDS_AT_ONCE))


def _launch(
    x: Tensor,
    inboxes: Inboxes,
    residual: Tensor | None = None,
    norm_weight: Tensor | None = None,
    eps: float = 0.0,
) -> tuple[Tensor, Tensor | None]:
    features = x.shape[-1]
    rows = x.numel() // features
    if x.dtype not in DTYPES or not is_served(x):
        raise ValueError(f"push_all_reduce: {x.dtype} {tuple(x.shape)} is not a few rows of pairs")
    x, has_norm = x.contiguous(), residual is not None
    if has_norm:
        residual = residual.contiguous()
        if residual.shape != x.shape or norm_weight.shape != x.shape[-1:]:
            raise ValueError("push_all_reduce: residual and norm weight must be shaped as x")
        if residual.dtype != x.dtype or norm_weight.dtype != x.dtype:
            raise ValueError("push_all_reduce: all tensors must be of one dtype")
    total = torch.empty_like(x)
    normed = torch.empty_like(x) if has_norm else None
    block, num_warps = plan(features)
    programmatic = programmatic_launch(x.device)
    _push_all_reduce_kernel[(rows,)](
        x,
        residual,
        norm_weight,
        total,
        normed,
        inboxes.addresses,
        inboxes.calls,
        inboxes.rank,
        eps,
        FEATURES=features,
        BLOCK=block,
        ROW_WORDS=_ROW_WORDS,
        MAX_ROWS=MAX_ROWS,
        SIZE=inboxes.size,
        NORM=has_norm,
        WAIT=_wait_for(inboxes.size) if x.device.type == "cuda" else None,
        PROGRAMMATIC=programmatic,
        num_warps=num_warps,
        launch_pdl=programmatic,
    )
    return total, normed


def launch_push_all_reduce(x: Tensor, inboxes: Inboxes) -> Tensor:
    """The sum of all ranks' x [..., features], in fp32, rounded once.

    Every rank makes the same calls in the same order, on one stream.
    """
    return _launch(x, inboxes)[0]


def launch_push_all_reduce_norm(
    update: Tensor,
    residual: Tensor,
    norm_weight: Tensor,
    eps: float,
    inboxes: Inboxes,
) -> tuple[Tensor, Tensor]:
    """rms_norm(total) and total = residual + the sum of all ranks' update, which is rounded once and
    before it is normalised. As launch_push_all_reduce otherwise.
    """
    total, normed = _launch(update, inboxes, residual, norm_weight, eps)
    return normed, total
