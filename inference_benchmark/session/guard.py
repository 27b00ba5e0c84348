"""What fails in a cell becomes that cell's row; the session goes on with the others.

An error of a file that the user gave is shown as theirs: with its traceback, from that file on.
"""

import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from inference_benchmark.errors import CannotRun
from inference_benchmark.parallel.ranks import PeerFailed, Ranks
from inference_benchmark.session.live import LiveCell, failure
from inference_benchmark.system import signals


def guarded(ranks: Ranks, cell: LiveCell, action: Callable[[LiveCell], None]) -> None:
    """Run action(cell); what fails on any rank fails the cell on all of them.

    Raises:
        KeyboardInterrupt: a signal came, whatever became of it on its way here.
    """
    try:
        action(cell)
        ranks.all_gather()
    except PeerFailed as error:
        cell.fail(error.status, str(error))
    except Exception as error:
        if signals.has_come():  # raised through a tracer, which made this of it
            raise KeyboardInterrupt from error
        status, words = failure(error)
        users_traceback = of_users_file(error, cell.plan.implementation.path)
        if users_traceback is not None:
            print(users_traceback, file=sys.stderr)
            words = f"in {cell.plan.implementation.path.name}: {words}"
        cell.fail(status, words)
        ranks.report((status, words))


def of_users_file(error: Exception, path: Path | None) -> str | None:
    """The traceback from the first line of this file on; None where the error is not of it."""
    if path is None or isinstance(error, CannotRun):
        return None
    frames = traceback.extract_tb(error.__traceback__)
    first = next((n for n, frame in enumerate(frames) if frame.filename == str(path)), None)
    if first is None and getattr(error, "filename", None) != str(path):  # a SyntaxError has that
        return None
    lines = [] if first is None else traceback.format_list(frames[first:])
    traceback_text = "".join([*lines, *traceback.format_exception_only(error)])
    return f"Traceback of {path.name} (most recent call last):\n{traceback_text}".rstrip()
