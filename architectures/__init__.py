"""The decoder in plain PyTorch: parts that every mode executes, compiles or traces alike."""
