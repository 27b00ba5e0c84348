"""A session: cells (mode x batch size x depth) measured in interleaved rounds by one rule.

Clocks and temperature drift, so modes that are compared take turns: every round runs each cell
once, in an order that reverses from round to round. The session knows engines and clocks only by
what they can do, so tests drive it with scripted ones.
"""

import gc
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

from inference_benchmark.errors import CannotRun
from inference_benchmark.parallel.ranks import PeerFailed, Ranks
from inference_benchmark.session.cell import Cell, Run
from inference_benchmark.statistics.stopping import StoppingRule, WarmupRule
from inference_benchmark.workloads.generation import generate
from inference_benchmark.workloads.metrics import tbot_samples

# A warm-up that settles never takes this share of the session's time.
_WARMUP_SHARE = 0.25


@dataclass
class Session:
    """Measures prepared cells.

    prompts(batch_size, run) gives the tokens of a run; warm-up runs count down from -1.
    before_run(cell) and after_run(cell) bracket each run; snapshot() reads the GPU at either end.
    Where several ranks share the model, a run is as slow as its slowest rank, and rank 0 decides.
    """

    cells: list[Cell]
    prompts: Callable[[int, int], Any]
    rule: StoppingRule
    warmup_rule: WarmupRule
    on_progress: Callable[[str, int, int | None], None] = lambda stage, done, total: None
    after_round: Callable[[], None] = lambda: None
    snapshot: Callable[[], Any] = lambda: None
    before_run: Callable[[Cell], None] = lambda cell: None
    after_run: Callable[[Cell], None] = lambda cell: None
    now: Callable[[], float] = time.perf_counter
    ranks: Ranks = field(default_factory=Ranks)
    interrupted: bool = False
    on_round: Callable[[StoppingRule, list, float], None] = lambda rule, times, elapsed_s: None

    def run(self) -> None:
        """Warm up, then measure until the rule is met. Ctrl-C ends either cleanly."""
        try:
            with frozen_garbage():
                for cell in self.running():
                    guarded(self.ranks, cell, self._warm_up)
                self._measure()
        except KeyboardInterrupt:
            self.interrupt()
        for cell in self.cells:
            if cell.engine is not None and cell.compile_counts:
                cell.recompilations = cell.engine.mode.compile_count() - cell.compile_counts[-1]

    def interrupt(self) -> None:
        self.interrupted = True
        for cell in self.cells:
            cell.interrupt()

    def running(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.is_running]

    def _warm_up(self, cell: Cell) -> None:
        started = self.now()
        cell.compile_counts.append(cell.engine.mode.compile_count())
        while not self.ranks.broadcast(self._is_warm(cell, started)):
            done = len(cell.warmup_runs)
            self.on_progress(f"warm-up {cell.label}", done, None)
            tokens = self.prompts(cell.batch_size, -1 - done)
            run = generate(cell.engine, cell.clock_type, tokens, cell.work.output_length)
            cell.warmup_runs.append(slowest(self.ranks.all_gather(run)))
            cell.compile_counts.append(cell.engine.mode.compile_count())

    def _is_warm(self, cell: Cell, started: float) -> bool:
        totals = [run.total_s for run in cell.warmup_runs]
        if self.warmup_rule.decide(totals, cell.compile_counts):
            return True
        return len(totals) >= 2 and self._warmed_long_enough(self.now() - started)

    def _warmed_long_enough(self, elapsed_s: float) -> bool:
        if self.warmup_rule.agreement is None or self.rule.max_seconds is None:
            return False
        return elapsed_s >= _WARMUP_SHARE * self.rule.max_seconds / max(1, len(self.running()))

    def _measure(self) -> None:
        started, number, reason = self.now(), 0, None
        while self.running() and reason is None:
            order = self.running() if number % 2 == 0 else self.running()[::-1]
            for place, cell in enumerate(order):
                self.on_progress(
                    f"round {number + 1}: {cell.label}",
                    number * len(order) + place,
                    self.rule.max_runs * len(order),
                )
                guarded(self.ranks, cell, partial(self._one_run, number))
            number += 1
            if self.running():
                times = [self._times(cell) for cell in self.running()]
                elapsed_s = self.now() - started
                self.on_round(self.rule, times, elapsed_s)
                reason = self.ranks.broadcast(self.rule.decide(times, elapsed_s))
            for cell in self.running():
                cell.stop_reason = reason
            self.after_round()

    def _one_run(self, number: int, cell: Cell) -> None:
        tokens = self.prompts(cell.batch_size, number)
        self.before_run(cell)
        started = datetime.now(UTC).isoformat()
        before = self.snapshot()
        run = generate(cell.engine, self._common_start(cell), tokens, cell.work.output_length)
        after = self.snapshot()
        self.after_run(cell)
        runs, snapshots, memory = zip(
            *self.ranks.all_gather((run, (before, after), cell.memory)), strict=True
        )
        cell.rank_memory = list(memory)
        cell.snapshots += snapshots
        cell.runs.append(slowest(runs))
        cell.rounds.append(number)
        cell.started.append(started)

    def _common_start(self, cell: Cell) -> Callable[[int], Any]:
        """The cell's clock, whose first mark all ranks make at once."""

        def make_clock(num_marks: int):
            clock = cell.clock_type(num_marks)
            self.ranks.start_together()
            return clock

        return make_clock

    def _times(self, cell: Cell) -> dict[str, list[float]]:
        samples = cell.samples()
        return {
            "ttft_s": samples["ttft_s"],
            "tbot_s": tbot_samples(samples["decode_s"], cell.work.output_length),
        }


def guarded(ranks: Ranks, cell: Cell, action: Callable[[Cell], None]) -> None:
    """What fails on any rank fails the cell on all of them; the session goes on with the others."""
    try:
        action(cell)
        ranks.all_gather()
    except PeerFailed as error:
        cell.fail(error.status, str(error))
    except Exception as error:
        cell.fail(*failure(error))
        ranks.report(failure(error))


def slowest(runs: Sequence[Run]) -> Run:
    """A token is there when the last rank has it: its time, and the gaps between these times."""
    if len(runs) == 1:
        return runs[0]
    times = [accumulate([run.ttft_s, *run.step_s]) for run in runs]
    ttft_s, *later = [max(each) for each in zip(*times, strict=True)]
    steps = [after - before for before, after in pairwise([ttft_s, *later])]
    return Run(ttft_s, steps, max(run.wall_s for run in runs))


def failure(error: Exception) -> tuple[str, str]:
    """(status, one line) for what went wrong in a cell."""
    if isinstance(error, CannotRun):
        return "unsupported", str(error)
    if type(error).__name__ == "OutOfMemoryError":
        advice = "try a smaller --batch-size, fewer modes at once or fewer --num-layers"
        return "oom", f"out of GPU memory: {_first_line(error)}; {advice}"
    return "failed", f"{type(error).__name__}: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else "no message"


@contextmanager
def frozen_garbage():
    """No garbage collection inside: a pause of the host would show as a slow step."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()
