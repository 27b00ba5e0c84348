"""The sessions of a command: one for each workload that it names, with the same weights.

All are planned before the first one starts, so that what can't run is refused before anything is
measured. Each has its own rounds, in which its cells take turns, its own report and its own file;
what other builds of the model gain stands in one table at the end.
"""

import os
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from functools import partial

import torch

from inference_benchmark.command.benchmark import Benchmark
from inference_benchmark.errors import ExitCode
from inference_benchmark.options.request import Request
from inference_benchmark.parallel.ranks import join
from inference_benchmark.reporting.gains import gains_table
from inference_benchmark.reporting.layout import encodable
from inference_benchmark.session.planning import context_length
from inference_benchmark.session.weights import Weights
from inference_benchmark.system.own_processes import OwnProcesses


def run(requests: Sequence[Request], command: list[str], started: float) -> int:
    """Measure what was asked for; returns the exit code. started: perf_counter at the command.

    Raises:
        CannotRun: a workload does not fit, before anything is allocated.
    """
    first = requests[0]
    own_processes = OwnProcesses() if first.device == "cuda" else None
    with ExitStack() as stack:
        with _starting(own_processes):
            ranks = stack.enter_context(join(first.tensor_parallel, first.device, first.all_reduce))
            if own_processes is not None:
                torch.zeros(1, device="cuda")  # from here on the driver lists this process
        weights = Weights(max(map(context_length, requests)))
        stack.callback(weights.close)
        return run_all(
            [
                Benchmark(
                    request, command, started, ranks, own_processes=own_processes, weights=weights
                )
                for request in requests
            ]
        )


def _starting(own_processes: OwnProcesses | None):
    """Around the start of this process's use of a GPU; ranks of a host start together."""
    if own_processes is None:
        return nullcontext()
    return own_processes.starting(int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def run_all(sessions: Sequence[Benchmark]) -> int:
    """One session after the other, until one is interrupted; one exit code for all."""
    codes = []
    for session in sessions:
        if codes:
            session.ending.print(partial(print, file=session.out))
        codes.append(session.run())
        if session.interrupted:
            return codes[-1]
    if len(sessions) == 1:
        return codes[0]
    codes.append(_show_gains(sessions))
    return _of_all(codes)


def _show_gains(sessions: Sequence[Benchmark]) -> int:
    """What other builds of the model gain in all workloads; the exit code of printing it."""
    table = gains_table([session.ending.result() for session in sessions])
    last = sessions[-1]
    if table:
        text = encodable(table, last.out.encoding)
        last.ending.print(lambda: print(f"\n{text}", file=last.out, flush=True))
    return last.ending.code(ExitCode.MEASURED)


def _of_all(codes: Sequence[int]) -> int:
    """Where some workloads could be measured and others not, that is a gate that failed."""
    if ExitCode.NOT_WRITTEN in codes:
        return ExitCode.NOT_WRITTEN
    measured = [code for code in codes[:-1] if code != ExitCode.CANNOT_RUN]
    if not measured:
        return ExitCode.CANNOT_RUN
    return ExitCode.MEASURED if not any(codes) else ExitCode.GATE_FAILED
