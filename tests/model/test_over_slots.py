"""A token's attention over the filled slots of a cache, against the same in double precision."""

import pytest
import torch

from inference_benchmark.model.attention.over_slots import choose_slot_attention

BATCH, KV_HEADS, GROUP, HEAD_DIM, SLOTS = 2, 2, 4, 64, 300


def inputs(position: int) -> tuple[torch.Tensor, ...]:
    """q, k, v, mask, position; what lies in slots that are not filled must not be seen."""
    generator = torch.Generator().manual_seed(position)
    q = torch.randn(BATCH, KV_HEADS, GROUP, HEAD_DIM, generator=generator)
    k, v = (torch.randn(BATCH, KV_HEADS, SLOTS, HEAD_DIM, generator=generator) for _ in "kv")
    k[:, :, position + 1 :] = 1e4
    v[:, :, position + 1 :] = 1e4
    where = torch.tensor([position])
    return q, k, v, (torch.arange(SLOTS) <= where)[None, None, None], where


def expected(q, k, v, position: int) -> torch.Tensor:
    q, k, v = (x.double() for x in (q, k[:, :, : position + 1], v[:, :, : position + 1]))
    shares = torch.softmax(q @ k.transpose(-2, -1) / HEAD_DIM**0.5, dim=-1)
    return (shares @ v).float()


@pytest.fixture(scope="module")
def attends():
    """FlexAttention as it is traced, once for all positions; what is generated from that is
    inductor's."""
    named = {name: choose_slot_attention(name) for name in ("sdpa", "matmul", "flex")}
    return named | {
        "flex": torch.compile(named["flex"], fullgraph=True, dynamic=False, backend="aot_eager")
    }


@pytest.mark.parametrize("name", ["sdpa", "matmul", "flex"])
@pytest.mark.parametrize("position", [0, 5, 127, 128, 255, 299])
def test_filled_slots_alone_are_attended_to(attends, name, position):
    q, k, v, mask, where = inputs(position)
    output = attends[name](q, k, v, mask, where)
    assert output.shape == q.shape
    torch.testing.assert_close(output, expected(q, k, v, position), rtol=1e-5, atol=1e-5)


def test_flex_with_many_heads(attends):
    """From 128 heads of all sequences on it is given a pipeline of its own."""
    q, k, v, mask, where = (
        x.repeat(32, *(1 for _ in x.shape[1:])) if x.shape[0] == BATCH else x for x in inputs(200)
    )
    output = attends["flex"](q, k, v, mask, where)
    torch.testing.assert_close(output, expected(q, k, v, 200), rtol=1e-5, atol=1e-5)
