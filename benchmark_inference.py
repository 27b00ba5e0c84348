"""Benchmark LLM inference: one command from a scenario to a table and a JSON file.

Prefill is bound by arithmetic and decode by memory bandwidth, so every time is printed beside the
least the hardware allows, and no speed is printed of outputs that are wrong. `--help` and
`--list-scenarios` answer without loading torch.
"""

import os
import sys
import time
from typing import NoReturn

from inference_benchmark.errors import (
    CannotRun,
    ExitCode,
    RequestError,
    end_without_package,
    is_out_of_memory,
    loading,
    printable,
)

with loading("benchmark_inference.py"):
    from inference_benchmark.hardware import GPUS, ceilings
    from inference_benchmark.model.config import Precision
    from inference_benchmark.models import MODELS
    from inference_benchmark.options.flags import make_parser
    from inference_benchmark.options.launch import is_first_here, is_one_of_several
    from inference_benchmark.options.resolution import resolve
    from inference_benchmark.options.workloads import by_workload
    from inference_benchmark.reporting.card import scenario_table
    from inference_benchmark.scenarios import SCENARIOS
    from inference_benchmark.system import signals
    from inference_benchmark.system.output_stream import give_up_stdout, prepare_streams, say
    from inference_benchmark.workloads.generation import Generation

_PROGRAM = "benchmark_inference.py"
_STARTED = time.perf_counter()
_TIME_TO_SPEAK_S = 5.0


def main(argv: list[str] | None = None) -> int:
    arguments = make_parser().parse_args(argv)
    if arguments.list_scenarios:
        print(list_scenarios(), flush=True)
        return ExitCode.MEASURED
    try:
        words = sys.argv[1:] if argv is None else argv
        if arguments.check_setup:
            from inference_benchmark.command.check_setup import check_setup

            return check_setup(arguments.device)
        of_workloads = by_workload(arguments)
        if arguments.sweep is not None:
            return _sweep(arguments, words)
        requests = [resolve(of_one) for of_one in of_workloads]
        if arguments.sessions > 1:
            return _many_sessions(arguments, words)
        if arguments.cache_state is not None:
            return _cache_states(arguments, words)
        if requests[0].question is not None:
            from inference_benchmark.command.answer import run_prompt

            return run_prompt(requests[0])
        from inference_benchmark.command.workloads import (
            run,  # loads torch: only now is something to be run
        )

        command = [_PROGRAM, *(sys.argv[1:] if argv is None else argv)]
        return run(requests, command, _STARTED)
    except RequestError as error:
        return _complain(error, ExitCode.BAD_REQUEST)
    except CannotRun as error:
        return _complain(error, ExitCode.CANNOT_RUN)
    except ImportError as error:
        end_without_package(_PROGRAM, error)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return _complain(f"out of memory: {str(error) or 'see ulimit -v'}", ExitCode.CANNOT_RUN)
    except KeyboardInterrupt:
        return _complain("interrupted before anything was measured", signals.exit_code())


def _sweep(arguments, words: list[str]) -> int:
    from inference_benchmark.command.sweep import run_sweep

    return run_sweep(arguments, words)


def _many_sessions(arguments, words: list[str]) -> int:
    from inference_benchmark.command.many_sessions import run_sessions

    return run_sessions(
        words,
        arguments.sessions,
        arguments.output_dir,
        output=arguments.output,
        quiet=arguments.quiet,
        json=arguments.json or arguments.format == "json",
        report=arguments.report,
    )


def _cache_states(arguments, words: list[str]) -> int:
    from inference_benchmark.command.cache_states import run_cache_states

    return run_cache_states(
        words,
        arguments.cache_state,
        arguments.output_dir,
        output=arguments.output,
        quiet=arguments.quiet,
        json_wanted=arguments.format == "json",
        report=arguments.report,
    )


def list_scenarios() -> str:
    """The presets, with the shares of time that the limits of one model and GPU imply."""
    model = MODELS["llama3.1-8b"]
    gpu = next(gpu for gpu in GPUS if gpu.name == "H200 SXM")
    limits = {}
    for scenario in SCENARIOS.values():
        workload = Generation(scenario.input_length, scenario.output_length)
        cost = workload.cost(model, Precision.of("bf16"), 1)
        limit = cost.limit(ceilings(gpu, "bf16"))["metrics"]
        limits[scenario.name] = limit["ttft_s"], limit["total_s"] - limit["ttft_s"]
    note = f"Shares: prefill / decode; by time at the limits of {model.name} on one {gpu.name}"
    return f"{scenario_table(limits)}\n\n{note}"


def _complain(problem: object, code: int) -> int:
    """Of several ranks on a host the first one says it; torchrun then ends the others.

    A rank that is not ended meanwhile has a problem of its own.
    """
    if not is_first_here():
        time.sleep(_TIME_TO_SPEAK_S)
    say(f"{_PROGRAM}: error: {printable(problem)}")
    return code


def _main_code() -> int:
    """argparse ends --help by itself, before stdout is known to have taken it."""
    try:
        return main()
    except SystemExit as stop:
        return stop.code


def run_program() -> NoReturn:
    """One of several ranks ends at once, its work done and said: unloading libraries that hold
    captured graphs and communicators in no certain order has crashed a rank at this point."""
    prepare_streams()
    signals.end_at_once(_PROGRAM, is_first_here())
    try:
        code = _main_code()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads, such as head, has seen enough
        give_up_stdout()
        code = ExitCode.MEASURED
    except OSError as error:  # of --list-scenarios: a session takes care of its own
        give_up_stdout()
        code = _complain(f"the output can't be written: {error.strerror}", ExitCode.NOT_WRITTEN)
    signals.ignore()
    if is_one_of_several():
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    run_program()
