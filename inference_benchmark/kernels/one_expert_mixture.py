"""A mixture of experts for one token that goes to a single expert beside the shared one.

At batch 1 both networks are matrices read once, of the same size in Llama 4: 168 MB of gate and up,
84 MB of down, each. As products of their own they are four kernels, which begin and end, and what
chooses the expert and adds the results are three more. Here two kernels read everything. A program
takes the same few rows of the shared expert's matrix and then of the chosen one's: by the time it
has been through the first, which it requests before it waits for anything, it knows which expert it
goes on with, so no load of weights ever waits for the choice. Each program compares the scores of
all experts, a few bytes, itself; the second kernel adds both experts' products in its registers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from inference_benchmark.kernels._registration import (
    jit,
    programmatic_launch,
    register_operator,
    tl,
)
from inference_benchmark.kernels.greedy_token import first_largest, ranks_of
from inference_benchmark.kernels.integers import cdiv, next_power_of_2
from inference_benchmark.kernels.row_swiglu import swiglu_of_halves, swiglu_of_pairs
from inference_benchmark.kernels.row_tiles import add_pair, load_pair, load_tile, load_x


@dataclass(frozen=True)
class Plan:
    """How the matrices of in_features columns are cut."""

    rows: int  # of a matrix, per program
    columns: int  # per load; a power of two that need not divide in_features
    num_warps: int = 4


# Chosen on an H200 among rows 1 to 8, columns 256 to 4096 and 1 to 8 warps, in whole layers of Llama 4
# Scout: two rows of gate and two of up are slower, and so are four of down.
GATE_UP_PLAN = Plan(rows=1, columns=1024)
DOWN_PLAN = Plan(rows=2, columns=2048)


def choose_plans(hidden_size: int, width: int) -> tuple[Plan, Plan]:
    """Those of gate and up, and of down; of narrow matrices with shorter loads."""
    plans = (GATE_UP_PLAN, hidden_size), (DOWN_PLAN, width)
    first, second = (
        Plan(plan.rows, min(plan.columns, next_power_of_2(columns)), plan.num_warps)
        for plan, columns in plans
    )
    return first, second


def one_expert_mixture(
    hidden: torch.Tensor,
    scores: torch.Tensor,
    gate_up: torch.Tensor,
    down: torch.Tensor,
    shared_gate_up: torch.Tensor,
    shared_down: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The shared expert's result plus that of the expert with the best score, and which that is.

    hidden [..., hidden_size], one row in all; scores [..., num_experts] of that row; gate_up
    [num_experts, 2 * width, hidden_size], the gate's rows first; down [num_experts, hidden_size,
    width]; those of the shared expert the same without the first dimension; all contiguous and of
    one dtype. The sigmoid of the best score multiplies what goes into its expert. Returns
    [..., hidden_size], sums in fp32, rounded once per kernel, and int64 [1, 1]; of equal scores the
    first, and NaN is the best.
    """
    return _operator(hidden, scores, gate_up, down, shared_gate_up, shared_down)


