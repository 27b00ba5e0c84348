"""What is measured and how far it can be trusted: clocks, statistics, GPU state, agreement."""
