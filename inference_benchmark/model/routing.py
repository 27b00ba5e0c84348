"""How evenly a mixture of experts spreads the tokens of a prompt: an uneven router is slower.

A layer's grouped matrix product takes as long as its busiest expert, and experts without tokens are
not read. Random routers spread tokens about evenly; trained ones, and faulty ones, may not.
"""

import torch
from torch import Tensor


def balance(choices: list[Tensor], num_experts: int) -> dict:
    """
    Args:
        choices: the chosen experts [tokens, experts per token], one tensor per mixture.

    Returns:
        {"busiest_share", "even_share", "unused_share"}: the share of a layer's (token, expert)
        pairs that its busiest expert got, the largest over all layers; that share if all got the
        same; and the share of experts that no token chose, the mean over layers.
    """
    counts = torch.stack([tokens_per_expert(choice, num_experts) for choice in choices])
    shares = counts / counts.sum(dim=1, keepdim=True)
    return {
        "busiest_share": float(shares.max()),
        "even_share": 1 / num_experts,
        "unused_share": float((counts == 0).float().mean()),
    }


def tokens_per_expert(chosen: Tensor, num_experts: int) -> Tensor:
    """How many tokens chose each expert, [num_experts]."""
    return torch.bincount(chosen.flatten(), minlength=num_experts)
