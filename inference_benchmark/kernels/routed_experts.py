"""The chosen experts of a mixture of experts, without a word from the host.

Every token goes through the SwiGLU networks of its own few experts. Sorted by expert, the (token,
expert) pairs of one expert lie side by side, and each of the two layers is one grouped matrix
product: group e multiplies its rows by the weights of expert e. How long the groups are follows
from the routing and is known on the device only; a grouped product takes where each group ends
from there, and reads the weights of those experts alone that have any rows. So the same code serves
a prompt, where it is bound by arithmetic, and a decode step, where it is bound by reading the few
experts that were touched, and a CUDA graph can capture it.

PyTorch's grouped product is fast in bf16 on Hopper and Blackwell. Elsewhere up to GATHER_PAIRS
pairs, enough for decode steps, get copies of their experts' weights; beyond that a loop over the
experts asks the host for the groups' ends, which no CUDA graph can hold.

A few pairs need no sorting: two kernels of ours read the rows of each pair's expert (expert_gemv).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from inference_benchmark.kernels._registration import register_operator
from inference_benchmark.kernels.expert_gemv import launch_expert_gemv

# Up to so many pairs, four tokens of DeepSeek V3, are few: nearly each has an expert of its own, so
# that a kernel which reads an expert for each pair reads little twice. Mixtures with fewer experts
# than that have few pairs up to one per expert.
FEW_PAIRS = 32
GATHER_PAIRS = 512
# Copies of experts' weights that exist at a time.
GATHER_CHUNK = 8
GROUPED_CAPABILITIES = (9, 10)  # major; elsewhere PyTorch's grouped product waits for the host
GROUPED_ALIGNMENT_BYTES = 16

_grouped_mm = getattr(F, "grouped_mm", None) or torch._grouped_mm


def routed_experts(
    hidden: Tensor,
    expert_indices: Tensor,
    expert_weights: Tensor,
    gate_up: Tensor,
    down: Tensor,
    gates_input: bool,
    fused: bool = False,
) -> Tensor:
    """The weighted sum of each token's experts, [tokens, hidden_size], in the dtype of hidden.

    hidden [tokens, hidden_size]; expert_indices int64 and expert_weights, both [tokens, k]; gate_up
    [experts, 2 * intermediate, hidden_size], the gate's rows first; down [experts, hidden_size,
    intermediate]. gates_input: the weight multiplies what goes into an expert, not what comes out.
    fused: on a GPU few pairs are computed by our kernels, not by PyTorch's products.
    """
    return _operator(hidden, expert_indices, expert_weights, gate_up, down, gates_input, fused)


def routed_experts_reference(
    hidden: Tensor,
    expert_indices: Tensor,
    expert_weights: Tensor,
    gate_up: Tensor,
    down: Tensor,
    gates_input: bool,
) -> Tensor:
    """The same, expert by expert, without sorting or offsets. Synchronises on a GPU."""
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    total = torch.zeros_like(hidden, dtype=dtype)
    for expert in expert_indices.unique().tolist():
        tokens, place = torch.where(expert_indices == expert)
        share = expert_weights[tokens, place, None]
        x = hidden[tokens]
        if gates_input:
            x = (x * share).to(hidden.dtype)
        gate, up = F.linear(x, gate_up[expert]).chunk(2, dim=-1)
        out = F.linear(F.silu(gate) * up, down[expert])
        total.index_add_(0, tokens, out.to(dtype) if gates_input else out.to(dtype) * share)
    return total.to(hidden.dtype)


def _grouped(
    hidden: torch.Tensor,
    expert_indices: torch.Tensor,
    expert_weights: torch.Tensor,
    gate_up: torch.Tensor,
    down: torch.Tensor,
    gates_input: bool,
    fused: bool = False,
) -> torch.Tensor:
    def gate_and_up(rows: Tensor, experts: Tensor, ends: Tensor) -> Tensor:
        return grouped_linear(rows, gate_up, experts, ends)

    def projected(rows: Tensor, experts: Tensor, ends: Tensor) -> Tensor:
        return grouped_linear(rows, down, experts, ends)

    pairs = hidden, expert_indices, expert_weights
    return run_sorted(*pairs, gate_up.shape[0], gate_and_up, projected, gates_input)


def run_sorted(
    hidden: Tensor,
    expert_indices: Tensor,
    expert_weights: Tensor,
    num_experts: int,
    gate_up: Callable[[Tensor, Tensor, Tensor], Tensor],
    down: Callable[[Tensor, Tensor, Tensor], Tensor],
    gates_input: bool,
) -> Tensor:
    """As routed_experts, of two layers: functions of rows [pairs, in], the experts of these, which
    are sorted, and where each expert's rows end."""
    tokens, per_token = expert_indices.shape
    experts, order = torch.sort(expert_indices.reshape(-1), stable=True)  # [pairs]
    ends = end_offsets(experts, num_experts)
    shares = expert_weights.reshape(-1).index_select(0, order)[:, None]
    rows = hidden.index_select(0, order // per_token)
    if gates_input:
        rows.mul_(shares)
    gate, up = gate_up(rows, experts, ends).chunk(2, dim=-1)
    out = down(F.silu(gate) * up, experts, ends)
    if not gates_input:
        out.mul_(shares)
    by_token = torch.empty_like(out).index_copy_(0, order, out)
    return by_token.view(tokens, per_token, -1).sum(dim=1)


def _launch(
    hidden: torch.Tensor,
    expert_indices: torch.Tensor,
    expert_weights: torch.Tensor,
    gate_up: torch.Tensor,
    down: torch.Tensor,
    gates_input: bool,
    fused: bool = False,
) -> torch.Tensor:
    is_few = expert_indices.numel() <= min(FEW_PAIRS, gate_up.shape[0])
    run = launch_expert_gemv if fused and is_few else _grouped
    return run(hidden, expert_indices, expert_weights, gate_up, down, gates_input)


def end_offsets(experts: Tensor, num_experts: int) -> Tensor:
    """Where each expert's rows end, [num_experts], int32, of sorted expert indices [pairs]."""
    every = torch.arange(num_experts, device=experts.device)
    return torch.searchsorted(experts, every, right=True, out_int32=True)


def grouped_linear(rows: Tensor, weights: Tensor, experts: Tensor, ends: Tensor) -> Tensor:
    """rows [pairs, in], weights [experts, out, in] -> [pairs, out]."""
    if _has_grouped_product(rows, weights):
        return _grouped_mm(rows, weights.transpose(1, 2), offs=ends)
    if rows.device.type == "cuda" and rows.shape[0] <= GATHER_PAIRS:
        return _gathered_linear(rows, weights, experts)
    out = rows.new_empty(rows.shape[0], weights.shape[1])
    start = 0
    for expert, end in enumerate(ends.tolist()):
        if end > start:
            torch.mm(rows[start:end], weights[expert].T, out=out[start:end])
        start = end
    return out


def _gathered_linear(rows: Tensor, weights: Tensor, experts: Tensor) -> Tensor:
    chunks = zip(rows.split(GATHER_CHUNK), experts.split(GATHER_CHUNK), strict=True)
    products = [
        torch.bmm(weights.index_select(0, chosen), x[:, :, None])[:, :, 0] for x, chosen in chunks
    ]
    return torch.cat(products)


def _has_grouped_product(rows: Tensor, weights: Tensor) -> bool:
    if rows.device.type != "cuda" or rows.dtype != torch.bfloat16:
        return False
    aligned = all(size * 2 % GROUPED_ALIGNMENT_BYTES == 0 for size in weights.shape[1:])
    return aligned and _capability(rows.device) in GROUPED_CAPABILITIES


@functools.cache
def _capability(device: torch.device) -> int:
    return torch.cuda.get_device_capability(device)[0]


def _fake(
    hidden: torch.Tensor,
    expert_indices: torch.Tensor,
    expert_weights: torch.Tensor,
    gate_up: torch.Tensor,
    down: torch.Tensor,
    gates_input: bool,
    fused: bool = False,
) -> torch.Tensor:
    return torch.empty_like(hidden, memory_format=torch.contiguous_format)


_operator = register_operator("routed_experts", _grouped, _launch, _fake)
