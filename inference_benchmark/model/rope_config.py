"""What rotary position embedding a model has. No torch."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Llama3RopeScaling:
    """Llama 3.1's frequency-dependent stretching of RoPE (config.json: rope_type "llama3")."""

    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context_length: int = 8192

    def config_json(self) -> dict:
        """As config.json has it, under rope_scaling."""
        return {
            "rope_type": "llama3",
            "factor": self.factor,
            "low_freq_factor": self.low_freq_factor,
            "high_freq_factor": self.high_freq_factor,
            "original_max_position_embeddings": self.original_context_length,
        }

    def factors(self, theta: float, rope_dim: int) -> tuple[float, ...]:
        """By what each frequency is divided, the fastest first: slow rotations are stretched by the
        factor, fast ones kept, those between blended linearly."""
        frequencies = [theta ** (-index / rope_dim) for index in range(0, rope_dim, 2)]
        return tuple(1 / self._kept(frequency / (2 * math.pi)) for frequency in frequencies)

    def _kept(self, turns_per_token: float) -> float:
        """The share of a frequency that is left of it."""
        turns = self.original_context_length * turns_per_token
        low, high = self.low_freq_factor, self.high_freq_factor
        if low == high:  # nothing lies between
            blend = float(turns >= low)
        else:
            blend = min(max((turns - low) / (high - low), 0.0), 1.0)
        return blend + (1 - blend) / self.factor


@dataclass(frozen=True)
class YarnRopeScaling:
    """YaRN (arXiv 2309.00071): frequencies that turn fewer than beta_slow times over the original
    context are stretched, those that turn more than beta_fast times kept, those between blended.

    A longer context flattens the softmax; YaRN sharpens it again, by a factor on the tables
    (`table_factor`) or on the scores (`softmax_factor`).
    """

    factor: float
    original_context_length: int = 4096
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 0.0
    mscale_all_dim: float = 0.0

    def _sharpening(self, mscale: float) -> float:
        return 1.0 if self.factor <= 1 else 0.1 * mscale * math.log(self.factor) + 1.0

    @property
    def table_factor(self) -> float:
        if not (self.mscale and self.mscale_all_dim):
            return self._sharpening(1.0)
        return self._sharpening(self.mscale) / self._sharpening(self.mscale_all_dim)

    @property
    def softmax_factor(self) -> float:
        return self._sharpening(self.mscale_all_dim) ** 2


@dataclass(frozen=True)
class RopeFactors:
    """By what each of a head's frequencies is divided, the fastest first: how GGUF files write
    Llama 3.1's scaling, and linear scaling where all are equal."""

    values: tuple[float, ...]

    def factors(self, theta: float, rope_dim: int) -> tuple[float, ...]:
        return self.values


@dataclass(frozen=True)
class Rope:
    """interleaved: checkpoints of this model store the two values of a rotated pair side by side,
    not half a head apart; checkpoint_layout.py sorts them once, when they are read."""

    theta: float
    scaling: Llama3RopeScaling | YarnRopeScaling | RopeFactors | None = None
    interleaved: bool = False
