"""How a call of decode attention is cut over a GPU, for the kernels that attend to a context in parts.

The host's side of split_attention.py: what a call must look like, how many programs there are, what
each takes at a time, and the arguments that all such kernels end with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from inference_benchmark.kernels._registration import multiprocessor_count, programmatic_launch
from inference_benchmark.kernels.arrivals import arrival_counters
from inference_benchmark.kernels.integers import cdiv, next_power_of_2, power_of_2_at_most

# Programs launched per multiprocessor at most. On an H200 one beats two, at batch 1 (fewer partial
# results to combine) and at batch 32.
PROGRAMS_PER_MULTIPROCESSOR = 1
# Bytes of one tile of K (and of V); the tile's length in tokens follows from it.
TILE_BYTES = 16384
MIN_TILE_TOKENS = 16  # the least a tensor core takes
MAX_TILE_TOKENS = 128
# Steps of the software pipeline: the tiles of all but one of them are on their way at a time. With
# two instead of three attention alone takes longer on an H200.
NUM_STAGES = 3
# At batch 1 few tiles follow each other and the kernels before and after are ours, which start before
# this one has ended and read their vectors from L1; with more than 48 KiB of shared memory this kernel
# takes it away from them. So tiles are in registers there, the first before the queries are here:
# faster than a pipeline of two steps, and most with these tiles (results/trials/attention_ahead.json).
TILE_BYTES_AHEAD = 32768
MIN_TILE_OF_8_WARPS = 64  # tokens
# Of a program's part of the keys, beyond which it has the pipeline of three steps. Up to 4,900 tokens
# registers were faster; where the two cross was not measured.
FEW_BYTES = 131072
NUM_WARPS = 4
# Partial results that are on their way from L2 at a time while they are combined.
COMBINE_UNROLL = 16
MIN_DOT_ROWS = 16
MIN_HEAD_DIM = 16
LOG2_E = math.log2(math.e)


@dataclass(frozen=True)
class Plan:
    """How one call is cut and compiled. A function of static shapes, never of the position."""

    splits: int  # programs per (sequence, KV head)
    tile_tokens: int
    num_warps: int = NUM_WARPS
    num_stages: int = NUM_STAGES
    combine_unroll: int = COMBINE_UNROLL
    # Tiles are in registers, the first one before the kernel waits for its queries. Then parts need not
    # be whole tiles.
    ahead: bool = False

    @property
    def step_tokens(self) -> int:
        """What a program's part of the context is a multiple of."""
        return MIN_TILE_TOKENS if self.ahead else self.tile_tokens


