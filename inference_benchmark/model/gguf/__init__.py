"""GGUF, the file format of llama.cpp and Ollama: Llama's architecture read and written.

container.py reads what a file says of itself, config.py makes a model of it, dequantize.py and
checkpoint.py its weights; names.py has the names of tensors; writer.py writes our weights for
engines that read nothing else.
"""
