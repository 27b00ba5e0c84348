"""Imported by the server of programs.py after all else: nothing of that is garbage any more."""

import gc

gc.collect()
gc.freeze()
