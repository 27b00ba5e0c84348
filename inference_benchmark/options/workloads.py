"""Several workloads of one command: what each of them is asked for. Imports no torch.

They share a process and the session's weights, and are measured one after the other; each has its
own rounds, its own result and its own file. A flag that serves some of them is left out for the
others, so that `--workload forward generation --output-length 20` needs no second command.
"""

from argparse import Namespace

from inference_benchmark.errors import RequestError
from inference_benchmark.options.checks import given_flags
from inference_benchmark.options.flag import flags_of, option
from inference_benchmark.options.flags import Flags
from inference_benchmark.options.launch import num_ranks
from inference_benchmark.workloads import WORKLOADS

# What names one file, or starts a session of its own for each repetition.
_OF_ONE_WORKLOAD = {
    "output": "each has a file of its own: --save-results",
    "profile": "traces are named after cells, which are the same in each",
    "sessions": "repeat the command",
    "sweep": 'its file names the workloads: workload = ["forward", "training"]',
    "cache_state": "only the first one finds an empty compile cache",
    "prompt": "a question is answered, not timed",
}


def by_workload(arguments: Namespace) -> list[Namespace]:
    """The command's arguments for each workload that it names, one workload each.

    Raises:
        RequestError: a flag or a workload that goes with no other workload.
    """
    names = arguments.workload if isinstance(arguments.workload, tuple) else (arguments.workload,)
    names = tuple(dict.fromkeys(names))
    if len(names) == 1:
        (arguments.workload,) = names
        return [arguments]
    _refuse(arguments, names)
    return [_of(arguments, name, names) for name in names]


def _refuse(arguments: Namespace, names: tuple[str, ...]) -> None:
    alone = [name for name in names if WORKLOADS[name].is_part or WORKLOADS[name].has_depths]
    if alone:
        raise RequestError(
            f"--workload {alone[0]} goes with no other: give it a command of its own"
        )
    for name, reason in _OF_ONE_WORKLOAD.items():
        if name in given_flags(arguments):
            raise RequestError(f"{option(name)} is for one --workload: {reason}")
    if arguments.json or arguments.format in ("json", "csv"):
        raise RequestError("--format json and csv are for one --workload: use --save-results")
    if num_ranks() > 1:
        raise RequestError("several workloads run on one GPU: start them without torchrun")


def _of(arguments: Namespace, name: str, names: tuple[str, ...]) -> Namespace:
    """Without the flags that serve only others of these workloads."""
    given = given_flags(arguments)
    idle = {flag for flag in given if _serves(flag, names) and not _serves(flag, (name,))}
    tables = flags_of(Flags)
    for flag in given - idle:
        needs = tables[flag].needs or ()
        needs = {needs} if isinstance(needs, str) else set(needs)
        if needs & idle and not needs & (given - idle):
            idle.add(flag)
    unset = {flag: getattr(Flags, flag) for flag in idle}
    return Namespace(**(vars(arguments) | unset | {"workload": name, "given": given - idle}))


def _serves(flag: str, names: tuple[str, ...]) -> bool:
    """Whether it does something in one of these workloads."""
    if flag == "output_length":
        return any(not WORKLOADS[name].reads_prompt_only for name in names)
    serves = flags_of(Flags)[flag].serves
    return serves is None or bool(set(names) & set(serves))
