"""Rotary position embedding: each pair of a head's values is turned by an angle set by position.

The sine table carries the sign of the rotation (first half negative), so that applying it is two
multiplications, one addition and one swap of halves. Pairs are (i, i + head_dim / 2); checkpoints
whose pairs lie side by side are sorted when they are read.
"""

import math

import torch
from torch import Tensor

from inference_benchmark.model.rope_config import Rope, YarnRopeScaling


def rope_tables(
    rope: Rope, rope_dim: int, length: int, dtype: torch.dtype, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Cosine and signed sine for positions 0 .. length - 1, each [length, rope_dim].

    Angles are computed in fp32 and rounded to dtype once, as the published models do.
    """
    exponents = torch.arange(0, rope_dim, 2, dtype=torch.float32, device=device) / rope_dim
    inverse_frequencies = 1.0 / (rope.theta**exponents)
    factor = 1.0
    factors = rope_factors(rope, rope_dim, device)
    if factors is not None:
        inverse_frequencies = inverse_frequencies / factors
    elif isinstance(rope.scaling, YarnRopeScaling):
        inverse_frequencies = _stretch_yarn(inverse_frequencies, rope.scaling, rope.theta)
        factor = rope.scaling.table_factor
    positions = torch.arange(length, dtype=torch.float32, device=device)
    angles = torch.outer(positions, inverse_frequencies)  # [length, rope_dim / 2]
    cos, sin = angles.cos() * factor, angles.sin() * factor
    return torch.cat((cos, cos), dim=-1).to(dtype), torch.cat((-sin, sin), dim=-1).to(dtype)


def rope_factors(rope: Rope, rope_dim: int, device: torch.device | str = "cpu") -> Tensor | None:
    """[rope_dim / 2], fp32: by what each frequency is divided; None where that does not describe
    the scaling, or there is none."""
    if rope.scaling is None or isinstance(rope.scaling, YarnRopeScaling):
        return None
    factors = rope.scaling.factors(rope.theta, rope_dim)
    return torch.tensor(factors, dtype=torch.float32, device=device)


def _stretch_yarn(inverse_frequencies: Tensor, scaling: YarnRopeScaling, theta: float) -> Tensor:
    """The same idea; the blend is linear in the frequency's index, between whole indices."""
    count = inverse_frequencies.shape[0]

    def index_of(turns: float) -> float:
        """The (fractional) index whose frequency makes so many turns over the original context."""
        wavelength = scaling.original_context_length / turns
        return count * math.log(wavelength / (2 * math.pi)) / math.log(theta)

    first = max(math.floor(index_of(scaling.beta_fast)), 0)
    last = min(math.ceil(index_of(scaling.beta_slow)), 2 * count - 1)
    indices = torch.arange(count, dtype=torch.float32, device=inverse_frequencies.device)
    # The published rule widens an empty range by a thousandth.
    stretched = ((indices - first) / (last - first or 0.001)).clamp(0.0, 1.0)
    return inverse_frequencies * (1 - stretched + stretched / scaling.factor)


def apply_rope(x: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
    """Rotate x [..., length, head_dim] by tables [length, head_dim]."""
    half = x.shape[-1] // 2
    swapped = torch.cat((x[..., half:], x[..., :half]), dim=-1)
    return torch.addcmul(x * cos, swapped, signed_sin)
