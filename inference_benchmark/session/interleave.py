"""The cells of one group, measured in interleaved rounds by one stopping rule.

Clocks and temperature drift, so modes that are compared take turns: every round runs each cell
once, in an order that reverses from round to round. Engines, clocks and workloads are known only by
what they can do, so tests drive this with scripted ones.
"""

import gc
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from inference_benchmark.parallel.ranks import Ranks
from inference_benchmark.session.guard import guarded
from inference_benchmark.session.live import LiveCell
from inference_benchmark.session.plan import CellPlan
from inference_benchmark.session.record import TimedRun
from inference_benchmark.statistics.stopping import StoppingRule, WarmupRule
from inference_benchmark.system.host_load import involuntary_switches
from inference_benchmark.workloads.base import Run

# A warm-up that settles never takes this share of the group's time.
_WARMUP_SHARE = 0.25


@dataclass
class Rounds:
    """Measures prepared cells.

    inputs(plan, run) gives the inputs of a run; warm-up runs count down from -1.
    before_run(cell) and after_run(cell) bracket each run; snapshot() reads the GPU at either end.
    Where several ranks share the model, a run is as slow as its slowest rank, and rank 0 decides.
    """

    cells: list[LiveCell]
    inputs: Callable[[CellPlan, int], Any]
    rule: StoppingRule
    warmup_rule: WarmupRule
    on_progress: Callable[[str, int, int | None], None] = lambda stage, done, total: None
    after_round: Callable[[], None] = lambda: None
    snapshot: Callable[[], Any] = lambda: None
    before_run: Callable[[LiveCell], None] = lambda cell: None
    after_run: Callable[[LiveCell], None] = lambda cell: None
    now: Callable[[], float] = time.perf_counter
    ranks: Ranks = field(default_factory=Ranks)
    on_round: Callable[[StoppingRule, list, float], None] = lambda rule, times, elapsed_s: None

    def run(self) -> None:
        """Warm up, then measure until the rule is met.

        Raises:
            KeyboardInterrupt: the cells keep what was measured.
        """
        with frozen_garbage():
            for cell in self.running():
                guarded(self.ranks, cell, self._warm_up)
            self._measure()

    def running(self) -> list[LiveCell]:
        return [cell for cell in self.cells if cell.is_running]

    def _warm_up(self, cell: LiveCell) -> None:
        started = self.now()
        record, engine = cell.record, cell.engine
        while not self.ranks.broadcast(self._is_warm(cell, started)):
            done = len(record.warmup_runs)
            self.on_progress(f"warm-up {cell.label}", done, None)
            inputs = self.inputs(cell.plan, -1 - done)
            before = engine.compile_count()
            cell.plan.workload.before_run(engine, inputs)
            run = cell.plan.workload.time(engine, cell.clock_type, inputs)
            record.compilations.append(engine.compile_count() - before)
            record.warmup_runs.append(Run.slowest(self.ranks.all_gather(run)))

    def _is_warm(self, cell: LiveCell, started: float) -> bool:
        totals = [run.total_s for run in cell.record.warmup_runs]
        compilations = cell.record.compilations
        counts = [sum(compilations[: done + 1]) for done in range(len(compilations))]
        if self.warmup_rule.decide(totals, counts):
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
                times = [cell.plan.workload.watched(cell.times()) for cell in self.running()]
                elapsed_s = self.now() - started
                self.on_round(self.rule, times, elapsed_s)
                reason = self.ranks.broadcast(self.rule.decide(times, elapsed_s))
            for cell in self.running():
                cell.record.stop_reason = reason
            self.after_round()

    def _one_run(self, number: int, cell: LiveCell) -> None:
        plan, record, engine = cell.plan, cell.record, cell.engine
        inputs = self.inputs(plan, number)
        compiled = engine.compile_count()
        plan.workload.before_run(engine, inputs)
        self.before_run(cell)
        started = datetime.now(UTC).isoformat()
        before, switches = self.snapshot(), involuntary_switches()
        run = plan.workload.time(engine, self._common_start(cell), inputs)
        switches = involuntary_switches() - switches
        after = self.snapshot()
        self.after_run(cell)
        compiled = engine.compile_count() - compiled
        runs, snapshots, memory = zip(
            *self.ranks.all_gather((run, (before, after), record.memory)), strict=True
        )
        record.recompilations = (record.recompilations or 0) + compiled
        if record.check_before is not None:
            record.keep_output(plan.workload.keep_output(engine, inputs))
        record.involuntary_switches = (record.involuntary_switches or 0) + switches
        record.rank_memory = list(memory)
        record.timed_runs.append(TimedRun(number, started, Run.slowest(runs), snapshots))

    def _common_start(self, cell: LiveCell) -> Callable[[int], Any]:
        """The cell's clock, whose first mark all ranks make at once."""

        def make_clock(num_marks: int):
            clock = cell.clock_type(num_marks)
            self.ranks.start_together()
            return clock

        return make_clock


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
