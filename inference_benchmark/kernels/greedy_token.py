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
from inference_benchmark.kernels.arrivals import arrival_counters

BLOCK = 4096  # values per program
NUM_WARPS = 8


def greedy_token(logits: torch.Tensor) -> torch.Tensor:
    """logits [batch, vocab], without NaN -> [batch, 1], int64; of equal ones the first.

    Calls of the same batch must not run concurrently on two streams: they share arrival counters.
    """
    return _operator(logits)


def greedy_token_reference(logits: torch.Tensor) -> torch.Tensor:
    """The same in plain PyTorch; of equal ones any."""
    return torch.argmax(logits, dim=-1, keepdim=True)


@jit
def _first_largest(values, places):
    """The largest value and the least of its places."""
    largest = tl.max(values, axis=0)
    return largest, tl.min(tl.where(values == largest, places, 2147483647), axis=0)


@jit
def _greedy_token_kernel(
    logits_ptr,  # [batch, vocab]
    out_ptr,  # [batch]
    values_ptr,  # [batch, PROGRAMS]
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
    values = tl.load(
        logits_ptr + row.to(tl.int64) * vocab + places, mask=places < vocab, other=float("-inf")
    ).to(tl.float32)
    largest, place = _first_largest(values, tl.where(places < vocab, places, 2147483647))
    if PROGRAMS == 1:
        tl.store(out_ptr + row, place.to(tl.int64))
    else:
        tl.store(values_ptr + row * PROGRAMS + program, largest)
        tl.store(places_ptr + row * PROGRAMS + program, place)
        tl.debug_barrier()
        arrived = tl.atomic_add(arrivals_ptr + row, 1, sem="acq_rel", scope="gpu")
        if arrived == PROGRAMS - 1:
            tl.store(arrivals_ptr + row, 0)  # for the next call, or replay
            others = tl.arange(0, PROGRAMS_PADDED)
            inside = others < PROGRAMS
            # .cg: other multiprocessors wrote these; read them where they meet, in L2.
            maxima = tl.load(
                values_ptr + row * PROGRAMS + others,
                mask=inside,
                other=float("-inf"),
                cache_modifier=".cg",
            )
            where = tl.load(
                places_ptr + row * PROGRAMS + others,
                mask=inside,
                other=2147483647,
                cache_modifier=".cg",
            )
            _, place = _first_largest(maxima, where)
            tl.store(out_ptr + row, place.to(tl.int64))


def launch_greedy_token(logits: torch.Tensor) -> torch.Tensor:
    """The Triton kernel, on the current device and stream."""
    batch, vocab = logits.shape
    logits = logits.contiguous()
    programs = -(-vocab // BLOCK)
    out = _fake(logits)
    values = torch.empty((batch, programs), dtype=torch.float32, device=logits.device)
    places = torch.empty((batch, programs), dtype=torch.int32, device=logits.device)
    programmatic = programmatic_launch(logits.device)
    _greedy_token_kernel[(batch, programs)](
        logits,
        out,
        values,
        places,
        arrival_counters("greedy_token", logits.device, batch),
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
