"""The tables of README.md and results/README.md, from presets and published result files.

`python -m inference_benchmark.reporting.readme` rewrites both between their markers; a test holds them
against what this would write, so that they can't disagree. sections.py says which table stands where.
"""
