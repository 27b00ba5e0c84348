"""Faults by name, and how a session gets one."""

from collections.abc import Callable
from dataclasses import dataclass
from unittest import mock

from inference_benchmark.engines.step_engine import StepEngine


@dataclass(frozen=True)
class Fault:
    name: str
    install: Callable  # takes a StepEngine that was just made
    listed: bool = False
    needs: str = "any"  # "mixture", "keys and values" (not MLA), "batch" (several sequences)


FAULTS: dict[str, Fault] = {}


def fault(name: str, listed: bool = False, needs: str = "any"):
    def register(install: Callable) -> Callable:
        FAULTS[name] = Fault(name, install, listed, needs)
        return install

    return register


def injected(name: str | None):
    """A context in which every StepEngine that is made has this fault; None: none."""
    make = StepEngine.__init__

    def faulty(engine, *arguments, **keywords) -> None:
        make(engine, *arguments, **keywords)
        if name is not None:
            FAULTS[name].install(engine)

    return mock.patch.object(StepEngine, "__init__", faulty)
