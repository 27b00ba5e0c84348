"""Whole runs of benchmark_inference.py in processes of their own, started in a tenth of a second.

Loading torch takes seconds of CPU time, and the compilers as much again, so a server loads them once
and forks a process per run: with its own streams, signals, memory and exit code, which is what the
tests look at. torchrun's agent and the ranks that it starts are forked the same way.
"""

import contextlib
import functools
import multiprocessing
import os
import runpy
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

_TESTS = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(_TESTS)
TINY = ["--model-name", "llama-tiny", "--num-layers", "2", "--device", "cpu", "--precision", "fp32"]
SHORT = ["--input-length", "50", "--output-length", "12"]
FEW = ["--num-iterations", "3", "--warmup-iterations", "1"]
# Long enough that a signal arrives while it measures.
LONG = ["--input-length", "50", "--output-length", "40", "--num-iterations", "2000"]

_SERVER = multiprocessing.get_context("forkserver")
# What every session loads, sooner or later; pytest, because multiprocessing imports the module that
# was started in each process that it forks. The last one takes what the others made out of the
# garbage collector's rounds, of which each session makes one.
_PRELOADED = [
    "pytest",
    "scipy.special",
    "programs",
    "step_engines",
    "torch._inductor.compile_fx",
    "inference_benchmark.engines.eager",
    "inference_benchmark.engines.scripted",
    "inference_benchmark.engines.thunder",
    "inference_benchmark.command.workloads",
    "freeze_garbage",
]
_READS_TABLES = tuple(
    f"inference_benchmark.{name}" for name in ("options", "command", "benchmark_inference")
)


@functools.cache
def start_server() -> None:
    """Which has torch loaded; it takes the search path from the environment alone."""
    _SERVER.set_forkserver_preload(_PRELOADED)
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
    program: Callable[[list[str]], None] | None = None,
) -> Program:
    """benchmark_inference.py with these arguments.

    stdout: a file to write to, "" to close it; caught by default.
    prepare: called in the new process before anything else; picklable.
    program: what runs with the arguments instead; picklable.
    """
    start_server()
    folder = tempfile.TemporaryDirectory()
    process = _SERVER.Process(
        target=_main,
        args=(
            list(arguments),
            folder.name,
            stdout,
            environment or {},
            prepare,
            program or run_benchmark,
        ),
    )
    process.start()
    return Program(process, folder)


def run(*arguments: str, **settings) -> Done:
    return start(*arguments, **settings).wait()


def run_ranks(size: int, *arguments: str, **settings) -> list[Done]:
    """The same on so many ranks, with the environment that torchrun makes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size), "GROUP_RANK": "0"}
    environments = [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]
    ranks = [start(*arguments, environment=each, **settings) for each in environments]
    return [rank.wait() for rank in ranks]


def run_script(path: str, *arguments: str) -> Done:
    """A Python file of the repository, as `python PATH` runs it."""
    return start(*arguments, program=functools.partial(_run_script, path)).wait()


def start_torchrun(size: int, *arguments: str) -> Program:
    """`torchrun --standalone --nproc-per-node SIZE benchmark_inference.py` with these arguments.

    The agent is torchrun's own: what it does about signals and dead ranks is its business.
    """
    return start(*arguments, program=functools.partial(_run_torchrun, size))


def heed_signals() -> None:
    """As in a terminal, whatever started the tests: nohup and a shell's & have them ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _main(
    arguments: list[str], folder: str, stdout: str | None, environment, prepare, program
) -> None:
    os.chdir(ROOT)
    os.environ.update(environment)
    heed_signals()
    caught = os.path.join(folder, "stdout")
    open(caught, "w").close()
    _redirect(caught if stdout is None else stdout, 1)
    _redirect(os.path.join(folder, "stderr"), 2)
    from step_engines import generate_code

    generate_code(False)
    if prepare is not None:
        prepare()
    encoding = os.environ.get("PYTHONIOENCODING")  # read when Python starts, which it did
    sys.stdout = None if stdout == "" else os.fdopen(1, "w", encoding=encoding, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    program(arguments)


def run_benchmark(arguments: list[str]) -> None:
    """In this process, as the program itself would."""
    from inference_benchmark import benchmark_inference

    sys.argv = ["benchmark_inference.py", *arguments]
    benchmark_inference._STARTED = time.perf_counter()
    benchmark_inference.run_program()


def _run_script(path: str, arguments: list[str]) -> None:
    """What reads the tables of engines and workloads is imported after the script's entry."""
    for name in list(sys.modules):
        if name.startswith(_READS_TABLES):
            del sys.modules[name]
    sys.argv = [path, *arguments]
    sys.path[0] = os.path.join(ROOT, os.path.dirname(path))
    runpy.run_path(path, run_name="__main__")


def _run_torchrun(size: int, arguments: list[str]) -> None:
    from torch.distributed.launcher.api import elastic_launch
    from torch.distributed.run import config_from_args, parse_args

    flags = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "--nproc-per-node"]
    config, _, _ = config_from_args(parse_args([*flags, str(size), "benchmark_inference.py"]))
    config.start_method = "fork"
    elastic_launch(config, _run_rank)(arguments)


def _run_rank(arguments: list[str]) -> None:
    """The agent waits for what a function returns, where a program would end with 0."""
    exit_at_once = os._exit
    with (
        mock.patch.object(os, "_exit", lambda code: exit_at_once(code) if code else sys.exit()),
        contextlib.suppress(SystemExit),
    ):
        run_benchmark(arguments)


def _redirect(path: str, descriptor: int) -> None:
    if not path:
        os.close(descriptor)
        return
    opened = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.dup2(opened, descriptor)
    os.close(opened)
