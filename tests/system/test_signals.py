"""Signals, in processes that load nothing: what ends when, with which line and exit code."""

import os
import signal
import subprocess
import sys

import pytest
from conftest import ROOT

ENDS_AT_ONCE = """
signals.end_at_once("program")
os.kill(os.getpid(), NUMBER)
print("went on")
"""
IS_RAISED = """
try:
    with signals.raised():
        os.kill(os.getpid(), NUMBER)
        print("went on")
except KeyboardInterrupt:
    sys.exit(signals.exit_code())
"""
DURING_THE_REPORT = """
signals.end_at_once("program")
with signals.postponed():
    os.kill(os.getpid(), NUMBER)
    os.kill(os.getpid(), NUMBER)  # a terminal and a shell, for the same key
    print("reported", flush=True)
    signals._ONE_PRESS_S = 0.0
    time.sleep(0.001)
    os.kill(os.getpid(), NUMBER)
print("went on")
"""
IGNORED = """
signal.signal(NUMBER, signal.SIG_IGN)  # as nohup does
signals.end_at_once("program")
with signals.raised(), signals.postponed():
    os.kill(os.getpid(), NUMBER)
print("went on")
"""


def run(code: str, number: int) -> subprocess.CompletedProcess:
    head = "import os, signal, sys, time\nfrom inference_benchmark.system import signals\n"
    head += "from programs import heed_signals\nheed_signals()\n"
    code = head + code.replace("NUMBER", str(int(number)))
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_each_signal_has_its_exit_code(number, code):
    done = run(ENDS_AT_ONCE, number)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == "program: error: interrupted before anything was measured\n"
    done = run(IS_RAISED, number)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")
    done = run(DURING_THE_REPORT, number)
    assert (done.returncode, done.stdout) == (code, "reported\n")


def test_what_nohup_ignores_stays_ignored():
    done = run(IGNORED, signal.SIGHUP)
    assert (done.returncode, done.stdout, done.stderr) == (0, "went on\n", "")


@pytest.mark.parametrize(
    ("program", "module", "work"),
    [
        ("benchmark_inference.py", "inference_benchmark.options.flags", "measured"),
        ("compare_results.py", "inference_benchmark.reporting.comparison", "compared"),
    ],
)
def test_ctrl_c_while_loading_is_one_line(program, module, work):
    code = f"""
import builtins, os, runpy, signal
real = builtins.__import__
def interrupted(name, *rest):
    if name == "{module}":
        os.kill(os.getpid(), signal.SIGINT)
    return real(name, *rest)
builtins.__import__ = interrupted
runpy.run_path("{program}", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr == f"{program}: error: interrupted before anything was {work}\n"


def test_ctrl_c_while_comparing_is_one_line():
    code = """
import os, runpy, signal, sys
import inference_benchmark.reporting.comparison as comparison
comparison.make_report = lambda request: os.kill(os.getpid(), signal.SIGINT)
sys.argv = ["compare_results.py", "any.json"]
runpy.run_path("compare_results.py", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 130
    line = "compare_results.py: error: interrupted before anything was compared\n"
    assert done.stderr == line
