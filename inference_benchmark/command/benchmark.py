"""The main job: from a resolved request to tables and a result file."""

import gc
import os
import re
import sys
import time
from functools import partial
from pathlib import Path

import torch

from inference_benchmark.analysis.result import header, make_result, running_result
from inference_benchmark.command.ending import Ending
from inference_benchmark.command.facts import session_facts
from inference_benchmark.command.fit import arrange, with_batch_sizes
from inference_benchmark.command.pages import write_page
from inference_benchmark.command.report import exit_code, print_report
from inference_benchmark.options.request import Request
from inference_benchmark.parallel.ranks import PeerFailed, Ranks
from inference_benchmark.reporting.card import card
from inference_benchmark.reporting.layout import encodable
from inference_benchmark.reporting.progress import Progress
from inference_benchmark.reporting.summary import group_rows
from inference_benchmark.session.guard import guarded
from inference_benchmark.session.interleave import Rounds
from inference_benchmark.session.live import LiveCell, failure
from inference_benchmark.session.nvtx import marked
from inference_benchmark.session.plan import Group, SessionPlan
from inference_benchmark.session.planning import context_length, plan_cells
from inference_benchmark.session.prepare import OpenEngine, Preparation, open_engine
from inference_benchmark.session.prompts import prompts_path, write_prompts
from inference_benchmark.session.weights import Weights
from inference_benchmark.statistics.stopping import StoppingRule, WarmupRule
from inference_benchmark.system import signals
from inference_benchmark.system.device_memory import MemoryTracker
from inference_benchmark.system.gpu_state import GpuMonitor
from inference_benchmark.system.host_load import free_host_bytes
from inference_benchmark.system.own_processes import OwnProcesses


