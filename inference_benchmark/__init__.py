"""Measures LLM inference: everything behind the programs at the top of the repository."""

__version__ = "0.2.0"
