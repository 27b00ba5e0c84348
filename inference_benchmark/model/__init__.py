"""The model: its parts, what they cost, their weights and their functions."""
