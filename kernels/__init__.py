"""GPU kernels of our own, each beside its plain PyTorch reference and registered as one operator."""
