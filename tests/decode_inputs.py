"""What attention's kernels of a single token are given in their tests."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from kernel_checks import (
    DEVICE,
    as_layer,
)

from inference_benchmark.kernels.attention_plan import (
    Plan,
)


@dataclass(frozen=True)
class Case:
    """One attention shape; positions are visited one after the other with the same caches."""

    batch: int = 2
    kv_heads: int = 2
    group: int = 4
    head_dim: int = 128
    cache_length: int = 257
    positions: tuple[int, ...] = (0, 1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 255, 256)
    dtype: torch.dtype = torch.bfloat16
    tokens_first: str = ""  # of the caches "k" and "v": [batch, cache_length, kv_heads, head_dim]
    plan: Plan | None = None

    def __str__(self) -> str:
        plan = f"-{self.plan.splits}x{self.plan.tile_tokens}" if self.plan else ""
        layout = f"-{self.tokens_first}_tokens_first" if self.tokens_first else ""
        return (
            f"b{self.batch}-kv{self.kv_heads}-group{self.group}-dim{self.head_dim}"
            f"-{str(self.dtype).removeprefix('torch.')}{layout}{plan}"
        )


@dataclass
class DecodeInputs:
    q: torch.Tensor  # [batch, heads, head_dim]
    k: torch.Tensor  # [batch, kv_heads, head_dim]
    v: torch.Tensor
    cos: torch.Tensor  # [1, head_dim]
    sin: torch.Tensor
    k_cache: torch.Tensor  # [batch, kv_heads, cache_length, head_dim]
    v_cache: torch.Tensor
    position: torch.Tensor  # [1]

    def at(self, position: int) -> DecodeInputs:
        """The same with fresh caches that hold poison beyond position."""
        k_cache, v_cache = as_layer(self.k_cache, True), as_layer(self.v_cache, False)
        position_tensor = torch.full_like(self.position, position)
        copy = replace(self, k_cache=k_cache, v_cache=v_cache, position=position_tensor)
        for cache in (copy.k_cache, copy.v_cache):
            cache[:, :, position + 1 :: 2] = math.nan
            cache[:, :, position + 2 :: 2] = math.inf
        return copy

    def rope_arguments(self) -> tuple[torch.Tensor, ...]:
        new_token = tuple(tensor[:, :, None] for tensor in (self.q, self.k, self.v))
        return (*new_token, self.cos, self.sin, self.k_cache, self.v_cache, self.position)

    def flash_arguments(self) -> tuple[torch.Tensor, ...]:
        return (self.q, self.k_cache, self.v_cache, self.position)


def make_inputs(case: Case, device: str = DEVICE, seed: int = 0) -> DecodeInputs:
    """Random inputs; q, k and v are views of one fused row."""
    generator = torch.Generator(device).manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        values = torch.randn(shape, generator=generator, device=device)
        return values.to(case.dtype)

    def cache(which: str) -> torch.Tensor:
        if which in case.tokens_first:
            by_token = normal(case.batch, case.cache_length, case.kv_heads, case.head_dim)
            return by_token.transpose(1, 2)
        return normal(case.batch, case.kv_heads, case.cache_length, case.head_dim)

    heads = case.kv_heads * case.group
    row = normal(case.batch, (heads + 2 * case.kv_heads) * case.head_dim)
    by_head = row.unflatten(-1, (-1, case.head_dim))
    q, k, v = by_head.split([heads, case.kv_heads, case.kv_heads], dim=1)
    angles = torch.randn((1, case.head_dim // 2), generator=generator, device=device)
    cos, sin = angles.cos().repeat(1, 2), torch.cat((-angles.sin(), angles.sin()), dim=-1)
    position = torch.zeros(1, dtype=torch.int64, device=device)
    return DecodeInputs(q, k, v, cos, sin, cache("k"), cache("v"), position)
