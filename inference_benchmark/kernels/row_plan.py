"""How a matrix is cut by kernels whose programs take a few rows of it whole."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """How one matrix [out_features, in_features] is cut."""

    rows: int  # of the matrix, per program
    columns: int  # per load; a power of two that need not divide in_features
    num_warps: int
