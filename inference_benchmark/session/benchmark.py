"""The main job: from a resolved request to tables and a result file."""

import gc
import json
import os
import re
import sys
import time
from functools import partial
from pathlib import Path

import torch

from inference_benchmark.analysis.result import SessionFacts, header, make_result
from inference_benchmark.errors import CannotRun, ExitCode
from inference_benchmark.hardware import GPU, Ceilings, ceilings, find_gpu, price_range
from inference_benchmark.model.weights import DTYPES
from inference_benchmark.options.request import Request
from inference_benchmark.parallel.ranks import PeerFailed, Ranks, describe_rank, join
from inference_benchmark.reporting import result_file
from inference_benchmark.reporting.autosave import Autosave
from inference_benchmark.reporting.card import card
from inference_benchmark.reporting.explanation import costliest, explain
from inference_benchmark.reporting.layout import encodable
from inference_benchmark.reporting.progress import Progress
from inference_benchmark.reporting.summary import group_rows
from inference_benchmark.reporting.tables import report
from inference_benchmark.session.fit import arrange
from inference_benchmark.session.guard import guarded
from inference_benchmark.session.interleave import Rounds
from inference_benchmark.session.live import LiveCell, failure
from inference_benchmark.session.plan import Group, SessionPlan
from inference_benchmark.session.planning import make_workload, plan_cells
from inference_benchmark.session.prepare import OpenEngine, Preparation, open_engine
from inference_benchmark.session.weights import Weights
from inference_benchmark.statistics.stopping import StoppingRule, WarmupRule
from inference_benchmark.system.ceilings import measure as measure_ceilings
from inference_benchmark.system.device_memory import MemoryTracker
from inference_benchmark.system.environment import describe
from inference_benchmark.system.gpu_state import GpuMonitor


def run(request: Request, command: list[str], started: float) -> int:
    """Measure what was asked for; returns the exit code. started: perf_counter at the command.

    Raises:
        CannotRun: it does not fit, before anything is allocated.
    """
    with join(request.tensor_parallel, request.device, request.all_reduce) as ranks:
        return Benchmark(request, command, started, ranks).run()


