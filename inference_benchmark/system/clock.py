"""Clocks that mark the boundaries of steps without waiting for the device.

A clock is made for a number of marks before the run, so that nothing is created inside it. CUDA
events are recorded in the stream between the steps' kernels and read after the run; the wall clock
reads the host's counter, which is right where a step returns only when it is done.
"""

import time

import torch


class CudaEventClock:
    timer = "cuda_event"

    def __init__(self, num_marks: int) -> None:
        self._events = [torch.cuda.Event(enable_timing=True) for _ in range(num_marks)]
        self._next = 0
        torch.cuda.synchronize()

    def mark(self) -> None:
        self._events[self._next].record()
        self._next += 1

    def gaps_s(self) -> list[float]:
        """Seconds between consecutive marks; waits for the device."""
        torch.cuda.synchronize()
        events = self._events[: self._next]
        return [a.elapsed_time(b) * 1e-3 for a, b in zip(events, events[1:], strict=False)]


class WallClock:
    timer = "wall"

    def __init__(self, num_marks: int) -> None:
        self._times: list[float] = []

    def mark(self) -> None:
        self._times.append(time.perf_counter())

    def gaps_s(self) -> list[float]:
        return [b - a for a, b in zip(self._times, self._times[1:], strict=False)]


CLOCKS = {clock.timer: clock for clock in (CudaEventClock, WallClock)}
