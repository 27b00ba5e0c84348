"""GPU kernels of our own, each beside its plain PyTorch reference, each one operator."""
