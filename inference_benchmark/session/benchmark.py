"""The main job: from a resolved request to tables and a result file."""

import gc
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from inference_benchmark.errors import CannotRun, ExitCode, RequestError
from inference_benchmark.hardware import GPU, Ceilings, ceilings, find_gpu, price_range
from inference_benchmark.model.extrapolation import choose, flag, pairs
from inference_benchmark.model.weights import DTYPES
from inference_benchmark.models import ModelConfig
from inference_benchmark.options.request import Request
from inference_benchmark.parallel.ranks import PeerFailed, Ranks, describe_rank, join
from inference_benchmark.reporting import result_file
from inference_benchmark.reporting.card import card
from inference_benchmark.reporting.explanation import costliest, explain
from inference_benchmark.reporting.layout import encodable
from inference_benchmark.reporting.progress import Progress
from inference_benchmark.reporting.reading import to_version_2
from inference_benchmark.reporting.tables import report
from inference_benchmark.reporting.units import gigabytes
from inference_benchmark.session.cell import Cell
from inference_benchmark.session.diagnosis import diagnose
from inference_benchmark.session.ending import Ending
from inference_benchmark.session.interleave import Session, failure
from inference_benchmark.session.preparation import Preparation, make_cells
from inference_benchmark.statistics.stopping import StoppingRule, WarmupRule
from inference_benchmark.system import signals
from inference_benchmark.system.ceilings import measure as measure_ceilings
from inference_benchmark.system.device_memory import MemoryTracker
from inference_benchmark.system.environment import describe
from inference_benchmark.system.gpu_state import GpuMonitor
from inference_benchmark.system.memory import Need, largest_fit, predict


def run(request: Request, command: list[str], started: float) -> int:
    """Measure what was asked for; returns the exit code. started: perf_counter at the command.

    Raises:
        CannotRun: it does not fit, before anything is allocated.
    """
    with join(request.tensor_parallel, request.device, request.all_reduce) as ranks:
        return Benchmark(request, command, started, ranks).run()


