"""The model: families over parts, what they cost, their weights and their functions.

families/ has a file per model family, attention/ and feed_forward/ the parts of a layer; parts.py
and config.py count, decoder.py puts the parts' functions together, weights.py and checkpoint.py
fill them; weight_format.py says how matrices are stored. What counts or reads config.json loads no
torch.
"""