class Benchmark:
    """One session; of several ranks each runs it, and the first prints and writes.

    open_engine: opens the engine of a cell's plan; tests put scripted ones in its place.
    """

    def __init__(
        self,
        request: Request,
        command: list[str],
        started: float,
        ranks: Ranks | None = None,
        open_engine: OpenEngine = open_engine,
    ) -> None:
        self.request = request
        self.ranks = ranks or Ranks()
        self.started = started
        self.device = torch.device(request.device)
        self.out = sys.stderr if request.json else sys.stdout
        self.available = self._available_bytes()
        cells = plan_cells(request, self.ranks.one_shot)
        self.plan: SessionPlan = arrange(request, cells, self.available)
        self.cells = [LiveCell(plan) for plan in self.plan.cells]
        self.facts = self._facts(command)
        self.progress = Progress(request.quiet or not self.ranks.is_first)
        self.weights = Weights()
        self.preparation = Preparation(
            self.weights, self.device, request.seed, self.ranks, self.progress.stage, open_engine
        )
        self.autosave: Autosave | None = None
        self.save_error: OSError | None = None
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
            self.facts.end("failed")
            self._save()
            raise
        self.progress.close()
        code = self._finish() if self.ranks.is_first else None
        self._close(self.cells)
        return self.ranks.leave(code)

    # Before anything is measured

    def _facts(self, command: list[str]) -> SessionFacts:
        request, environment = self.request, describe(self.device)
        gpu = environment["gpu"]
        environment["nodes"] = self.ranks.num_nodes
        environment["ranks"] = None
        if self.ranks.size > 1:
            environment["ranks"] = self.ranks.exchange(describe_rank(gpu))
        if gpu is not None:
            gpu["count"] = self.ranks.size
        preset = find_gpu(gpu["name"], gpu["memory_bytes"]) if gpu else None
        precisions = {cell.plan.precision.name for cell in self.cells}
        return SessionFacts(
            request=request,
            workload=make_workload(request),
            environment=environment,
            ceilings={name: self._ceilings(preset, name) for name in precisions},
            prices=price_range(preset, request.gpu_price) if gpu else None,
            command=command,
            warnings=list(request.notices),
        )

    def _ceilings(self, preset: GPU | None, precision: str) -> Ceilings | None:
        """From the datasheet or as given; measured where that is asked for and there is room."""
        request = self.request
        if request.measure_ceilings and self.device.type == "cuda" and precision in DTYPES:
            measured = measure_ceilings(DTYPES[precision], self.device, self.available)
            if measured is not None:
                return measured
        return ceilings(preset, precision, request.gpu_bandwidth, request.gpu_peak)

    def _available_bytes(self) -> int | None:
        """On the fullest GPU; ranks on CPUs share their host's memory."""
        if self.device.type == "cuda":
            own = torch.cuda.mem_get_info(self.device)[0]
        else:
            own = free_host_bytes()
            own = None if own is None else own // self.ranks.local_size
        known = [free for free in self.ranks.exchange(own) if free is not None]
        return min(known, default=None)

    def _record_memory(self) -> None:
        for group in self.plan.groups:
            for cell in self._cells_of(group):
                plan = cell.plan
                share, precision = plan.share, plan.precision
                cell.record.memory |= {
                    "weights_bytes": share.weight_bytes(precision),
                    "kv_cache_bytes": share.kv_cache_bytes(
                        precision, plan.batch_size, plan.workload.cache_length
                    ),
                    "predicted_bytes": group.predicted_bytes,
                }

    def _announce(self) -> None:
        if not self.ranks.is_first:
            return
        request = self.request
        for notice in request.notices:
            print(f"notice: {notice}", file=sys.stderr)
        result = make_result(self.facts, self.cells)
        if request.save_results:
            path = request.output_dir / result_file.file_name(result)
            self.autosave = Autosave(path, self.facts)
        if request.quiet:
            return
        predicted = max(group.predicted_bytes for group in self.plan.groups)
        try:
            print(card(result, predicted, self.available), end="\n\n", file=self.out, flush=True)
        except OSError as error:
            _give_up_stdout()
            raise CannotRun(f"the output can't be written: {error.strerror}") from None

    # Group by group

    def _cells_of(self, group: Group) -> list[LiveCell]:
        return [cell for cell in self.cells if cell.plan in group.cells]

    def _measure_groups(self) -> None:
        if any(cell.plan.spec.engine.needs_weights for cell in self.cells):
            self.weights.build(self.request, self.device, self.ranks, self.progress.stage)
        self.ranks.exchange()
        gpu = self.facts.environment["gpu"]
        with GpuMonitor(gpu["uuid"] if gpu else None) as monitor:
            if gpu is not None and (seen := monitor.snapshot()) is not None:
                gpu["power_limit_w"] = seen.power_limit_w
                gpu["default_power_limit_w"] = seen.default_power_limit_w
            for group in self.plan.groups:
                self._measure_group(group, monitor)

    def _measure_group(self, group: Group, monitor: GpuMonitor) -> None:
        cells = self._cells_of(group)
        self.ranks.expect_compilation()
        self.preparation.prepare(group, cells)
        self.ranks.expect_speed()
        if self.facts.ready_s is None:
            self.facts.ready_s = time.perf_counter() - self.started
        self._rounds(cells, monitor).run()
        self.ranks.expect_compilation()
        for cell in cells:
            if cell.is_running:
                guarded(self.ranks, cell, partial(self.preparation.check_timed, group))
        if self.device.type == "cuda":
            for cell in cells:
                if cell.is_running:
                    self._diagnose(cell)
        self._close(cells)
        self._show(cells)

    def _rounds(self, cells: list[LiveCell], monitor: GpuMonitor) -> Rounds:
        tracker = MemoryTracker(cells)
        is_cuda = self.device.type == "cuda"
        return Rounds(
            cells,
            self.preparation.inputs,
            self._stopping_rule(),
            self._warmup_rule(),
            self.progress.update,
            self._save,
            monitor.snapshot,
            tracker.before_run if is_cuda else lambda cell: None,
            tracker.after_run if is_cuda else lambda cell: None,
            ranks=self.ranks,
        )

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
            ceilings = self.facts.ceilings.get(cell.plan.precision.name)
            diagnose(cell, inputs, trace, self.ranks.exchange, ceilings)
            self.ranks.exchange()
        except PeerFailed as error:
            self.facts.warnings.append(f"{cell.label}: no profile: {error}")
        except Exception as error:
            self.facts.warnings.append(f"{cell.label}: no profile: {failure(error)[1]}")
            self.ranks.report(failure(error))

    def _close(self, cells: list[LiveCell]) -> None:
        """Captured graphs may hold NCCL calls: they go before the process group does."""
        for cell in cells:
            cell.close()
            cell.clock_type = None
        gc.collect()
        self.preparation.free()

    def _show(self, cells: list[LiveCell]) -> None:
        """A group's rows, as soon as it is done; the report of all follows at the end."""
        if not self.ranks.is_first or len(self.plan.groups) == 1:
            return
        results = make_result(self.facts, cells)["cells"]
        if self.autosave is not None:
            self.autosave.settle(results)
            self._save()
        if self.request.quiet:
            return
        self.progress.close()
        session = {**header(self.facts), "cells": results}
        print(group_rows(results, session), file=self.out, flush=True)
        if cells[-1] is self.cells[-1]:
            print(file=self.out)

    # At the end

    def _save(self) -> None:
        """Called after every round; a disk that fills up must not end the measurement."""
        self._write(lambda: self.autosave.save(self.cells))

    def _write(self, write) -> None:
        if self.autosave is None or not self.ranks.is_first:
            return
        try:
            write()
            self.save_error = None
        except OSError as error:
            self.save_error = error

    def _finish(self) -> int:
        measured = any(cell.record.runs for cell in self.cells)
        state = "interrupted" if self.interrupted else "complete" if measured else "failed"
        self.facts.end(state)
        result = make_result(self.facts, self.cells)
        self._write(lambda: result_file.write(result, self.autosave.path))
        if self.save_error is not None:
            print(
                f"error: {self.autosave.path}: {self.save_error.strerror}; "
                "the result follows on stdout",
                file=sys.stderr,
            )
        try:
            self._print(result)
        except OSError as error:  # a full disk behind stdout; a pipe's reader may have seen enough
            _give_up_stdout()
            if not isinstance(error, BrokenPipeError):
                print(f"error: the output can't be written: {error.strerror}", file=sys.stderr)
                return ExitCode.GATE_FAILED
        return self._exit_code(result)

    def _print(self, result: dict) -> None:
        print(encodable(report(result), self.out.encoding), file=self.out)
        self._print_profiles(result)
        if self.autosave is not None and self.save_error is None:
            print(f"\nsaved: {self.autosave.path}", file=self.out)
        if self.request.json or self.save_error is not None:
            print(json.dumps(result, allow_nan=False))
        sys.stdout.flush()

    def _print_profiles(self, result: dict) -> None:
        for cell in result["cells"]:
            if cell["estimated"]:
                continue
            if self.request.explain and self.device.type == "cuda":
                print(f"\n{explain(cell)}", file=self.out)
            if self.request.profile and cell["profile"]:
                print(f"\n{costliest(cell)}", file=self.out)

    def _exit_code(self, result: dict) -> int:
        if self.interrupted:
            return ExitCode.INTERRUPTED
        cells = result["cells"]
        if not any(cell.record.runs for cell in self.cells):
            return ExitCode.CANNOT_RUN
        if any(cell["status"] != "ok" for cell in cells):
            return ExitCode.GATE_FAILED
        invalid = any(cell["validity"]["verdict"] != "valid" for cell in cells)
        return ExitCode.GATE_FAILED if self.request.strict and invalid else ExitCode.MEASURED


def _give_up_stdout() -> None:
    """What is left in its buffer goes nowhere, so that nothing is said of it at the exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def free_host_bytes() -> int | None:
    """Of this machine; None where it does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
