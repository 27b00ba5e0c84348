"""A product of one row that does its share of the norms before and behind it: the kernel of norm_sums.py.

This project's one-row kernel (kernels/gemv.py), of which it is a variant that was not kept.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from inference_benchmark.kernels._registration import programmatic_launch
from inference_benchmark.kernels.gemv import _load_pairs, choose_plan

EPS = 1e-5
UNIT = tl.constexpr(2.0**24)


@triton.jit
def _product_kernel(
    x_ptr,  # [IN_FEATURES]
    weight_ptr,  # [out_features, IN_FEATURES], with SWIGLU [2 * out_features, IN_FEATURES]
    out_ptr,  # [out_features]; with a residual the sum with it
    out_features,
    squares_ptr,  # sums of the squares that x stands for, unnormalised; None: of no norm
    residual_ptr,  # [out_features]; None: the rest is None, too
    norm_weight_ptr,  # [out_features]
    scaled_ptr,  # [out_features]: out times the norm's weight
    sums_ptr,  # as squares_ptr, of out
    zeroed_ptr,  # sums that nobody reads any more; None: there are none
    eps,
    IN_FEATURES: tl.constexpr,
    PAIRS: tl.constexpr,
    COLUMNS: tl.constexpr,
    SWIGLU: tl.constexpr,
    JOINED: tl.constexpr,  # whether threads exchange the sums of both rows at once
    SLOTS: tl.constexpr,
    PARTS: tl.constexpr,  # partial sums in squares_ptr, where SLOTS is 0
    PARTS_PADDED: tl.constexpr,
    PROGRAMMATIC: tl.constexpr,
):
    rows = tl.program_id(0) * (PAIRS if SWIGLU else 2 * PAIRS) + tl.arange(0, PAIRS)
    other_rows = rows + (out_features if SWIGLU else PAIRS)
    last = (2 * out_features if SWIGLU else out_features) - 1
    columns = tl.arange(0, COLUMNS)
    first = weight_ptr + tl.minimum(rows, last).to(tl.int64)[:, None] * IN_FEATURES
    second = weight_ptr + tl.minimum(other_rows, last).to(tl.int64)[:, None] * IN_FEATURES
    first += columns[None, :]
    second += columns[None, :]
    inside, other_inside = rows < out_features, other_rows < out_features
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_launch_dependents()
    tile, other_tile = _load_pairs(first, second, 0, columns, IN_FEATURES, COLUMNS)
    if norm_weight_ptr is not None:
        norm = tl.load(norm_weight_ptr + rows, mask=inside, other=0.0)
        other_norm = tl.load(norm_weight_ptr + other_rows, mask=other_inside, other=0.0)
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()
    if residual_ptr is not None:
        residual = tl.load(residual_ptr + rows, mask=inside, other=0.0)
        other_residual = tl.load(residual_ptr + other_rows, mask=other_inside, other=0.0)
    if squares_ptr is not None:
        if SLOTS == 1:
            total = tl.load(squares_ptr, cache_modifier=".cg")
        elif SLOTS > 1:
            total = tl.load(squares_ptr + tl.arange(0, SLOTS), cache_modifier=".cg")
        else:
            part = tl.arange(0, PARTS_PADDED)
            total = tl.load(squares_ptr + part, mask=part < PARTS, other=0.0)
    sums = tl.zeros((PAIRS, COLUMNS), dtype=tl.float32)
    other_sums = tl.zeros((PAIRS, COLUMNS), dtype=tl.float32)
    for start in tl.static_range(0, IN_FEATURES, COLUMNS):
        x = tl.load(x_ptr + start + columns, mask=start + columns < IN_FEATURES, other=0.0)
        x = x.to(tl.float32)[None, :]
        sums += tile.to(tl.float32) * x
        other_sums += other_tile.to(tl.float32) * x
        if start + COLUMNS < IN_FEATURES:
            tile, other_tile = _load_pairs(
                first, second, start + COLUMNS, columns, IN_FEATURES, COLUMNS
            )
    if JOINED:
        result, other = tl.split(tl.sum(tl.join(sums, other_sums), axis=1))
    else:
        result = tl.sum(sums, axis=1)
        other = tl.sum(other_sums, axis=1)
    if squares_ptr is not None:
        if SLOTS != 1:
            total = tl.sum(total, axis=0)
        squares = total.to(tl.float32) * (1.0 / UNIT if SLOTS > 0 else 1.0)
        factor = tl.rsqrt(squares / IN_FEATURES + eps)
        result *= factor
        other *= factor
    element = out_ptr.dtype.element_ty
    if SWIGLU:
        result = result * tl.sigmoid(result) * other
    if residual_ptr is not None:
        result = (result + residual.to(tl.float32)).to(element).to(tl.float32)
        other = (other + other_residual.to(tl.float32)).to(element).to(tl.float32)
        scaled, other_scaled = result * norm.to(tl.float32), other * other_norm.to(tl.float32)
        tl.store(scaled_ptr + rows, scaled.to(element), mask=inside)
        tl.store(scaled_ptr + other_rows, other_scaled.to(element), mask=other_inside)
        own = tl.where(inside, result * result, 0.0) + tl.where(other_inside, other * other, 0.0)
        squares = tl.sum(own, axis=0)
        if SLOTS == 0:
            tl.store(sums_ptr + tl.program_id(0), squares)
        else:
            whole = (squares * UNIT + 0.5).to(tl.int64)
            tl.atomic_add(sums_ptr + tl.program_id(0) % SLOTS, whole, sem="relaxed")
            if zeroed_ptr is not None:
                # Whoever read them has ended: this kernel waited for it.
                slots = tl.arange(0, SLOTS)
                zeros = tl.zeros((SLOTS,), dtype=tl.int64)
                tl.store(zeroed_ptr + slots, zeros, mask=(slots >= 0) & (tl.program_id(0) == 0))
    tl.store(out_ptr + rows, result.to(element), mask=inside)
    if not SWIGLU:
        tl.store(out_ptr + other_rows, other.to(element), mask=other_inside)


def product(
    x: Tensor,
    weight: Tensor,
    slots: int,
    squares: Tensor | None = None,
    adds: tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None] | None = None,
    swiglu: bool = False,
    joined: bool = True,
) -> Tensor:
    """One product; adds: residual, norm weight, scaled result, sums, sums to be cleared."""
    out_features, in_features = weight.shape[0] // (2 if swiglu else 1), weight.shape[1]
    plan = choose_plan(out_features, in_features)
    rows = plan.pairs * (1 if swiglu else 2)
    out = torch.empty(1, out_features, dtype=x.dtype, device=x.device)
    parts = squares.numel() if squares is not None and not slots else 1
    programmatic = programmatic_launch(x.device)
    _product_kernel[(triton.cdiv(out_features, rows),)](
        x,
        weight,
        out,
        out_features,
        squares,
        *(adds or (None,) * 5),
        EPS,
        IN_FEATURES=in_features,
        PAIRS=plan.pairs,
        COLUMNS=plan.columns,
        SWIGLU=swiglu,
        JOINED=joined,
        SLOTS=slots,
        PARTS=parts,
        PARTS_PADDED=triton.next_power_of_2(parts),
        PROGRAMMATIC=programmatic,
        num_warps=plan.num_warps,
        launch_pdl=programmatic,
    )
    return out
