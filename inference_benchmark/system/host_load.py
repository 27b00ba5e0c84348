"""How busy the host's CPUs are with others, before a session and while it runs; its free memory. No torch.

The load average of the last minute would count what this program itself did a moment ago, loading
libraries or the session before this one, so that the processes that want a CPU are counted now.
"""

import os
import resource
import time

_SAMPLES = 20
_INTERVAL_S = 0.01


def load_average() -> float | None:
    """How many other threads run or want to, on average over 0.2 s; None where /proc doesn't say.

    In a container these are the host's.
    """
    counts = []
    for _ in range(_SAMPLES):
        running = _running()
        if running is None:
            return None
        counts.append(max(0, running - 1))  # less the one that asks
        time.sleep(_INTERVAL_S)
    return sum(counts) / len(counts)


def available_cpus() -> int:
    """For this process: fewer than the host has under taskset or in most containers."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def involuntary_switches() -> int:
    """How often the CPU was taken from a thread of this process that wanted to go on, so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _running() -> int | None:
    try:
        with open("/proc/stat", encoding="ascii") as file:
            line = next(line for line in file if line.startswith("procs_running"))
        return int(line.split()[1])
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def free_host_bytes() -> int | None:
    """Of this machine; None where it does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
