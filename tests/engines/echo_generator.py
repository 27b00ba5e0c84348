"""A generator for worker processes that needs nothing: tokens that count up, and faults on demand."""

import os
import signal
import struct
import sys
import time


class Generator:
    def __init__(self, settings):
        self.settings = settings
        print("printed by a library")
        if settings.get("fault") == "hang":
            time.sleep(600)
        if settings.get("fault") == "open":
            raise ModuleNotFoundError("No module named 'nowhere'")

    def facts(self):
        return {"version": "1", "variable": os.environ.get("ECHO_VARIABLE")}

    def generate(self, prompts, output_length):
        fault = self.settings.get("fault")
        if fault == "raise":
            raise ValueError("two\nlines")
        if fault == "kill":
            print("about to go", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "exit":
            os._exit(3)
        tokens = [[prompt[-1] + 1 + step for step in range(output_length)] for prompt in prompts]
        return tokens, [0.5 * (step + 1) for step in range(output_length)]

    def logits(self, prompts, forced):
        shape = (len(prompts), len(forced[0]) + 1, 2)
        return shape, struct.pack("<12f", *range(12))