class Benchmark:
    """One session; of several ranks each runs it, and the first prints and writes."""

    def __init__(
        self, request: Request, command: list[str], started: float, ranks: Ranks | None = None
    ) -> None:
        self.request = request
        self.ranks = ranks or Ranks()
        self.started = started
        self.device = torch.device(request.device)
        self.out = sys.stderr if request.json else sys.stdout
        self.cells = make_cells(request, self.ranks.one_shot)
        self.builder = self._result_builder(command)
        self.progress = Progress(request.quiet or not self.ranks.is_first)
        self.preparation = Preparation(request, self.progress.stage, self.ranks)
        self.ending = Ending(request, lambda: self.builder.build(self.cells))
        self.interrupted = False

    def run(self) -> int:
        need, available = self._need(), self._available_bytes()
        self._check_fit(need, available)
        self._record_memory(need)
        self._announce(need, available)
        try:
            self._prepare_and_measure()
        except KeyboardInterrupt:
            self._interrupt()
        except BaseException:
            self.ending.finish("failed")
            raise
        self.progress.close()
        with signals.postponed():
            code = self._finish() if self.ranks.is_first else None
        return self._leave(code)

    def _leave(self, code: int | None) -> int:
        """All ranks together, with rank 0's exit code, after it has printed: torchrun ends the
        others as soon as one has failed. Graphs that hold NCCL calls go before the group does."""
        if self.ranks.size > 1:
            for cell in self.cells:
                if cell.engine is not None:
                    cell.engine.close()
            gc.collect()
        return self.ranks.leave(code)

    def _result_builder(self, command: list[str]) -> result_file.ResultBuilder:
        request, environment = self.request, describe(self.device)
        gpu = environment["gpu"]
        environment["nodes"] = self.ranks.num_nodes
        if self.ranks.size > 1:
            environment["ranks"] = self.ranks.all_gather(describe_rank(gpu))
        if gpu is not None:
            gpu["count"] = self.ranks.size
        preset = find_gpu(gpu["name"], gpu["memory_bytes"]) if gpu else None
        found = {
            name: self._ceilings(preset, name) for name in {c.precision.name for c in self.cells}
        }
        prices = price_range(preset, request.gpu_price) if gpu else None
        return result_file.ResultBuilder(request, environment, found, prices, command)

    def _ceilings(self, preset: GPU | None, precision: str) -> Ceilings | None:
        request = self.request
        if request.measure_ceilings and self.device.type == "cuda" and precision in DTYPES:
            return measure_ceilings(DTYPES[precision], self.device)
        return ceilings(preset, precision, request.gpu_bandwidth, request.gpu_peak)

    def _need(self) -> Need:
        request = self.request
        cells = [(self._share(cell.model), cell.precision, cell.batch_size) for cell in self.cells]
        return predict(cells, request.input_length, request.output_length)

    def _share(self, model: ModelConfig) -> ModelConfig:
        return model.sharded(self.request.tensor_parallel)

    def _available_bytes(self) -> int | None:
        """On the fullest GPU; ranks on CPUs share their host's memory."""
        if self.device.type == "cuda":
            own = torch.cuda.mem_get_info(self.device)[0]
        else:
            own = _free_host_bytes()
            own = None if own is None else own // self.ranks.local_size
        known = [each for each in self.ranks.all_gather(own) if each is not None]
        return min(known, default=None)

    def _check_fit(self, need: Need, available: int | None) -> None:
        if available is None or need.total <= available or self.request.force:
            return
        raise CannotRun(
            f"{self.request.built_model.label} needs about {gigabytes(need.total)} GB{self._each()} "
            f"(weights {gigabytes(need.weights)}, KV cache {gigabytes(need.kv_cache)}), "
            f"{gigabytes(available)} GB are free; would fit: {self._advice(available)}; "
            "--force tries anyway"
        )

    def _advice(self, available: int) -> str:
        """A smaller batch or fewer layers, and whether the whole can be estimated instead."""
        request = self.request
        fitting = largest_fit(
            self._cells_of(request.measured_models),
            self._shallower(),
            self.cells[0].precision,
            max(request.batch_sizes),
            request.input_length,
            request.output_length,
            available,
        )
        if request.extrapolation is not None or request.model.is_reduced:
            return fitting
        estimate = f"{fitting}, or --extrapolate for an estimate of the whole"
        return estimate if self._can_estimate(available) else fitting

    def _can_estimate(self, available: int) -> bool:
        """At the depths that are the default, and at the batch sizes that were asked for."""
        request = self.request
        try:
            depths = choose(request.model, ()).from_layers
        except RequestError:
            return False
        cells = [
            (self._share(request.model.with_layers(depth)), cell.precision, cell.batch_size)
            for depth in depths
            for cell in self.cells
        ]
        return predict(cells, request.input_length, request.output_length).total <= available

    def _cells_of(self, models: tuple[ModelConfig, ...]) -> tuple[ModelConfig, ...]:
        """A rank's share of each of these models for each mode."""
        return tuple(self._share(model) for model in models for _ in self.request.specs)

    def _shallower(self) -> Iterator[tuple[str, tuple[ModelConfig, ...]]]:
        """(flags, models) of fewer layers that could be measured instead, the deepest first."""
        request = self.request
        if request.extrapolation is None:
            for depth in range(request.model.num_layers - 1, 0, -1):
                yield f"--num-layers {depth}", self._cells_of((request.model.with_layers(depth),))
            return
        deepest = request.built_model.num_layers
        fewer = [pair for pair in pairs(request.model) if pair[1] < deepest]
        for pair in sorted(fewer, key=lambda pair: (-pair[1], pair[0])):
            yield flag(pair), self._cells_of(tuple(map(request.model.with_layers, pair)))

    def _each(self) -> str:
        return "" if self.ranks.size == 1 else f" on each of {self.ranks.size} ranks"

    def _record_memory(self, need: Need) -> None:
        for cell in self.cells:
            share = self._share(cell.model)
            cell.memory |= {
                "weights_bytes": share.weight_bytes(cell.precision),
                "kv_cache_bytes": share.kv_cache_bytes(
                    cell.precision, cell.batch_size, self.request.cache_length
                ),
                "predicted_bytes": need.total,
            }

    def _announce(self, need: Need, available: int | None) -> None:
        if not self.ranks.is_first:
            return
        for notice in self.request.notices:
            print(f"notice: {notice}", file=sys.stderr)
        self.ending.open_file()
        if self.request.quiet:
            return
        text = card(self.ending.result(), need.total, available)
        self.ending.print(lambda: print(text, end="\n\n", file=self.out, flush=True))

    def _prepare_and_measure(self) -> None:
        self.preparation.build()
        self.ranks.all_gather()
        self.preparation.prepare(self.cells)
        self.ranks.shorten_timeout()
        self.builder.ready_s = time.perf_counter() - self.started
        tracker = MemoryTracker(self.cells)
        is_cuda = self.device.type == "cuda"
        gpu = self.builder.environment["gpu"]
        with GpuMonitor(gpu["uuid"] if gpu else None) as monitor:
            if gpu is not None and (seen := monitor.snapshot()) is not None:
                gpu["power_limit_w"] = seen.power_limit_w
            session = Session(
                self.cells,
                self.preparation.prompts,
                self._stopping_rule(),
                self._warmup_rule(),
                self.progress.update,
                self.ending.save,
                monitor.snapshot,
                tracker.before_run if is_cuda else lambda cell: None,
                tracker.after_run if is_cuda else lambda cell: None,
                ranks=self.ranks,
                on_round=self.progress.round_done,
            )
            session.run()
        self.interrupted = session.interrupted
        if is_cuda and not self.interrupted:
            for cell in session.running():
                self._diagnose(cell)

    def _diagnose(self, cell: Cell) -> None:
        """One extra pass that times nothing; without it the result lacks its explanation only."""
        self.progress.stage(f"{cell.label}: profiling")
        trace = None
        if self.request.profile:
            name = re.sub(r"[^A-Za-z0-9.-]+", "-", cell.label)
            trace = self.request.output_dir / f"{name}.trace.json"
            if not self.ranks.is_first:  # it makes the same steps, and keeps nothing
                trace = Path(os.devnull)
        try:
            tokens = self.preparation.prompts(cell.batch_size, 0)
            diagnose(cell, tokens, trace, self.ranks.all_gather)
            self.ranks.all_gather()
        except PeerFailed as error:
            self.builder.warnings.append(f"{cell.label}: no profile: {error}")
        except Exception as error:
            self.builder.warnings.append(f"{cell.label}: no profile: {failure(error)[1]}")
            self.ranks.report(failure(error))

    def _stopping_rule(self) -> StoppingRule:
        request = self.request
        if request.num_iterations is not None:
            return StoppingRule.fixed(request.num_iterations)
        return StoppingRule.adaptive(request.device, request.target_ci, request.max_seconds)

    def _warmup_rule(self) -> WarmupRule:
        count = self.request.warmup_iterations
        return WarmupRule() if count is None else WarmupRule.fixed(count)

    def _interrupt(self) -> None:
        self.interrupted = True
        for cell in self.cells:
            cell.interrupt()

    def _finish(self) -> int:
        result = self.ending.finish("interrupted" if self.interrupted else "complete")
        self.ending.print(lambda: self._print(result))
        return self.ending.code(self._exit_code(result))

    def _print(self, result: dict) -> None:
        print(encodable(report(result), self.out.encoding), file=self.out)
        self._print_profiles(to_version_2(result))
        if self.ending.is_saved:
            print(f"\nsaved: {self.ending.path}", file=self.out)
        if self.request.json or self.ending.save_error is not None:
            print(json.dumps(result))
        self.out.flush()
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
            return signals.exit_code()
        cells = result["cells"]
        if not any(cell["summary"]["ttft_s"]["n"] for cell in cells):
            return ExitCode.CANNOT_RUN
        if any(cell["status"] != "ok" for cell in cells):
            return ExitCode.GATE_FAILED
        invalid = any(cell["validity"]["verdict"] != "valid" for cell in cells)
        return ExitCode.GATE_FAILED if self.request.strict and invalid else ExitCode.MEASURED


def _free_host_bytes() -> int | None:
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
