"""An error of a user's file is shown as theirs, another one is not."""

import os
import signal
import time

import pytest

from inference_benchmark.errors import CannotRun
from inference_benchmark.parallel.ranks import Ranks
from inference_benchmark.session.guard import guarded, of_users_file
from inference_benchmark.system import signals


def raised(path, source: str) -> Exception:
    path.write_text(source)
    try:
        exec(compile(source, str(path), "exec"), {})
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_the_traceback_begins_in_the_users_file(tmp_path):
    path = tmp_path / "mine.py"
    error = raised(path, "def build():\n    return [][1]\n\nbuild()\n")
    lines = of_users_file(error, path).splitlines()
    assert lines[0] == "Traceback of mine.py (most recent call last):"
    assert lines[1] == f'  File "{path}", line 4, in <module>'
    assert lines[-1] == "IndexError: list index out of range"
    assert not any("test_guard" in line for line in lines)


def test_a_file_that_is_no_python(tmp_path):
    path = tmp_path / "mine.py"
    assert "SyntaxError" in of_users_file(raised(path, "def build(:\n"), path)


def test_other_errors_have_no_traceback(tmp_path):
    path = tmp_path / "mine.py"
    error = raised(path, "[][1]\n")
    assert of_users_file(error, None) is None
    assert of_users_file(error, tmp_path / "other.py") is None
    assert of_users_file(CannotRun("no such function"), path) is None


def test_an_interrupt_that_a_tracer_made_another_error_of_still_ends_the_session(monkeypatch):
    monkeypatch.setattr(
        signals, "_received", None
    )  # put back afterwards: later tests end by others

    def traced(cell):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except KeyboardInterrupt:
            raise AssertionError("the tracer's frames are inconsistent") from None

    with signals.raised(), pytest.raises(KeyboardInterrupt):
        guarded(Ranks(), None, traced)
    assert not signals.has_come()  # of the next session nothing is known yet
