"""What runs in a worker process: worker.py, and one generator file per engine.

Nothing here imports the rest of the package: an engine's own Python need not have it.
"""
