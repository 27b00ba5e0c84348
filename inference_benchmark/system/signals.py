"""Ctrl-C (SIGINT), SIGTERM and SIGHUP: one line before anything was measured, the report after.

Before a session runs, a signal ends the program at once: raising an exception in the middle of
torch's import would come out as any kind of error. While it measures, the signal is raised as a
KeyboardInterrupt. While the report is written, it waits for that. A signal that the program was
started to ignore (nohup does so with SIGHUP, a shell's & with SIGINT) stays ignored.
Loads nothing, so that it is in place as early as possible.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ONE_PRESS_S = 1.0  # a terminal, a shell and torchrun may each pass on the same Ctrl-C

_received: int | None = None
_has_come = False  # in the block that is running


def exit_code() -> int:
    """128 + the number of the signal that ended the session."""
    return 128 + (_received or signal.SIGINT)


def has_come() -> bool:
    """Whether a signal came in the block that is running: what it was raised through may have made
    another error of it."""
    return _has_come


def end_at_once(program: str, speaks: bool = True, work: str = "measured") -> None:
    """From now on a signal ends the process, with one line where it speaks. work: what the program
    did not come to."""

    def handler(number: int, _: object) -> None:
        if speaks:
            line = f"{program}: error: interrupted before anything was {work}\n"
            os.write(2, line.encode())
        os._exit(128 + number)

    _install(handler)


def ignore() -> None:
    """From now on: all is said, and the process is about to end."""
    _install(lambda *_: None)


@contextmanager
def raised() -> Iterator[None]:
    """In this block a signal is a KeyboardInterrupt."""

    def handler(*_: object) -> None:
        raise KeyboardInterrupt

    with passed_to(handler):
        yield


@contextmanager
def passed_to(handler: Callable[[int, object], None]) -> Iterator[None]:
    """In this block a signal calls the handler, and exit_code() tells which one it was."""

    def noted(number: int, frame: object) -> None:
        global _received, _has_come
        _received, _has_come = number, True
        handler(number, frame)

    global _has_come
    _has_come = False
    before = _install(noted)
    try:
        yield
    finally:
        _has_come = False
        _restore(before)


@contextmanager
def postponed() -> Iterator[None]:
    """In this block, which writes the report, it takes a second signal to end the process."""
    started = time.monotonic()
    presses = 0 if _received is None else 1

    def handler(number: int, _: object) -> None:
        nonlocal presses, started
        if presses and time.monotonic() - started > _ONE_PRESS_S:
            os._exit(128 + number)
        if not presses:
            presses, started = 1, time.monotonic()

    before = _install(handler)
    try:
        yield
    finally:
        _restore(before)


def _install(handler: Callable[[int, object], None]) -> dict:
    """What was there before; nothing is changed of ignored signals, or outside the main thread."""
    before = {}
    for number in ENDING:
        if signal.getsignal(number) is signal.SIG_IGN:
            continue
        try:
            before[number] = signal.signal(number, handler)
        except ValueError:  # not the main thread
            return before
    return before


def _restore(before: dict) -> None:
    for number, handler in before.items():
        if handler is not None:
            signal.signal(number, handler)
