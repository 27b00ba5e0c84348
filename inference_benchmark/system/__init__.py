"""The machine: clocks, GPU state, memory, environment."""
