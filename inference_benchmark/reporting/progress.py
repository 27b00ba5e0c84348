"""Progress on a terminal: what is being done and how long it may still take, on stderr.

Updated between runs only, never inside a timed region; silent in a pipe and with --quiet. What ends
a session (narrow intervals, time, the number of runs) is not known before, so the time left is
that until the one which comes first, as far as the runs so far tell.
"""

import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from inference_benchmark.statistics.intervals import relative_half_width
from inference_benchmark.statistics.stopping import StoppingRule

tqdm.monitor_interval = 0  # no thread that wakes up inside a timed run
_TICK_S = 1.0


@dataclass(frozen=True)
class Forecast:
    """What will end the session, in how many rounds and seconds from now."""

    rounds: int
    seconds: float
    reason: str


def forecast(
    rule: StoppingRule, samples_by_cell: Sequence[Mapping[str, Sequence[float]]], elapsed_s: float
) -> Forecast | None:
    """From the samples that the rule decides on; None before anything was measured."""
    done = min((max(map(len, cell.values()), default=0) for cell in samples_by_cell), default=0)
    if not done:
        return None
    round_s = elapsed_s / done
    left = [(max(rule.max_runs - done, 0), "until all runs are made")]
    needed = _rounds_until_narrow(rule, samples_by_cell)
    if needed is not None:
        left.append((max(needed, rule.min_runs) - done, "until the intervals are narrow"))
    if rule.max_seconds is not None:
        rounds = max(rule.max_seconds - elapsed_s, 0.0) / round_s
        left.append((rounds, "until the time is up"))
    rounds, reason = min(left, key=lambda pair: pair[0])
    return Forecast(max(round(rounds), 1), max(rounds, 0) * round_s, reason)


def _rounds_until_narrow(rule: StoppingRule, samples_by_cell) -> int | None:
    """An interval's width falls with the square root of the number of runs."""
    if rule.target_ci is None:
        return None
    needed = []
    for samples in (samples for cell in samples_by_cell for samples in cell.values()):
        width = relative_half_width(samples) if samples else None
        if width is not None:
            needed.append(len(samples) * max(1.0, (width / rule.target_ci) ** 2))
    return int(max(needed)) if needed else None


class Progress:
    def __init__(self, quiet: bool) -> None:
        self._disabled = quiet or not sys.stderr.isatty()
        self._bar: tqdm | None = None
        self._ticker: _Ticker | None = None
        self._forecast: Forecast | None = None
        self._total: int | None = None

    def stage(self, name: str) -> None:
        """A step of unknown length, outside timed regions: its time ticks."""
        self.close()
        if not self._disabled:
            self._bar = tqdm(bar_format="{desc} {elapsed}", desc=name, leave=False)
            self._ticker = _Ticker(self._bar)
            self._ticker.start()

    def update(self, name: str, done: int, total: int | None) -> None:
        """done of at most total runs; a warm-up has no total."""
        if self._disabled:
            return
        if self._bar is None or self._ticker is not None or total != self._total:
            self.close()
            self._total = total
            bar_format = "{desc} {n} of at most {total} runs, {elapsed}{postfix}"
            if total is None:
                bar_format = "{desc}, run {n}, {elapsed}"
            self._bar = tqdm(
                desc=name,
                total=total,
                initial=done,
                bar_format=bar_format,
                leave=False,
                dynamic_ncols=True,
            )
        self._bar.set_description_str(name, refresh=False)
        self._bar.set_postfix_str(describe(self._forecast), refresh=False)
        self._bar.n = done
        self._bar.refresh()

    def round_done(
        self,
        rule: StoppingRule,
        samples_by_cell: Sequence[Mapping[str, Sequence[float]]],
        elapsed_s: float,
    ) -> None:
        """After each round, with what the stopping rule decides on."""
        if not self._disabled:
            self._forecast = forecast(rule, samples_by_cell, elapsed_s)

    def close(self) -> None:
        if self._ticker is not None:
            self._ticker.stop()
            self._ticker = None
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def describe(expected: Forecast | None) -> str:
    """about 1:20 left, until the intervals are narrow"""
    if expected is None:
        return ""
    minutes, seconds = divmod(round(expected.seconds), 60)
    return f"about {minutes}:{seconds:02} left, {expected.reason}"


class _Ticker(threading.Thread):
    """Draws a bar each second. It is stopped before anything is timed."""

    def __init__(self, bar: tqdm) -> None:
        super().__init__(daemon=True)
        self._bar = bar
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(_TICK_S):
            self._bar.refresh()

    def stop(self) -> None:
        self._stopped.set()
        self.join()
