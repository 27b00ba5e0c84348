"""Whole runs of benchmark_inference.py in processes of their own, started in a tenth of a second.

Loading torch takes seconds of CPU time, so a server loads it once and forks a process per run: with
its own streams, signals, memory and exit code, which is what the tests look at.
"""

import functools
import multiprocessing
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import forkserver
from pathlib import Path

_TESTS = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(_TESTS)
TINY = ["--model-name", "llama-tiny", "--num-layers", "2", "--device", "cpu", "--precision", "fp32"]
SHORT = ["--input-length", "50", "--output-length", "12"]
FEW = ["--num-iterations", "3", "--warmup-iterations", "1"]
# Long enough that a signal arrives while it measures.
LONG = ["--input-length", "50", "--output-length", "40", "--num-iterations", "2000"]

_SERVER = multiprocessing.get_context("forkserver")


@functools.cache
def start_server() -> None:
    """Which has torch loaded; it takes the search path from the environment alone."""
    _SERVER.set_forkserver_preload(
        ["programs", "torch._dynamo", "inference_benchmark.command.benchmark"]
    )
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), _TESTS, before)))
    forkserver.ensure_running()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@dataclass
class Program:
    """A running program; its output is read when it has ended."""

    process: multiprocessing.Process
    folder: tempfile.TemporaryDirectory = field(repr=False)

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    @property
    def has_ended(self) -> bool:
        return self.process.exitcode is not None

    def wait(self, timeout_s: float = 240) -> Done:
        self.process.join(timeout_s)
        is_late = not self.has_ended
        if is_late:
            self.process.kill()
            self.process.join()
        texts = [Path(self.folder.name, name).read_text() for name in ("stdout", "stderr")]
        self.folder.cleanup()
        assert not is_late, f"it did not end within {timeout_s} s: {texts}"
        return Done(self.process.exitcode, *texts)

    def wait_until(self, condition: Callable[[], bool], timeout_s: float = 120) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if self.has_ended or time.monotonic() > deadline:
                self.process.kill()
                raise AssertionError(f"it did not come so far: {self.wait()}")
            time.sleep(0.02)


def start(
    *arguments: str,
    stdout: str | None = None,
    environment: dict[str, str] | None = None,
    prepare: Callable[[], None] | None = None,
) -> Program:
    """benchmark_inference.py with these arguments.

    stdout: a file to write to, "" to close it; caught by default.
    prepare: called in the new process before anything else; picklable.
    """
    start_server()
    folder = tempfile.TemporaryDirectory()
    process = _SERVER.Process(
        target=_main,
        args=(list(arguments), folder.name, stdout, environment or {}, prepare),
    )
    process.start()
    return Program(process, folder)


def run(*arguments: str, **settings) -> Done:
    return start(*arguments, **settings).wait()


def run_ranks(size: int, *arguments: str) -> list[Done]:
    """The same on so many ranks, with the environment that torchrun makes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size), "GROUP_RANK": "0"}
    ranks = [
        start(*arguments, environment=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(size)
    ]
    return [rank.wait() for rank in ranks]


def _main(arguments: list[str], folder: str, stdout: str | None, environment, prepare) -> None:
    os.chdir(ROOT)
    os.environ.update(environment)
    caught = os.path.join(folder, "stdout")
    open(caught, "w").close()
    _redirect(caught if stdout is None else stdout, 1)
    _redirect(os.path.join(folder, "stderr"), 2)
    if prepare is not None:
        prepare()
    encoding = os.environ.get("PYTHONIOENCODING")  # read when Python starts, which it did
    sys.stdout = None if stdout == "" else os.fdopen(1, "w", encoding=encoding, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    sys.argv = ["benchmark_inference.py", *arguments]
    from inference_benchmark import benchmark_inference

    benchmark_inference._STARTED = time.perf_counter()
    benchmark_inference.run_program()


def _redirect(path: str, descriptor: int) -> None:
    if not path:
        os.close(descriptor)
        return
    opened = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.dup2(opened, descriptor)
    os.close(opened)
