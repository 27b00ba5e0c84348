"""A closed, full or ASCII-only stdout, in processes that load nothing."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

PREPARED = "from inference_benchmark.system.output_stream import *\nimport os\nprepare_streams()\n"


def run(code: str, redirection: str = "", **environment) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["sh", "-c", f'"$0" -c "$1" {redirection}', sys.executable, PREPARED + code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )


def test_a_closed_stdout_says_so():
    done = run("try:\n print('x')\nexcept OSError as error:\n say(error.strerror)", ">&-")
    assert done.stderr == "standard output is closed\n"


@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_no_file_takes_the_place_of_a_closed_stream(redirection):
    done = run("import sys; sys.exit(os.open(os.devnull, os.O_RDONLY))", redirection)
    assert done.returncode > 2


def test_a_closed_stderr_is_not_stdout():
    done = run("say('to nobody'); print('answer')", "2>&-")
    assert (done.returncode, done.stdout) == (0, "answer\n")


def test_a_full_stderr_is_nobodys_problem():
    assert run("say('lost'); print('answer', flush=True)", "2>/dev/full").stdout == "answer\n"


def test_ascii_only():
    done = run("print('1 \\u00d7 H200')", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (0, "1 \\xd7 H200\n")


@pytest.mark.parametrize("flag", ["--help", "--list-scenarios", "--version"])
def test_help_that_can_not_be_written(flag):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "benchmark_inference.py", flag],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 4
    assert done.stderr.endswith("the output can't be written: No space left on device\n")
    assert done.stderr.count("\n") == 1
