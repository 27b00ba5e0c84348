"""The experts of a few tokens: reading their rows once, as fast as memory delivers them.

A decode step at batch 1 has 1 to 8 (token, expert) pairs per mixture. Each is a SwiGLU network
applied to one row, 90 to 250 MB of weights for a multiply-add per 2 bytes: the case of gemv, only
that the device alone knows which matrices they are. Sorting the pairs by expert and gathering rows,
as for a prompt, costs a dozen small kernels; here there are two. The first multiplies every pair's
row by gate and up and leaves silu(gate) * up, the second multiplies that by down and adds up the
experts of a token. As in gemv each program takes a few rows of a matrix whole, so that nothing is
summed twice.

Programs of different pairs and the same rows run side by side: where two tokens share an expert,
one of them finds its rows in L2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from inference_benchmark.kernels._registration import jit, programmatic_launch, tl
from inference_benchmark.kernels.integers import cdiv, next_power_of_2
from inference_benchmark.kernels.row_swiglu import swiglu_of_pairs
from inference_benchmark.kernels.row_tiles import load_pair, load_tile, sum_pairs

# Elements of a weight matrix that a program requests at a time: 16 bytes, twice, for each thread of
# 4 warps. As in gemv, whose best plans request that much.
TILE_ELEMENTS = 4096
MAX_COLUMNS = 2048
MAX_ROWS = 16
NUM_WARPS = 4


@dataclass(frozen=True)
class Plan:
    """How the matrices of in_features columns are cut."""

    rows: int  # of a matrix, per program
    columns: int  # per load; a power of two that need not divide in_features
    num_warps: int = NUM_WARPS


def choose_plan(in_features: int, matrices: int) -> Plan:
    """The plan of a kernel whose programs read rows of so many matrices at a time."""
    columns = min(next_power_of_2(in_features), MAX_COLUMNS)
    return Plan(min(TILE_ELEMENTS // (matrices * columns), MAX_ROWS), columns)


@jit
def _expert_gate_up_gemv_kernel(
    hidden_ptr,  # [tokens, IN_FEATURES]
    indices_ptr,  # [tokens, PER_TOKEN]
    shares_ptr,  # [tokens, PER_TOKEN]
    gate_up_ptr,  # [experts, 2 * WIDTH, IN_FEATURES]
    scales_ptr,  # of 8-bit weights [experts, 2 * WIDTH]
    out_ptr,  # [tokens * PER_TOKEN, WIDTH]
    PER_TOKEN: tl.constexpr,
    IN_FEATURES: tl.constexpr,
    WIDTH: tl.constexpr,
    GATES_INPUT: tl.constexpr,
    SCALED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
):
    pair = tl.program_id(0)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    inside_rows = (rows < WIDTH)[:, None]
    columns = tl.arange(0, COLUMNS)
    if PROGRAMMATIC:
        # In this order: once the dependent runs, the chosen experts are known to it as well.
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    expert = tl.load(indices_ptr + pair).to(tl.int64)
    gate_at = gate_up_ptr + (expert * (2 * WIDTH) + rows)[:, None] * IN_FEATURES
    rows_at = gate_at, gate_at + WIDTH * IN_FEATURES
    x_ptr = hidden_ptr + pair // PER_TOKEN * IN_FEATURES
    share = None
    if GATES_INPUT:
        share = tl.load(shares_ptr + pair).to(tl.float32)

    tiles = load_pair(rows_at, inside_rows, 0, columns, IN_FEATURES, COLUMNS)
    gate, up = sum_pairs(
        tiles, rows_at, inside_rows, columns, x_ptr, share, IN_FEATURES, ROWS, COLUMNS
    )
    gate, up = tl.sum(gate, axis=1), tl.sum(up, axis=1)
    if SCALED:
        scales = scales_ptr + expert * (2 * WIDTH) + rows
        gate *= tl.load(scales, mask=rows < WIDTH, other=0.0)
        up *= tl.load(scales + WIDTH, mask=rows < WIDTH, other=0.0)
    result = swiglu_of_pairs(gate, up).to(out_ptr.dtype.element_ty)
    out = out_ptr + pair.to(tl.int64) * WIDTH + rows
    tl.store(out, result, mask=rows < WIDTH)


@jit
def _expert_down_gemv_kernel(
    activation_ptr,  # [tokens * PER_TOKEN, WIDTH]
    indices_ptr,  # [tokens, PER_TOKEN]
    shares_ptr,  # [tokens, PER_TOKEN]
    down_ptr,  # [experts, OUT_FEATURES, WIDTH]
    scales_ptr,  # of 8-bit weights [experts, OUT_FEATURES]
    out_ptr,  # [tokens, OUT_FEATURES]
    PER_TOKEN: tl.constexpr,
    OUT_FEATURES: tl.constexpr,
    WIDTH: tl.constexpr,
    GATES_INPUT: tl.constexpr,
    SCALED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    TILES: tl.constexpr,  # of COLUMNS, that cover WIDTH
    PROGRAMMATIC: tl.constexpr,
):
    token = tl.program_id(0)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    inside_rows = (rows < OUT_FEATURES)[:, None]
    columns = tl.arange(0, COLUMNS)
    first_pair = token * PER_TOKEN
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_launch_dependents()
    # The kernel before this one has waited for the choice before it let this one start. (.cg: from
    # L2, where it was written; no wait of this kernel's own has made the nearer cache forget.)
    expert = tl.load(indices_ptr + first_pair, cache_modifier=".cg").to(tl.int64)
    rows_at = down_ptr + (expert * OUT_FEATURES + rows)[:, None] * WIDTH
    tile = load_tile(rows_at, inside_rows, 0, columns, WIDTH, COLUMNS)
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for step in tl.static_range(PER_TOKEN * TILES):
        pair = first_pair + step // TILES
        x_ptr = activation_ptr + pair.to(tl.int64) * WIDTH
        inside = step % TILES * COLUMNS + columns
        x = tl.load(x_ptr + inside, mask=inside < WIDTH, other=0.0).to(tl.float32)
        if not GATES_INPUT:
            x *= tl.load(shares_ptr + pair).to(tl.float32)
        products = tile.to(tl.float32) * x[None, :]
        if SCALED:
            scales = scales_ptr + expert * OUT_FEATURES + rows
            products *= tl.load(scales, mask=rows < OUT_FEATURES, other=0.0)[:, None]
        total += products
        if step + 1 < PER_TOKEN * TILES:
            if (step + 1) % TILES == 0:
                expert = tl.load(indices_ptr + first_pair + (step + 1) // TILES).to(tl.int64)
                rows_at = down_ptr + (expert * OUT_FEATURES + rows)[:, None] * WIDTH
            start = (step + 1) % TILES * COLUMNS
            tile = load_tile(rows_at, inside_rows, start, columns, WIDTH, COLUMNS)
    out = out_ptr + token.to(tl.int64) * OUT_FEATURES + rows
    result = tl.sum(total, axis=1).to(out_ptr.dtype.element_ty)
    tl.store(out, result, mask=rows < OUT_FEATURES)


def launch_expert_gemv(
    hidden: torch.Tensor,
    expert_indices: torch.Tensor,
    expert_weights: torch.Tensor,
    gate_up: torch.Tensor,
    down: torch.Tensor,
    gates_input: bool,
    plans: tuple[Plan, Plan] | None = None,
    scales: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """The weighted sum of each token's experts by the Triton kernels, on the current stream.

    Arguments and result are those of routed_experts; sums are in fp32, rounded once per kernel.
    plans: of both kernels; None: those of choose_plan.
    scales: of the rows of gate_up and of down, where these are of 8 bits.
    """
    if not (gate_up.is_contiguous() and down.is_contiguous()):
        raise ValueError("expert_gemv: the experts' weights must be contiguous")
    tokens, per_token = expert_indices.shape
    hidden_size, width = down.shape[1:]
    plans = plans or (choose_plan(hidden_size, matrices=2), choose_plan(width, matrices=1))
    hidden, indices = hidden.contiguous(), expert_indices.contiguous()
    shares = expert_weights.contiguous()
    activation = torch.empty((tokens * per_token, width), dtype=hidden.dtype, device=hidden.device)
    out = torch.empty(hidden.shape, dtype=hidden.dtype, device=hidden.device)
    programmatic = programmatic_launch(hidden.device)
    first, second = plans
    _expert_gate_up_gemv_kernel[(tokens * per_token, cdiv(width, first.rows))](
        hidden,
        indices,
        shares,
        gate_up,
        gate_up if scales is None else scales[0],
        activation,
        PER_TOKEN=per_token,
        IN_FEATURES=hidden_size,
        WIDTH=width,
        GATES_INPUT=gates_input,
        SCALED=scales is not None,
        ROWS=first.rows,
        COLUMNS=first.columns,
        PROGRAMMATIC=programmatic,
        num_warps=first.num_warps,
        launch_pdl=programmatic,
    )
    _expert_down_gemv_kernel[(tokens, cdiv(hidden_size, second.rows))](
        activation,
        indices,
        shares,
        down,
        down if scales is None else scales[1],
        out,
        PER_TOKEN=per_token,
        OUT_FEATURES=hidden_size,
        WIDTH=width,
        GATES_INPUT=gates_input,
        SCALED=scales is not None,
        ROWS=second.rows,
        COLUMNS=second.columns,
        TILES=cdiv(width, second.columns),
        PROGRAMMATIC=programmatic,
        num_warps=second.num_warps,
        launch_pdl=programmatic,
    )
    return out