def one_expert_mixture_reference(
    hidden: torch.Tensor,
    scores: torch.Tensor,
    gate_up: torch.Tensor,
    down: torch.Tensor,
    shared_gate_up: torch.Tensor,
    shared_down: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same in plain PyTorch; float64 inputs are computed in float64."""
    scores = scores.view(1, -1)
    choice = torch.argmax(scores, dim=-1, keepdim=True)
    wide = torch.promote_types(scores.dtype, torch.float32)
    share = torch.sigmoid(scores.gather(1, choice).to(wide)).to(hidden.dtype)
    expert = choice.view(())
    shared = F.linear(swiglu_of_halves(F.linear(hidden, shared_gate_up)), shared_down)
    gated = swiglu_of_halves(F.linear(hidden * share.view(()), gate_up[expert]))
    return shared + F.linear(gated, down[expert]), choice


@jit
def _pair_gate_up_gemv_kernel(
    hidden_ptr,  # [IN_FEATURES]
    scores_ptr,  # [EXPERTS]
    shared_ptr,  # [2 * WIDTH, IN_FEATURES]
    gate_up_ptr,  # [EXPERTS, 2 * WIDTH, IN_FEATURES]
    activation_ptr,  # [2, WIDTH], the shared expert's first
    choice_ptr,  # [1]
    EXPERTS: tl.constexpr,
    EXPERTS_PADDED: tl.constexpr,
    IN_FEATURES: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    TILES: tl.constexpr,  # of COLUMNS, that cover IN_FEATURES
    PROGRAMMATIC: tl.constexpr,
):
    LAST: tl.constexpr = (TILES - 1) * COLUMNS
    program = tl.program_id(0)
    rows = program * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, COLUMNS)
    # Beyond the last row it is read again, which needs no mask.
    places = tl.minimum(rows, WIDTH - 1).to(tl.int64)[:, None] * IN_FEATURES + columns[None, :]
    gate_at = shared_ptr + places
    rows_at = gate_at, gate_at + WIDTH * IN_FEATURES
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_launch_dependents()
    tiles = load_pair(rows_at, None, 0, columns, IN_FEATURES, COLUMNS)
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()
    experts = tl.arange(0, EXPERTS_PADDED)
    scores = tl.load(scores_ptr + experts, mask=experts < EXPERTS, other=float("-inf"))
    scores = scores.to(tl.float32)

    zeros = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    sums = zeros, zeros
    sums, tiles = _add_all_but_last(sums, tiles, rows_at, columns, hidden_ptr, IN_FEATURES, COLUMNS)
    x = load_x(hidden_ptr, LAST, columns, IN_FEATURES)
    _, expert = first_largest(ranks_of(scores), experts)
    gate_at = gate_up_ptr + expert.to(tl.int64) * (2 * WIDTH * IN_FEATURES) + places
    rows_at = gate_at, gate_at + WIDTH * IN_FEATURES
    following = load_pair(rows_at, None, 0, columns, IN_FEATURES, COLUMNS)
    sums = add_pair(sums, tiles, x)
    _store_swiglu(sums, 1.0, activation_ptr, rows, WIDTH)

    sums = zeros, zeros
    sums, tiles = _add_all_but_last(
        sums, following, rows_at, columns, hidden_ptr, IN_FEATURES, COLUMNS
    )
    sums = add_pair(sums, tiles, load_x(hidden_ptr, LAST, columns, IN_FEATURES))
    best = tl.sum(tl.where(experts == expert, scores, 0.0), axis=0)
    # The product is linear in what goes into it.
    _store_swiglu(sums, tl.sigmoid(best), activation_ptr + WIDTH, rows, WIDTH)
    tl.store(choice_ptr, expert.to(tl.int64), mask=program == 0)


@jit
def _add_all_but_last(
    sums, tiles, rows_at, columns, x_ptr, IN_FEATURES: tl.constexpr, COLUMNS: tl.constexpr
):
    """Of a pair of matrices whose first tiles are here; each while the next ones are on their way. The
    last tiles come back, so that what follows them is requested before they are multiplied."""
    for start in tl.static_range(COLUMNS, IN_FEATURES, COLUMNS):
        x = load_x(x_ptr, start - COLUMNS, columns, IN_FEATURES)
        following = load_pair(rows_at, None, start, columns, IN_FEATURES, COLUMNS)
        sums = add_pair(sums, tiles, x)
        tiles = following
    return sums, tiles


@jit
def _store_swiglu(sums, share, out_ptr, rows, WIDTH: tl.constexpr):
    gate = tl.sum(sums[0], axis=1) * share
    up = tl.sum(sums[1], axis=1) * share
    result = swiglu_of_pairs(gate, up).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + rows, result, mask=rows < WIDTH)


@jit
def _pair_down_gemv_kernel(
    activation_ptr,  # [2, WIDTH]
    choice_ptr,  # [1]
    shared_ptr,  # [OUT_FEATURES, WIDTH]
    down_ptr,  # [experts, OUT_FEATURES, WIDTH]
    out_ptr,  # [OUT_FEATURES]
    OUT_FEATURES: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    TILES: tl.constexpr,  # of COLUMNS, that cover WIDTH
    PROGRAMMATIC: tl.constexpr,
):
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, COLUMNS)
    places = tl.minimum(rows, OUT_FEATURES - 1).to(tl.int64)[:, None] * WIDTH + columns[None, :]
    rows_at = shared_ptr + places
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_launch_dependents()
    tile = load_tile(rows_at, None, 0, columns, WIDTH, COLUMNS)
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()
    expert = tl.load(choice_ptr)
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for step in tl.static_range(2 * TILES):
        x_ptr = activation_ptr + step // TILES * WIDTH
        x = load_x(x_ptr, step % TILES * COLUMNS, columns, WIDTH)
        if step + 1 == TILES:
            rows_at = down_ptr + expert * (OUT_FEATURES * WIDTH) + places
        if step + 1 < 2 * TILES:
            start = (step + 1) % TILES * COLUMNS
            following = load_tile(rows_at, None, start, columns, WIDTH, COLUMNS)
        total += tile.to(tl.float32) * x.to(tl.float32)[None, :]
        if step + 1 < 2 * TILES:
            tile = following
    result = tl.sum(total, axis=1).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + rows, result, mask=rows < OUT_FEATURES)


def launch_one_expert_mixture(
    hidden: torch.Tensor,
    scores: torch.Tensor,
    gate_up: torch.Tensor,
    down: torch.Tensor,
    shared_gate_up: torch.Tensor,
    shared_down: torch.Tensor,
    plans: tuple[Plan, Plan] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The Triton kernels, on the current device and stream. plans: of both kernels; None: those of
    choose_plans."""
    num_experts, hidden_size, width = down.shape
    _check(hidden, scores, gate_up, down, shared_gate_up, shared_down)
    first, second = plans or choose_plans(hidden_size, width)
    activation = hidden.new_empty((2, width))
    out, choice = _fake(hidden, scores, gate_up, down, shared_gate_up, shared_down)
    programmatic = programmatic_launch(hidden.device)
    _pair_gate_up_gemv_kernel[(cdiv(width, first.rows),)](
        hidden,
        scores,
        shared_gate_up,
        gate_up,
        activation,
        choice,
        EXPERTS=num_experts,
        EXPERTS_PADDED=next_power_of_2(num_experts),
        IN_FEATURES=hidden_size,
        WIDTH=width,
        ROWS=first.rows,
        COLUMNS=first.columns,
        TILES=cdiv(hidden_size, first.columns),
        PROGRAMMATIC=programmatic,
        num_warps=first.num_warps,
        launch_pdl=programmatic,
    )
    _pair_down_gemv_kernel[(cdiv(hidden_size, second.rows),)](
        activation,
        choice,
        shared_down,
        down,
        out,
        OUT_FEATURES=hidden_size,
        WIDTH=width,
        ROWS=second.rows,
        COLUMNS=second.columns,
        TILES=cdiv(width, second.columns),
        PROGRAMMATIC=programmatic,
        num_warps=second.num_warps,
        launch_pdl=programmatic,
    )
    return out, choice


def _check(hidden: torch.Tensor, scores: torch.Tensor, *weights: torch.Tensor) -> None:
    experts, hidden_size, width = weights[1].shape
    gate_up = 2 * width, hidden_size
    expected = (experts, *gate_up), (experts, hidden_size, width), gate_up, (hidden_size, width)
    shapes = tuple(tuple(weight.shape) for weight in weights)
    row = hidden.shape[-1], hidden.numel(), scores.shape[-1], scores.numel()
    if shapes != expected or row != (hidden_size, hidden_size, experts, experts):
        rows = tuple(hidden.shape), tuple(scores.shape)
        raise ValueError(f"one_expert_mixture: {rows} and {shapes} do not fit, or are not one row")
    tensors = hidden, scores, *weights
    if not all(tensor.is_contiguous() and tensor.dtype == hidden.dtype for tensor in tensors):
        raise ValueError("one_expert_mixture: all tensors must be contiguous and of one dtype")


def _fake(
    hidden: torch.Tensor,
    scores: torch.Tensor,
    gate_up: torch.Tensor,
    down: torch.Tensor,
    shared_gate_up: torch.Tensor,
    shared_down: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    choice = torch.empty((1, 1), dtype=torch.int64, device=hidden.device)
    return torch.empty_like(hidden, memory_format=torch.contiguous_format), choice


_operator = register_operator(
    "one_expert_mixture", one_expert_mixture_reference, launch_one_expert_mixture, _fake
)
