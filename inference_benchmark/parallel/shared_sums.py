"""Kernels that sum a decode step's small messages over ranks, in memory that all of them reach. No torch."""

# The precisions that each of them knows, in order of preference.
SHARED_SUMS = {"push": ("bf16", "fp16"), "one_shot": ("bf16", "fp32")}
# Ranks of one host; for these numbers PyTorch's kernel is known to add in their order, as ours does.
SHARED_SIZES = (2, 4, 8)
