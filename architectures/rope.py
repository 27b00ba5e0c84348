"""Rotary position embedding: each pair of a head's values is turned by an angle set by position.

The sine table carries the sign of the rotation (first half negative), so that applying it is two
multiplications, one addition and one swap of halves. Pairs are (i, i + head_dim / 2), the
convention of the Hugging Face checkpoints.
"""

import math

import torch
from torch import Tensor

from models import Llama3RopeScaling, Rope


def rope_tables(
    rope: Rope, head_dim: int, length: int, dtype: torch.dtype, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Cosine and signed sine for positions 0 .. length - 1, each [length, head_dim].

    Angles are computed in fp32 and rounded to dtype once, as the published models do.
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim
    inverse_frequencies = 1.0 / (rope.theta**exponents)
    if rope.scaling is not None:
        inverse_frequencies = _stretch_llama3(inverse_frequencies, rope.scaling)
    positions = torch.arange(length, dtype=torch.float32, device=device)
    angles = torch.outer(positions, inverse_frequencies)  # [length, head_dim / 2]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), dim=-1).to(dtype), torch.cat((-sin, sin), dim=-1).to(dtype)


def _stretch_llama3(inverse_frequencies: Tensor, scaling: Llama3RopeScaling) -> Tensor:
    """Slow rotations stretched by the factor, fast ones kept, those between blended linearly."""
    wavelengths = 2 * math.pi / inverse_frequencies
    turns = scaling.original_context_length / wavelengths  # over the original context
    blend = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    blend = blend.clamp(0.0, 1.0)
    return inverse_frequencies * (blend + (1 - blend) / scaling.factor)


def apply_rope(x: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
    """Rotate x [..., length, head_dim] by tables [length, head_dim]."""
    half = x.shape[-1] // 2
    swapped = torch.cat((x[..., half:], x[..., :half]), dim=-1)
    return torch.addcmul(x * cos, swapped, signed_sin)
