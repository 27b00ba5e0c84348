"""The most likely token: the place of the largest logit of each sequence.

A row of 128,256 values in bf16 is 250 KB, a tenth of a microsecond of bandwidth; a reduction by one
thread block takes twenty. Here a block looks at a few thousand values, and the last block of a row to
arrive compares what the others found.
"""

from __future__ import annotations

import torch

from inference_benchmark.kernels._registration import (
    jit,
    programmatic_launch,
    register_operator,
    tl,
    triton,
)
from inference_benchmark.kernels.arrivals import arrival_counters, is_last

BLOCK = 4096  # values per program
NUM_WARPS = 8


def greedy_token(logits: torch.Tensor) -> torch.Tensor:
    """logits [batch, vocab] -> [batch, 1], int64; of equal ones the first. NaN is the largest, as in
    torch.argmax: the place of a token that is there, whatever went wrong before.

    Calls of the same batch must not run concurrently on two streams: they share arrival counters.
    """
    return _operator(logits)


def greedy_token_reference(logits: torch.Tensor) -> torch.Tensor:
    """The same in plain PyTorch; of equal ones any."""
    return torch.argmax(logits, dim=-1, keepdim=True)


@jit
def ranks_of(values):
    """int32 in the order of the values [n], fp32: both zeros alike, NaN above all others."""
    bits = tl.where(values == 0.0, 0.0, values).to(tl.int32, bitcast=True)
    ranks = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return tl.where(values != values, 0x7FFFFFFF, ranks)


@jit
def first_largest(values, places):
    """The largest value and the least of its places."""
    largest = tl.max(values, axis=0)
    return largest, tl.min(tl.where(values == largest, places, 2147483647), axis=0)


@jit
def _greedy_token_kernel(
    logits_ptr,  # [batch, vocab]
    out_ptr,  # [batch]
    ranks_ptr,  # [batch, PROGRAMS], the largest
    places_ptr,
    arrivals_ptr,  # [batch]
    vocab,
    PROGRAMS: tl.constexpr,
    PROGRAMS_PADDED: tl.constexpr,
    BLOCK: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
):
    row = tl.program_id(0)
    program = tl.program_id(1)
    places = program * BLOCK + tl.arange(0, BLOCK)
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    # Behind the last value no place is less than those of the values.
    values = tl.load(
        logits_ptr + row.to(tl.int64) * vocab + places, mask=places < vocab, other=float("-inf")
    )
    largest, place = first_largest(ranks_of(values.to(tl.float32)), places)
    if PROGRAMS == 1:
        tl.store(out_ptr + row, place.to(tl.int64))
    else:
        tl.store(ranks_ptr + row * PROGRAMS + program, largest)
        tl.store(places_ptr + row * PROGRAMS + program, place)
        if is_last(arrivals_ptr + row, PROGRAMS):
            others = tl.arange(0, PROGRAMS_PADDED)
            inside = others < PROGRAMS
            # .cg: other multiprocessors wrote these; read them where they meet, in L2.
            maxima = tl.load(
                ranks_ptr + row * PROGRAMS + others,
                mask=inside,
                other=-2147483648,
                cache_modifier=".cg",
            )
            where = tl.load(
                places_ptr + row * PROGRAMS + others,
                mask=inside,
                other=2147483647,
                cache_modifier=".cg",
            )
            _, place = first_largest(maxima, where)
            tl.store(out_ptr + row, place.to(tl.int64))


def launch_greedy_token(logits: torch.Tensor) -> torch.Tensor:
    """The Triton kernel, on the current device and stream."""
    batch, vocab = logits.shape
    logits = logits.contiguous()
    programs = -(-vocab // BLOCK)
    out = _fake(logits)
    ranks = places = counters = None
    if programs > 1:
        ranks, places = torch.empty((2, batch, programs), dtype=torch.int32, device=logits.device)
        counters = arrival_counters("greedy_token", logits.device, batch)
    programmatic = programmatic_launch(logits.device)
    _greedy_token_kernel[(batch, programs)](
        logits,
        out,
        ranks,
        places,
        counters,
        vocab,
        PROGRAMS=programs,
        PROGRAMS_PADDED=triton.next_power_of_2(programs),
        BLOCK=BLOCK,
        PROGRAMMATIC=programmatic,
        num_warps=NUM_WARPS,
        launch_pdl=programmatic,
    )
    return out


def _fake(logits: torch.Tensor) -> torch.Tensor:
    return torch.empty((logits.shape[0], 1), dtype=torch.int64, device=logits.device)


_operator = register_operator("greedy_token", greedy_token_reference, launch_greedy_token, _fake)
