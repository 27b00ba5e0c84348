"""Intervals, ratios, verdicts, stopping rules: pure functions, no torch."""
