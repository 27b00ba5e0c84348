"""The chosen experts of a mixture whose weights are stored in 8 or 4 bits.

What routed_experts computes, for half of the bytes or a quarter. A few (token, expert) pairs of 8 bits
are read by the same two kernels of ours, which widen weights in registers. Elsewhere experts are widened
first and then multiplied as they always are: for few pairs those that the pairs chose, a few at a time,
by PyTorch's operators; for many all of them, a few at a time, by a kernel of ours or by PyTorch's
operators, which write them out in fp32 on the way. The host never learns which experts were chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from inference_benchmark.kernels._registration import register_operator
from inference_benchmark.kernels.expert_gemv import launch_expert_gemv
from inference_benchmark.kernels.routed_experts import (
    FEW_PAIRS,
    grouped_linear,
    routed_experts_reference,
    run_sorted,
)
from inference_benchmark.kernels.stored_experts import STORED_EXPERTS, ByteExperts, StoredExperts

# Experts that are widened at a time: 940 MB of a matrix of DeepSeek V3's in bf16.
_CHUNK = 16

# Some experts in their order, columns of a row, and a type -> the weights in it.
Widen = Callable[[range, int, torch.dtype], Tensor]


def quantized_experts(
    hidden: Tensor,
    expert_indices: Tensor,
    expert_weights: Tensor,
    gates_input: bool,
    stored_as: str,
    *tensors: Tensor,
    fused: bool = False,
) -> Tensor:
    """As routed_experts, of matrices in a weight format.

    stored_as: "bytes", "int4" or "nf4". tensors: those of gate_up [experts, 2 * intermediate,
    hidden_size] and as many of down [experts, hidden_size, intermediate], as stored_experts describes
    them; one by one, as thunder would hand tuples on as they were in the layer that it traced.
    """
    half = len(tensors) // 2
    matrices = tensors[:half], tensors[half:]
    return _operator(
        hidden, expert_indices, expert_weights, gates_input, stored_as, *matrices, fused
    )


def quantized_experts_reference(
    hidden: Tensor,
    expert_indices: Tensor,
    expert_weights: Tensor,
    gates_input: bool,
    stored_as: str,
    *tensors: Tensor,
) -> Tensor:
    """The same, expert by expert: each that was chosen is widened, and used alone. Synchronises on a
    GPU."""
    half = len(tensors) // 2
    gate_up, down = _matrices(stored_as, tensors[:half], tensors[half:])
    width = gate_up.shape[1] // 2
    wide = torch.promote_types(hidden.dtype, torch.float32)
    total = torch.zeros_like(hidden, dtype=wide)
    for expert in expert_indices.unique().tolist():
        alone = range(expert, expert + 1)
        tokens, place = torch.where(expert_indices == expert)
        shares = expert_weights[tokens, place, None]
        part = routed_experts_reference(
            hidden[tokens],
            torch.zeros_like(tokens)[:, None],
            shares if gates_input else torch.ones_like(shares),
            gate_up.widen(alone, hidden.shape[1], hidden.dtype),
            down.widen(alone, width, hidden.dtype),
            gates_input,
        )
        total.index_add_(0, tokens, part.to(wide) * (1 if gates_input else shares))
    return total.to(hidden.dtype)


def _matrices(
    stored_as: str, gate_up: Sequence[Tensor], down: Sequence[Tensor]
) -> tuple[StoredExperts, StoredExperts]:
    make = STORED_EXPERTS[stored_as]
    return make(*gate_up), make(*down)


def _sorted_experts(
    of_tokens: tuple[Tensor, Tensor, Tensor],
    gate_up: StoredExperts,
    down: StoredExperts,
    gates_input: bool,
    by_kernel: bool = False,
) -> Tensor:
    """of_tokens: hidden, the chosen experts, their weights. by_kernel: widens all experts, where it is
    not those that few pairs chose."""
    experts = gate_up.shape[0]
    is_few = of_tokens[1].numel() < experts

    def multiply(rows: Tensor, matrix: StoredExperts, chosen: Tensor, ends: Tensor):
        if is_few:
            return _of_chosen(rows, matrix, chosen)
        widen = matrix.launch_widen if by_kernel else matrix.widen
        return _of_all(rows, *matrix.shape, widen, chosen, ends)

    def gate_and_up(rows: Tensor, chosen: Tensor, ends: Tensor) -> Tensor:
        return multiply(rows, gate_up, chosen, ends)

    def projected(rows: Tensor, chosen: Tensor, ends: Tensor) -> Tensor:
        return multiply(rows, down, chosen, ends)

    return run_sorted(*of_tokens, experts, gate_and_up, projected, gates_input)


def _of_chosen(rows: Tensor, matrix: StoredExperts, experts: Tensor) -> Tensor:
    """rows [pairs, in] -> [pairs, out], of experts [pairs] that are widened for each pair."""
    products = []
    for x, chosen in zip(rows.split(_CHUNK), experts.split(_CHUNK), strict=True):
        weights = matrix.widen(chosen, x.shape[1], x.dtype)
        products.append(torch.bmm(weights, x[:, :, None])[:, :, 0])
    return torch.cat(products)


def _of_all(
    rows: Tensor, num_experts: int, out_features: int, widen: Widen, experts: Tensor, ends: Tensor
) -> Tensor:
    """The same of sorted experts, all of which are widened, chosen or not.

    A grouped product begins at its first row: the rows of a chunk's experts are brought there.
    """
    pairs, in_features = rows.shape
    numbers = torch.arange(pairs, device=rows.device)
    out = rows.new_zeros(pairs, out_features)
    for first in range(0, num_experts, _CHUNK):
        last = min(first + _CHUNK, num_experts)
        weights = widen(range(first, last), in_features, rows.dtype)
        start = ends[first - 1] if first else torch.zeros_like(ends[0])
        at = (numbers + start) % pairs
        chunk_ends = ends[first:last] - start
        chunk_experts = (experts.index_select(0, at) - first).clamp(0, len(weights) - 1)
        products = grouped_linear(rows.index_select(0, at), weights, chunk_experts, chunk_ends)
        belongs = (numbers < chunk_ends[-1])[:, None]
        out.index_copy_(0, at, torch.where(belongs, products, out.index_select(0, at)))
    return out


def _plain(
    hidden: Tensor,
    expert_indices: Tensor,
    expert_weights: Tensor,
    gates_input: bool,
    stored_as: str,
    gate_up: Sequence[Tensor],
    down: Sequence[Tensor],
    fused: bool = False,
) -> Tensor:
    of_tokens = hidden, expert_indices, expert_weights
    return _sorted_experts(of_tokens, *_matrices(stored_as, gate_up, down), gates_input)


def _launch(
    hidden: Tensor,
    expert_indices: Tensor,
    expert_weights: Tensor,
    gates_input: bool,
    stored_as: str,
    gate_up: Sequence[Tensor],
    down: Sequence[Tensor],
    fused: bool = False,
) -> Tensor:
    of_tokens = hidden, expert_indices, expert_weights
    gate_up, down = _matrices(stored_as, gate_up, down)
    is_few = expert_indices.numel() <= min(FEW_PAIRS, gate_up.shape[0])
    if fused and is_few and isinstance(gate_up, ByteExperts):
        values, scales = (gate_up.values, down.values), (gate_up.scales, down.scales)
        return launch_expert_gemv(*of_tokens, *values, gates_input, scales=scales)
    return _sorted_experts(of_tokens, gate_up, down, gates_input, by_kernel=fused)


def _fake(hidden: Tensor, *further) -> Tensor:
    return torch.empty_like(hidden, memory_format=torch.contiguous_format)


_operator = register_operator("quantized_experts", _plain, _launch, _fake)
