"""Measures LLM inference: everything behind the two commands at the top of the repository."""
