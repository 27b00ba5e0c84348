"""The chosen experts of a mixture whose weights are bytes, with a scale for each row.

What routed_experts computes, for half of the bytes. A few (token, expert) pairs are read by the same
two kernels of ours, which widen weights in registers. Elsewhere experts are widened first and then
multiplied as they always are: for few pairs those that the pairs chose, a few at a time; for many all
of them, a few at a time, by a kernel of ours or by PyTorch's operators, which write them out twice in
fp32 on the way. The host never learns which experts were chosen.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from inference_benchmark.kernels._registration import register_operator
from inference_benchmark.kernels.expert_gemv import launch_expert_gemv
from inference_benchmark.kernels.fp8_few_rows import launch_scale_rows
from inference_benchmark.kernels.routed_experts import (
    FEW_PAIRS,
    grouped_linear,
    routed_experts_reference,
    run_sorted,
)

# Experts that are widened at a time: 470 MB of a matrix of DeepSeek V3's.
_CHUNK = 16

# Values and scales of some experts, and a type -> the weights in it.
Widen = Callable[[Tensor, Tensor, torch.dtype], Tensor]


def quantized_experts(
    hidden: Tensor,
    expert_indices: Tensor,
    expert_weights: Tensor,
    gate_up: Tensor,
    gate_up_scales: Tensor,
    down: Tensor,
    down_scales: Tensor,
    gates_input: bool,
    fused: bool = False,
) -> Tensor:
    """As routed_experts, of weights that are values times scales.

    gate_up [experts, 2 * intermediate, hidden_size] and down [experts, hidden_size, intermediate]:
    int8 or float8_e4m3fn; their scales [experts, rows, 1], fp32.
    """
    return _operator(
        hidden,
        expert_indices,
        expert_weights,
        gate_up,
        gate_up_scales,
        down,
        down_scales,
        gates_input,
        fused,
    )


def quantized_experts_reference(
    hidden: Tensor,
    expert_indices: Tensor,
    expert_weights: Tensor,
    gate_up: Tensor,
    gate_up_scales: Tensor,
    down: Tensor,
    down_scales: Tensor,
    gates_input: bool,
) -> Tensor:
    """The same, expert by expert: each that was chosen is widened, and used alone. Synchronises on a
    GPU."""
    wide = torch.promote_types(hidden.dtype, torch.float32)
    total = torch.zeros_like(hidden, dtype=wide)
    for expert in expert_indices.unique().tolist():
        of_expert = slice(expert, expert + 1)
        tokens, place = torch.where(expert_indices == expert)
        shares = expert_weights[tokens, place, None]
        part = routed_experts_reference(
            hidden[tokens],
            torch.zeros_like(tokens)[:, None],
            shares if gates_input else torch.ones_like(shares),
            widen(gate_up[of_expert], gate_up_scales[of_expert], hidden.dtype),
            widen(down[of_expert], down_scales[of_expert], hidden.dtype),
            gates_input,
        )
        total.index_add_(0, tokens, part.to(wide) * (1 if gates_input else shares))
    return total.to(hidden.dtype)


def widen(values: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """The weights that these stand for, rounded to dtype once."""
    return (values.to(torch.promote_types(dtype, torch.float32)) * scales).to(dtype)


def _widen_by_kernel(values: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """The same on the current device and stream, without the wide weights in between."""
    rows = launch_scale_rows(values.flatten(0, 1), scales.flatten(0, 1), dtype)
    return rows.view(values.shape)


def _sorted_experts(
    of_tokens: tuple[Tensor, Tensor, Tensor],
    gate_up: tuple[Tensor, Tensor],
    down: tuple[Tensor, Tensor],
    gates_input: bool,
    widen_all: Widen,
) -> Tensor:
    """of_tokens: hidden, the chosen experts, their weights; gate_up, down: values and scales.
    widen_all: where it is all experts, not those that few pairs chose."""
    experts = gate_up[0].shape[0]
    is_few = of_tokens[1].numel() < experts

    def multiply(rows: Tensor, matrix: tuple[Tensor, Tensor], chosen: Tensor, ends: Tensor):
        if is_few:
            return _of_chosen(rows, *matrix, chosen)
        return _of_all(rows, *matrix, chosen, ends, widen_all)

    def gate_and_up(rows: Tensor, chosen: Tensor, ends: Tensor) -> Tensor:
        return multiply(rows, gate_up, chosen, ends)

    def projected(rows: Tensor, chosen: Tensor, ends: Tensor) -> Tensor:
        return multiply(rows, down, chosen, ends)

    return run_sorted(*of_tokens, experts, gate_and_up, projected, gates_input)


def _of_chosen(rows: Tensor, values: Tensor, scales: Tensor, experts: Tensor) -> Tensor:
    """rows [pairs, in] -> [pairs, out], of experts [pairs] that are widened for each pair."""
    products = []
    stored = values.view(torch.uint8)  # PyTorch picks no floats of 8 bits
    for x, chosen in zip(rows.split(_CHUNK), experts.split(_CHUNK), strict=True):
        picked = stored.index_select(0, chosen).view(values.dtype)
        weights = widen(picked, scales.index_select(0, chosen), x.dtype)
        products.append(torch.bmm(weights, x[:, :, None])[:, :, 0])
    return torch.cat(products)


def _of_all(
    rows: Tensor, values: Tensor, scales: Tensor, experts: Tensor, ends: Tensor, widen_all: Widen
) -> Tensor:
    """The same of sorted experts, all of which are widened, chosen or not.

    A grouped product begins at its first row: the rows of a chunk's experts are brought there.
    """
    pairs = rows.shape[0]
    numbers = torch.arange(pairs, device=rows.device)
    out = rows.new_zeros(pairs, values.shape[1])
    for first in range(0, values.shape[0], _CHUNK):
        chunk = slice(first, first + _CHUNK)
        weights = widen_all(values[chunk], scales[chunk], rows.dtype)
        start = ends[first - 1] if first else torch.zeros_like(ends[0])
        at = (numbers + start) % pairs
        chunk_ends = ends[chunk] - start
        chunk_experts = (experts.index_select(0, at) - first).clamp(0, len(weights) - 1)
        products = grouped_linear(rows.index_select(0, at), weights, chunk_experts, chunk_ends)
        belongs = (numbers < chunk_ends[-1])[:, None]
        out.index_copy_(0, at, torch.where(belongs, products, out.index_select(0, at)))
    return out


def _plain(
    hidden: Tensor,
    expert_indices: Tensor,
    expert_weights: Tensor,
    gate_up: Tensor,
    gate_up_scales: Tensor,
    down: Tensor,
    down_scales: Tensor,
    gates_input: bool,
    fused: bool = False,
) -> Tensor:
    of_tokens = hidden, expert_indices, expert_weights
    matrices = (gate_up, gate_up_scales), (down, down_scales)
    return _sorted_experts(of_tokens, *matrices, gates_input, widen)


def _launch(
    hidden: Tensor,
    expert_indices: Tensor,
    expert_weights: Tensor,
    gate_up: Tensor,
    gate_up_scales: Tensor,
    down: Tensor,
    down_scales: Tensor,
    gates_input: bool,
    fused: bool = False,
) -> Tensor:
    of_tokens = hidden, expert_indices, expert_weights
    if fused and expert_indices.numel() <= min(FEW_PAIRS, gate_up.shape[0]):
        scales = gate_up_scales, down_scales
        return launch_expert_gemv(*of_tokens, gate_up, down, gates_input, scales=scales)
    matrices = (gate_up, gate_up_scales), (down, down_scales)
    widen_all = _widen_by_kernel if fused else widen
    return _sorted_experts(of_tokens, *matrices, gates_input, widen_all)


def _fake(hidden: Tensor, *further: Tensor | bool) -> Tensor:
    return torch.empty_like(hidden, memory_format=torch.contiguous_format)


_operator = register_operator("quantized_experts", _plain, _launch, _fake)
