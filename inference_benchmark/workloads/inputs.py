"""Random prompts, the same for all that are compared."""

import torch
from torch import Tensor


def random_tokens(
    vocab_size: int, batch_size: int, length: int, seed: int, run: int, device
) -> Tensor:
    """[batch, length], int64, of a run; warm-up runs count down from -1."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + run)
    return torch.randint(vocab_size, (batch_size, length), generator=generator).to(device)
