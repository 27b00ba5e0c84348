"""A token's attention over the slots of a cache of fixed length, of which the first are filled.

What PyTorch offers for it: F.scaled_dot_product_attention with a mask, whose kernels give a head's
whole cache to one multiprocessor; the same written out as matrix products, for a compiler to fuse;
FlexAttention, whose decode kernel divides the slots over the GPU and skips those not yet filled, and
which needs torch.compile.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

# attend(q [batch, kv_heads, group, head_dim], k and v [batch, kv_heads, slots, head_dim],
# mask [1, 1, 1, slots], position [1]) -> as q: slots up to `position` are filled.
SlotAttention = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]

_FLEX_BLOCK = 128  # slots that are skipped or read together

# FlexAttention divides a head's slots among programs while the GPU has room for more of these. From so
# many heads of all sequences on a program has all slots of one, and its loop is long enough for a deeper
# pipeline than PyTorch's default: of Llama 3.1 8B at batch 32 and 1,000 tokens on an H200 a layer took 41
# instead of 55 us. Sessions at batch 16 and 64 gained nothing by it, nor lost.
_UNDIVIDED_HEADS = 128
_LONG_LOOP = {"BLOCK_N": 64, "num_warps": 4, "num_stages": 4}


def choose_slot_attention(name: str) -> SlotAttention:
    return _BY_NAME[name]


def over_slots_sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, position: Tensor) -> Tensor:
    batch, _, group, _ = q.shape
    rows = mask.expand(batch, 1, group, mask.shape[-1])
    return F.scaled_dot_product_attention(q, k, v, attn_mask=rows)


def over_slots_matmul(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, position: Tensor) -> Tensor:
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-2, -1)).to(torch.float32)
    shares = torch.softmax(torch.where(mask, scores, float("-inf")), dim=-1)
    return torch.matmul(shares.to(v.dtype), v)


def over_slots_flex(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, position: Tensor) -> Tensor:
    from torch.nn.attention.flex_attention import BlockMask, flex_attention

    batch, kv_heads, group, head_dim = q.shape
    slots = k.shape[2]
    blocks = torch.arange(-(-slots // _FLEX_BLOCK), device=q.device, dtype=torch.int32)
    full = ((position + 1) // _FLEX_BLOCK).to(torch.int32)
    last = (position // _FLEX_BLOCK).to(torch.int32)
    partial = last - full + 1  # none where `position` fills its block
    block_mask = BlockMask.from_kv_blocks(
        partial.view(1, 1, 1),
        last.view(1, 1, 1, 1).expand(1, 1, 1, blocks.shape[0]),
        full.view(1, 1, 1),
        blocks.view(1, 1, 1, -1),
        BLOCK_SIZE=(_FLEX_BLOCK, _FLEX_BLOCK),
        mask_mod=lambda b, h, row, slot: slot <= position[0],
        seq_lengths=(1, slots),
        compute_q_blocks=False,
    )
    heads = q.reshape(batch, kv_heads * group, 1, head_dim)
    context = flex_attention(
        heads,
        k,
        v,
        block_mask=block_mask,
        enable_gqa=group > 1,
        kernel_options=_LONG_LOOP if batch * kv_heads >= _UNDIVIDED_HEADS else None,
    )
    return context.reshape(q.shape)


_BY_NAME = {"sdpa": over_slots_sdpa, "matmul": over_slots_matmul, "flex": over_slots_flex}
