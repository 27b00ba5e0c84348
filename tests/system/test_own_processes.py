"""Which processes on a GPU are ours, in containers whose driver numbers them otherwise too."""

import os
import subprocess

import pytest
from fake_nvml import BIGGER_STRANGER, STRANGER, UUID, FakeNvml, process, unsupported

from inference_benchmark.system.gpu_state import GpuMonitor
from inference_benchmark.system.own_processes import OwnProcesses


@pytest.fixture
def nvml():
    return FakeNvml()


def others(nvml, own_processes):
    """Whom a monitor with these takes for foreign."""
    return [
        process["pid"]
        for process in GpuMonitor(UUID, nvml, own_processes).snapshot().other_processes
    ]


def test_a_stranger_that_appears_at_our_start_is_us_under_the_hosts_number(nvml):
    own_processes = OwnProcesses(nvml)
    nvml.processes = [process(STRANGER, 5)]
    with own_processes.starting():
        nvml.processes = [process(STRANGER, 5), process(BIGGER_STRANGER, 10**9)]
    assert others(nvml, own_processes) == [STRANGER]
    assert nvml.opened == 1  # the monitor's


def test_whoever_comes_later_is_foreign(nvml):
    own_processes = OwnProcesses(nvml)
    with own_processes.starting():
        nvml.processes = [process(STRANGER, 5)]
    nvml.processes = [process(STRANGER, 5), process(BIGGER_STRANGER, 10**9)]
    assert others(nvml, own_processes) == [BIGGER_STRANGER]


def test_of_more_newcomers_than_were_started_the_rest_is_foreign(nvml):
    own_processes = OwnProcesses(nvml)
    with own_processes.starting(workers=2):
        nvml.processes = [process(STRANGER + i, 5) for i in range(3)]
    assert others(nvml, own_processes) == [STRANGER + 2]


def test_where_the_driver_shows_our_number_no_stranger_is_ours(nvml):
    own_processes = OwnProcesses(nvml)
    with own_processes.starting():
        nvml.processes = [process(os.getpid(), 5), process(STRANGER, 7)]
    assert others(nvml, own_processes) == [STRANGER]


def test_workers_are_known_as_descendants(nvml):
    own_processes = OwnProcesses(nvml)
    worker = subprocess.Popen(["sleep", "60"])
    try:
        with own_processes.starting(workers=1):
            nvml.processes = [process(worker.pid, 5), process(os.getppid(), 7)]
    finally:
        worker.kill()
        worker.wait()
    assert others(nvml, own_processes) == [os.getppid()]


def test_without_nvml_nothing_is_known_and_nothing_raises(nvml):
    nvml.nvmlInit = unsupported
    own_processes = OwnProcesses(nvml)
    with own_processes.starting():
        pass
    assert own_processes.pids == {os.getpid()}
