"""Plain PyTorch: every operation is one kernel launch. The baseline and the reference."""

from modes.base import Mode

__all__ = ["Mode"]
