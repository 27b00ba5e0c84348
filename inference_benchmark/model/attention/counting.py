"""Arithmetic that kinds of attention share. No torch."""

_MIN_TILE_DIM = 16


def causal_pairs(length: int) -> int:
    """Of all tokens of a prompt with those that they attend to, themselves included."""
    return length * (length + 1) // 2


def fits_tiles(dim: int) -> bool:
    """Whether our decode kernels can have tiles of so many columns."""
    return dim >= _MIN_TILE_DIM and dim & (dim - 1) == 0