def choose_plan(
    pairs: int,
    cache_length: int,
    head_dim: int,
    element_bytes: int,
    multiprocessors: int,
    beside_others: bool = False,
) -> Plan:
    """The plan for batch * kv_heads = pairs independent attentions over cache_length slots.

    beside_others: kernels of ours for one row, before it and behind it.
    """
    one_tile_each = cache_length * pairs // multiprocessors  # tokens, if all were to have work
    tile_tokens = min(TILE_BYTES // (head_dim * element_bytes), one_tile_each, MAX_TILE_TOKENS)
    tile_tokens = power_of_2_at_most(max(tile_tokens, MIN_TILE_TOKENS))
    splits = max(1, PROGRAMS_PER_MULTIPROCESSOR * multiprocessors // pairs)
    if splits > 1 and beside_others:
        part_tokens = next_power_of_2(cdiv(cache_length, splits))
        largest = power_of_2_at_most(TILE_BYTES_AHEAD // (head_dim * element_bytes))
        tile = max(min(largest, part_tokens, MAX_TILE_TOKENS), MIN_TILE_TOKENS)
        if part_tokens * head_dim * element_bytes <= FEW_BYTES:
            splits = min(splits, cdiv(cache_length, MIN_TILE_TOKENS))
            num_warps = 8 if tile >= MIN_TILE_OF_8_WARPS else NUM_WARPS
            return Plan(splits, tile, num_warps, num_stages=1, ahead=True)
    return Plan(min(splits, cdiv(cache_length, tile_tokens)), tile_tokens)


@dataclass(frozen=True)
class Launch:
    """What the kernels are launched with, beside their inputs and their output."""

    plan: Plan
    grid: tuple[int, int]
    workspace: tuple[torch.Tensor | None, ...]  # partial results, log2 denominators, arrivals
    strides: tuple[int, ...]  # of the caches: sequence, KV head, token
    scale_log2: float
    settings: dict[str, int | bool]


def prepare(
    name: str,
    q: torch.Tensor,
    heads: int,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    scale: float | None = None,
    plan: Plan | None = None,
    beside_others: bool = False,
) -> Launch:
    """q: what holds the queries, [batch, ..., head_dim]; plan None: the one of choose_plan."""
    batch, kv_heads, cache_length, head_dim = k_cache.shape
    pairs, group = batch * kv_heads, heads // kv_heads
    sizes = pairs, cache_length, head_dim, q.element_size()
    plan = plan or choose_plan(*sizes, multiprocessor_count(q.device), beside_others)
    combine_rows = next_power_of_2(group)
    programmatic = programmatic_launch(q.device)
    return Launch(
        plan,
        grid=(pairs, plan.splits),
        workspace=_workspace(name, q, pairs, plan.splits, group),
        strides=(*k_cache.stride()[:3], *v_cache.stride()[:3]),
        scale_log2=softmax_scale(scale, head_dim) * LOG2_E,
        settings={
            "KV_HEADS": kv_heads,
            "SPLITS": plan.splits,
            "GROUP": group,
            "GROUP_PADDED": max(MIN_DOT_ROWS, combine_rows),
            "HEAD_DIM": head_dim,
            "TILE_TOKENS": plan.tile_tokens,
            "COMBINE_ROWS": combine_rows,
            "COMBINE_UNROLL": plan.combine_unroll,
            "PROGRAMMATIC": programmatic,
            "num_warps": plan.num_warps,
            "num_stages": plan.num_stages,
            "launch_pdl": programmatic,
        },
    )


def _workspace(
    name: str, q: torch.Tensor, pairs: int, splits: int, group: int
) -> tuple[torch.Tensor | None, ...]:
    """Room for the partial results and their log2 denominators, fp32, and counters of who has left
    his; nothing where one program does it all."""
    if splits == 1:
        return None, None, None
    rows = pairs * splits * group
    partial = torch.empty((rows, q.shape[-1]), dtype=torch.float32, device=q.device)
    lse = torch.empty(rows, dtype=torch.float32, device=q.device)
    return partial, lse, arrival_counters(name, q.device, pairs)


def softmax_scale(scale: float | None, head_dim: int) -> float:
    return 1.0 / math.sqrt(head_dim) if scale is None else scale


def check_caches(
    name: str, q: torch.Tensor, heads: int, k_cache: torch.Tensor, v_cache: torch.Tensor
) -> None:
    """
    Raises:
        ValueError: the kernels can't serve these shapes.
    """
    batch, head_dim = q.shape[0], q.shape[-1]
    if head_dim < MIN_HEAD_DIM or head_dim & (head_dim - 1):
        raise ValueError(
            f"{name}: head_dim {head_dim} is not a power of two of at least {MIN_HEAD_DIM}"
        )
    fits = k_cache.shape == v_cache.shape and k_cache.shape[::3] == (batch, head_dim)
    if not fits or heads < 1 or heads % k_cache.shape[1]:
        raise ValueError(
            f"{name}: q {tuple(q.shape)}, k_cache {tuple(k_cache.shape)} and v_cache "
            f"{tuple(v_cache.shape)} do not fit"
        )
    if any(tensor.stride(-1) != 1 for tensor in (q, k_cache, v_cache)):
        raise ValueError(f"{name}: the elements of a head must be contiguous")