class Benchmark:
    """One session; of several ranks each runs it, and the first prints and writes.

    open_engine: opens the engine of a cell's plan; tests put scripted ones in its place.
    weights: shared with other sessions, whose owner closes them; None: of this session.
    """

    def __init__(
        self,
        request: Request,
        command: list[str],
        started: float,
        ranks: Ranks | None = None,
        open_engine: OpenEngine = open_engine,
        own_processes: OwnProcesses | None = None,
        weights: Weights | None = None,
    ) -> None:
        self._own_processes = own_processes
        self.ranks = ranks or Ranks()
        self.started = started
        self.device = torch.device(request.device)
        # What a program reads stands alone on stdout.
        is_for_people = request.format in ("table", "markdown")
        self.out = sys.stdout if is_for_people else sys.stderr
        self.available = self._available_bytes()
        plan = partial(plan_cells, shared_sums=self.ranks.shared_sums)
        self.request = request = with_batch_sizes(request, plan, self.available)
        self.plan: SessionPlan = arrange(request, plan(request), self.available)
        self.cells = [LiveCell(plan) for plan in self.plan.cells]
        self.facts = session_facts(
            request, command, self.cells, self.device, self.ranks, self.available
        )
        self.progress = Progress(request.quiet or not self.ranks.is_first)
        self._shares_weights = weights is not None
        self.weights = weights or Weights()
        if request.nvtx and request.device == "cuda":
            open_engine = marked(open_engine)
        self.preparation = Preparation(
            self.weights,
            self.device,
            request.seed,
            self.ranks,
            self.progress.stage,
            open_engine,
            own_processes,
            request.max_kl,
        )
        self.ending = Ending(request, self._result)
        self.settled: dict[str, dict] = {}  # by label, results of cells whose group is done
        self.judged: dict | None = None  # the result, once nothing more is measured
        self.interrupted = False

    def run(self) -> int:
        self._record_memory()
        self._announce()
        try:
            self._measure_groups()
        except KeyboardInterrupt:
            self.interrupted = True
            for cell in self.cells:
                cell.record.interrupt()
        except BaseException:
            self.ending.finish("failed")
            self._close_weights()
            raise
        self.progress.close()
        with signals.postponed():
            code = self._finish() if self.ranks.is_first else None
        self._close(self.cells)
        self._close_weights()
        return self.ranks.leave(code)

    def _close_weights(self) -> None:
        if not self._shares_weights:
            self.weights.close()

    # Before anything is measured

    def _available_bytes(self) -> int | None:
        """On the fullest GPU; ranks on CPUs share their host's memory."""
        if self.device.type == "cuda":
            available = torch.cuda.mem_get_info(self.device)[0]
        else:
            available = free_host_bytes()
            available = None if available is None else available // self.ranks.local_size
        known = [free for free in self.ranks.all_gather(available) if free is not None]
        return min(known, default=None)

    def _record_memory(self) -> None:
        for group in self.plan.groups:
            for cell in self._cells_of(group):
                cell.record.memory |= cell.plan.planned_memory()
                cell.record.memory["predicted_bytes"] = group.predicted_bytes

    def _announce(self) -> None:
        if not self.ranks.is_first:
            return
        request = self.request
        for notice in request.notices:
            print(f"notice: {notice}", file=sys.stderr)
        self.ending.open_file()
        if request.quiet:
            return
        predicted = max(group.predicted_bytes for group in self.plan.groups)
        text = card(self.ending.result(), predicted, self.available, request.details)
        text = encodable(text, self.out.encoding)
        self.ending.print(lambda: print(text, end="\n\n", file=self.out, flush=True))

    # Group by group

    def _cells_of(self, group: Group) -> list[LiveCell]:
        return [cell for cell in self.cells if cell.plan in group.cells]

    def _measure_groups(self) -> None:
        if any(cell.plan.spec.engine.needs_weights for cell in self.cells):
            length, stage = context_length(self.request), self.progress.stage
            self.weights.build(self.request, length, self.device, self.ranks, stage)
        self.ranks.all_gather()
        gpu = self.facts.environment["gpu"]
        with GpuMonitor(gpu["uuid"] if gpu else None, own_processes=self._own_processes) as monitor:
            if gpu is not None and (seen := monitor.snapshot()) is not None:
                gpu["power_limit_w"] = seen.power_limit_w
                gpu["default_power_limit_w"] = seen.default_power_limit_w
            for group in self.plan.groups:
                self._measure_group(group, monitor)

    def _measure_group(self, group: Group, monitor: GpuMonitor) -> None:
        cells = self._cells_of(group)
        self.ranks.lengthen_timeout()
        self.preparation.prepare(cells)
        self.ranks.shorten_timeout()
        if self.facts.ready_s is None:
            self.facts.ready_s = time.perf_counter() - self.started
        self._rounds(cells, monitor).run()
        self.ranks.lengthen_timeout()
        for cell in cells:
            if cell.is_running:
                guarded(self.ranks, cell, self.preparation.check_timed)
        if self.device.type == "cuda":
            for cell in cells:
                # A wrong answer has no speed; a loop that is not ours has no single steps.
                if cell.is_running and cell.record.is_sound and cell.has_steps:
                    self._diagnose(cell)
        self._close(cells)
        self._show(cells)

    def _rounds(self, cells: list[LiveCell], monitor: GpuMonitor) -> Rounds:
        tracker = MemoryTracker(cells, self.weights.idle_bytes)
        is_cuda = self.device.type == "cuda"
        return Rounds(
            cells,
            self.preparation.inputs,
            self._stopping_rule(),
            self._warmup_rule(),
            on_progress=self.progress.update,
            on_round=self.progress.round_done,
            after_round=self._after_round,
            snapshot=monitor.snapshot,
            before_run=tracker.before_run if is_cuda else lambda cell: None,
            after_run=tracker.after_run if is_cuda else lambda cell: None,
            ranks=self.ranks,
        )

    def _after_round(self) -> None:
        if self.ranks.is_first:
            self.ending.save()

    def _stopping_rule(self) -> StoppingRule:
        request = self.request
        if request.num_iterations is not None:
            return StoppingRule.fixed(request.num_iterations)
        return StoppingRule.adaptive(request.device, request.target_ci, request.max_seconds)

    def _warmup_rule(self) -> WarmupRule:
        count = self.request.warmup_iterations
        return WarmupRule() if count is None else WarmupRule.fixed(count)

    def _diagnose(self, cell: LiveCell) -> None:
        """One extra pass that times nothing; without it the result lacks its explanation only."""
        self.progress.stage(f"{cell.label}: profiling")
        trace = None
        if self.request.profile:
            name = re.sub(r"[^A-Za-z0-9.-]+", "-", cell.label)
            trace = self.request.output_dir / f"{name}.trace.json"
            if not self.ranks.is_first:  # it makes the same steps, and keeps nothing
                trace = Path(os.devnull)
        from inference_benchmark.session.diagnosis import diagnose

        try:
            inputs = self.preparation.inputs(cell.plan, 0)
            ceilings = self.facts.ceilings.get(cell.plan.precision.compute)
            diagnose(cell, inputs, trace, self.ranks.all_gather, ceilings)
            self.ranks.all_gather()
        except PeerFailed as error:
            self.facts.warnings.append(f"{cell.label}: no profile: {error}")
        except Exception as error:
            self.facts.warnings.append(f"{cell.label}: no profile: {failure(error)[1]}")
            self.ranks.report(failure(error))

    def _close(self, cells: list[LiveCell]) -> None:
        """Free at once what engines hold on a GPU, reference cycles included. Captured graphs may
        hold NCCL calls, so they go before the process group does."""
        for cell in cells:
            cell.close()
            cell.clock_type = None
        if self.device.type == "cuda" or self.ranks.size > 1:
            gc.collect()
            self.preparation.free()

    def _show(self, cells: list[LiveCell]) -> None:
        """A group's rows, as soon as it is done; the report of all follows at the end."""
        if not self.ranks.is_first or len(self.plan.groups) == 1:
            return
        results = make_result(self.facts, cells)["cells"]
        self.settled |= {result["label"]: result for result in results}
        self.ending.save()
        if self.request.quiet:
            return
        self.progress.close()
        text = group_rows(results, {**header(self.facts), "cells": results})
        if cells[-1] is self.cells[-1]:
            text += "\n"
        text = encodable(text, self.out.encoding)
        self.ending.print(lambda: print(text, file=self.out, flush=True))

    # At the end

    def _result(self) -> dict:
        """As it is now; judged once nothing more is measured."""
        if self.judged is not None:
            return self.judged
        return running_result(self.facts, self.cells, self.settled)

    def _finish(self) -> int:
        self.judged = make_result(self.facts, self.cells)
        measured = any(cell.record.timed_runs for cell in self.cells)
        state = "interrupted" if self.interrupted else "complete" if measured else "failed"
        result = self.ending.finish(state)
        self.ending.print(lambda: print_report(result, self.request, self.ending, self.out))
        if self.request.save_prompts and self.ending.path is not None:
            self._save_prompts(self.ending.path)
        if self.request.report:
            write_page(result, self.request, self.ending)
        return self.ending.code(exit_code(result, self.request.strict))

    def _save_prompts(self, result_path: Path) -> None:
        def write(path: Path) -> None:
            seed = self.request.seed
            write_prompts(path, result_path.name, seed, self.cells, self.preparation.inputs)

        path = prompts_path(result_path)
        if self.ending.write_beside(path, write):
            self.ending.print(lambda: print(f"prompts: {path}", file=self.out, flush=True))
