"""Feed-forward networks, two files a kind: NAME_config.py counts (no torch), NAME.py has weights and
function.

dense: one SwiGLU network. mixture: many of them, of which each token uses a few.
"""
