"""The checks between flags that follow from their declarations. Imports no torch."""

from argparse import Namespace

from inference_benchmark.errors import RequestError
from inference_benchmark.options.flag import Flag, flags_of, option
from inference_benchmark.options.flags import Flags


def check_combination(arguments: Namespace) -> None:
    """Raise RequestError for flags that exclude each other, or that need one that is missing."""
    given = given_flags(arguments)
    for name, flag in flags_of(Flags).items():
        if name not in given:
            continue
        for other, reason in (flag.excludes or {}).items():
            if other in given:
                raise RequestError(
                    f"{option(name)} and {option(other)} exclude each other: {reason}"
                )
        needs = (flag.needs,) if isinstance(flag.needs, str) else flag.needs or ()
        if needs and not given & set(needs):
            raise RequestError(
                f"{option(name)} does nothing without {' or '.join(map(option, needs))}"
            )
        _check_workload(name, flag, arguments.workload)


def _check_workload(name: str, flag: Flag, workload: str) -> None:
    if workload in flag.not_for:
        raise RequestError(f"--workload {workload} has no use for {option(name)}: leave it out")
    if flag.serves is not None and workload not in flag.serves:
        raise RequestError(f"{option(name)} needs --workload {' or '.join(flag.serves)}")


def ignored_notices(arguments: Namespace, device: str) -> list[str]:
    """One line for the flags that were given and do nothing on this device."""
    flags = flags_of(Flags)
    ignored = [
        option(name)
        for name in flags
        if name in given_flags(arguments) and device in flags[name].ignored_on
    ]
    if not ignored:
        return []
    verb = "is ignored: it needs" if len(ignored) == 1 else "are ignored: they need"
    return [f"{', '.join(ignored)} {verb} a CUDA GPU"]


def given_flags(arguments: Namespace) -> frozenset[str]:
    """The fields whose flag was on the command line, the default's value included."""
    return getattr(arguments, "given", frozenset())
