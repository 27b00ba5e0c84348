"""Plain PyTorch: every operation is one kernel launch. The baseline and the reference."""

from inference_benchmark.engines.base import Mode

__all__ = ["Mode"]
