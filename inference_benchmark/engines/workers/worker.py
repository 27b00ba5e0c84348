"""The other side of a worker process: PYTHON worker.py GENERATOR_FILE, requests in, replies out.

Runs in whatever Python an engine needs, so it uses the standard library alone. The generator file has
a class `Generator`, opened with a dict of settings:

    facts() -> dict                              what it is and how it was set up
    generate(prompts, output_length) -> (tokens, token_times_s)
    logits(prompts, forced) -> (shape, bytes)    float32, [sequences, 1 + forced tokens, vocab]
    memory() -> dict                             bytes by name, if it knows any

A message is MARK, 8 bytes of length, big-endian, and JSON. What libraries print goes to stderr; what was
printed before this began, by a script that sets up the environment, comes before the first MARK.
"""

import base64
import gc
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import struct
import sys

MARK = b"\0message"
LENGTH = struct.Struct(">Q")
LONGEST = 1 << 33  # bytes


def receive(stream, most_noise=0):
    """The next message; None at the end of the stream. Up to most_noise bytes before it are passed
    over.

    Raises:
        ValueError: what comes is no message.
    """
    noise, head = b"", stream.read(len(MARK))
    while head != MARK:
        if len(head) < len(MARK):
            return None
        if len(noise) >= most_noise:
            raise ValueError(f"no message but {(noise + head)[:40]!r}")
        noise += head[:1]
        head = head[1:] + stream.read(1)
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    size = LENGTH.unpack(head)[0]
    if size > LONGEST:
        raise ValueError(f"a message of {size} bytes")
    body = stream.read(size)
    return json.loads(body) if len(body) == size else None


def send(stream, message):
    body = json.dumps(message).encode()
    stream.write(MARK + LENGTH.pack(len(body)) + body)
    stream.flush()


class Worker:
    def __init__(self, path):
        self._path = path
        self._generator = None

    def open(self, settings):
        spec = importlib.util.spec_from_file_location("generator", self._path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self._generator = module.Generator(settings)
        return self._generator.facts()

    def environment(self):
        """What two runs must share to have the same engine: its Python and all packages there."""
        packages = {
            f"{package.name}=={package.version}" for package in importlib.metadata.distributions()
        }
        digest = hashlib.sha256("\n".join(sorted(packages)).encode()).hexdigest()
        return {"python_version": platform.python_version(), "packages_sha256": digest}

    def generate(self, prompts, output_length):
        gc.collect()
        gc.disable()  # a collection would show as a slow token
        try:
            tokens, token_times_s = self._generator.generate(prompts, output_length)
        finally:
            gc.enable()
        return {"tokens": tokens, "token_times_s": token_times_s}

    def logits(self, prompts, forced):
        shape, values = self._generator.logits(prompts, forced)
        return {"shape": list(shape), "float32": base64.b64encode(values).decode()}

    def memory(self):
        return self._generator.memory() if hasattr(self._generator, "memory") else {}


def main():
    sys.path.pop(0)  # this folder: its files must not hide packages
    requests = sys.stdin.buffer
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    worker = Worker(sys.argv[1])
    while (message := receive(requests)) is not None:
        try:
            result = getattr(worker, message["call"])(**message["arguments"])
            send(replies, {"result": result})
        except Exception as error:
            import traceback

            traceback.print_exc()
            text = " ".join(str(error).split())
            send(replies, {"error": f"{type(error).__name__}: {text or 'no message'}"})
    os._exit(0)  # libraries that wait for threads or GPUs have nothing left to do


if __name__ == "__main__":
    main()
