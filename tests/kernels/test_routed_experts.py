"""Sorted experts against the plain loop: same sums, whatever the routing; the ways to get there."""

import pytest
import torch

from inference_benchmark.kernels import routed_experts as kernel
from inference_benchmark.kernels.routed_experts import routed_experts, routed_experts_reference

HIDDEN, INTERMEDIATE = 32, 24


def inputs(tokens, num_experts, per_token, dtype=torch.float32, device="cpu"):
    generator = torch.Generator().manual_seed(tokens)
    scores = torch.rand(tokens, num_experts, generator=generator)
    weights, indices = scores.topk(per_token, dim=-1)
    shapes = ((tokens, HIDDEN), (num_experts, 2 * INTERMEDIATE, HIDDEN))
    shapes += ((num_experts, HIDDEN, INTERMEDIATE),)
    hidden, gate_up, down = (
        torch.randn(shape, generator=generator) / shape[-1] ** 0.25 for shape in shapes
    )
    moved = (tensor.to(device, dtype) for tensor in (hidden, gate_up, down))
    hidden, gate_up, down = moved
    return hidden, indices.to(device), weights.to(device), gate_up, down


@pytest.mark.parametrize("gates_input", [True, False])
@pytest.mark.parametrize(
    ("tokens", "num_experts", "per_token"), [(1, 8, 1), (1, 16, 4), (7, 4, 4), (50, 16, 2)]
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_sorted_experts_sum_to_the_same(
    tokens, num_experts, per_token, gates_input, dtype, tolerance
):
    arguments = inputs(tokens, num_experts, per_token, dtype)
    output = routed_experts(*arguments, gates_input)
    expected = routed_experts_reference(*arguments, gates_input)
    assert output.dtype == expected.dtype == dtype
    assert (output - expected).norm() <= tolerance * expected.norm()


def test_one_expert_for_all_and_the_others_idle():
    hidden, indices, weights, gate_up, down = inputs(9, 8, 1)
    indices.fill_(5)
    arguments = (hidden, indices, weights, gate_up, down, False)
    torch.testing.assert_close(routed_experts(*arguments), routed_experts_reference(*arguments))


def test_an_expert_by_hand():
    """One token, one expert: 2 * down(silu(gate(x)) * up(x))."""
    hidden, gate_up = torch.ones(1, 1), torch.tensor([[[0.0], [0.0]], [[1.0], [3.0]]])
    down = torch.tensor([[[0.0]], [[5.0]]])
    chosen, weight = torch.tensor([[1]]), torch.tensor([[2.0]])
    silu = 1 / (1 + 2.718281828 ** (-1))
    after = routed_experts(hidden, chosen, weight, gate_up, down, False)
    assert after.item() == pytest.approx(2 * 5 * 3 * silu)
    silu = 2 / (1 + 2.718281828 ** (-2))
    before = routed_experts(hidden, chosen, weight, gate_up, down, True)
    assert before.item() == pytest.approx(5 * 6 * silu)


def test_offsets_are_where_groups_end():
    experts = torch.tensor([0, 0, 2, 2, 2, 5])
    ends = kernel.end_offsets(experts, 7)
    assert ends.tolist() == [2, 2, 5, 5, 5, 6, 6]
    assert ends.dtype == torch.int32


def test_all_ways_to_multiply_groups_agree():
    """The loop, the gathered copies, and PyTorch's grouped product, which takes the same offsets."""
    rows, weights = torch.randn(21, 16), torch.randn(6, 8, 16)
    experts = torch.randint(6, (21,)).sort()[0]
    ends = kernel.end_offsets(experts, 6)
    expected = torch.stack([weights[e] @ row for e, row in zip(experts, rows, strict=True)])
    looped = kernel.grouped_linear(rows, weights, experts, ends)
    torch.testing.assert_close(looped, expected)
    torch.testing.assert_close(kernel._gathered_linear(rows, weights, experts), expected)
    try:
        grouped = kernel._grouped_mm(rows.bfloat16(), weights.bfloat16().transpose(1, 2), offs=ends)
    except (RuntimeError, NotImplementedError) as error:
        pytest.skip(f"this PyTorch has no grouped product on a CPU: {error}")
    torch.testing.assert_close(grouped.float(), expected, rtol=3e-2, atol=5e-2)


def test_registration():
    arguments = (*inputs(5, 4, 2), False)
    torch.library.opcheck(kernel._operator, arguments)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("tokens", "dtype", "tolerance"),
    [
        (1, torch.bfloat16, 2e-2),
        (300, torch.bfloat16, 2e-2),
        (3, torch.float16, 5e-3),
        (300, torch.float32, 1e-5),
    ],
)
@pytest.mark.parametrize("gates_input", [True, False])
def test_on_a_gpu(tokens, dtype, tolerance, gates_input):
    arguments = inputs(tokens, 16, 4, dtype, "cuda")
    output = routed_experts(*arguments, gates_input)
    expected = routed_experts_reference(*arguments, gates_input)
    assert (output - expected).float().norm() <= tolerance * expected.float().norm()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_in_a_cuda_graph_the_routing_may_change(dtype):
    hidden, indices, weights, gate_up, down = inputs(2, 16, 4, dtype, "cuda")
    arguments = (hidden, indices, weights, gate_up, down, False)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        routed_experts(*arguments)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = routed_experts(*arguments)
    for shift in range(3):
        indices.copy_((indices + 3 * shift) % 16)
        graph.replay()
        expected = routed_experts_reference(*arguments)
        assert (output - expected).float().norm() <= 2e-2 * expected.float().norm()
