"""Attention, two files a kind: NAME_config.py counts (no torch), NAME.py has weights and function.

grouped_query: heads in groups that share keys and values. latent: DeepSeek's MLA. causal.py is the
attention over a prompt that both use.
"""
