"""From a cell's plan to an engine that is ready to be timed: opened, compiled, captured, checked.

Each step's cost is the cell's cold start; none of it reaches the timed runs.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from inference_benchmark.engines.base import Engine, Resources
from inference_benchmark.errors import CannotRun
from inference_benchmark.model.decoder import Decoder
from inference_benchmark.model.routing import balance
from inference_benchmark.output_check import combine, merge
from inference_benchmark.parallel.ranks import Ranks
from inference_benchmark.session.guard import guarded
from inference_benchmark.session.live import LiveCell
from inference_benchmark.session.plan import CellPlan
from inference_benchmark.session.weights import Weights
from inference_benchmark.system.clock import CLOCKS
from inference_benchmark.system.own_processes import OwnProcesses
from inference_benchmark.workloads.base import CheckContext

OpenEngine = Callable[[CellPlan, Resources], Engine]


def open_engine(plan: CellPlan, resources: Resources) -> Engine:
    """The engine of a cell's mode.

    Raises:
        CannotRun: the engine can't do what the plan asks of it.
    """
    engine_type = plan.spec.engine.load()
    name, can = plan.spec.name, engine_type.capabilities
    if not plan.workload.serves(can.steps):
        raise CannotRun(f"mode '{name}' can't run --workload {plan.workload.name}")
    if plan.device not in can.devices:
        raise CannotRun(f"mode '{name}' needs another device than {plan.device}")
    brings_weights = can.owns_weights or plan.precision.weight_format.made_by_engine
    is_known = plan.precision.of_file or plan.precision.name in can.weight_formats
    if brings_weights and not is_known:
        raise CannotRun(f"mode '{name}' has no weights in {plan.precision.name}")
    if plan.engine.sampling is not None and not can.samples:
        raise CannotRun(f"mode '{name}' takes the most likely token only: --sampling greedy")
    if plan.spec.cuda_graphs and not can.capturable:
        raise CannotRun(f"mode '{name}' can't be captured in a CUDA graph: use {name}+nographs")
    return engine_type(plan.engine, resources)


class Preparation:
    """Opens, compiles and checks the engines of one group after the other.

    inputs(plan, run) gives the tokens of a run; on_stage is told what is being done.
    """

    def __init__(
        self,
        weights: Weights,
        device: torch.device,
        seed: int,
        ranks: Ranks,
        on_stage: Callable[[str], None] = lambda stage: None,
        open_engine: OpenEngine = open_engine,
        own_processes: OwnProcesses | None = None,
        max_kl: float | None = None,
    ) -> None:
        self._own_processes = own_processes
        self.max_kl = max_kl
        self.weights = weights
        self.device = device
        self.seed = seed
        self.ranks = ranks
        self.on_stage = on_stage
        self._open_engine = open_engine

    def inputs(self, plan: CellPlan, run: int) -> Any:
        return plan.workload.inputs(
            plan.model.vocab_size, plan.batch_size, self.seed, run, self.device
        )

    def prepare(self, cells: list[LiveCell]) -> None:
        """Give each cell its engine; a cell that can't have one becomes a row with the reason."""
        for cell in cells:
            guarded(self.ranks, cell, self._prepare)
            if not cell.is_running:
                self.free()

    def _prepare(self, cell: LiveCell) -> None:
        plan, record = cell.plan, cell.record
        shared = self.weights.of(plan.precision)
        if shared is not None:
            plan.workload.prepare_check(self._check_context(plan, shared))
            self.free()
        model = self.weights.model_of(plan.implementation)
        held = self._allocated()
        started = time.perf_counter()
        written_s = self._written_s()
        with self._watching(cell):
            cell.engine = self._open_engine(plan, self._resources(plan, model))
        can = cell.engine.capabilities
        record.timer = can.clock if self.device.type == "cuda" else "wall"
        record.engine = {"name": plan.spec.name, **can.record(record.timer)}
        cell.clock_type = cell.engine.clock_type or CLOCKS[record.timer]
        record.cold_start["build_s"] = None if can.owns_weights else self.weights.build_s
        record.cold_start["load_s"] = (
            cell.engine.load_s if can.owns_weights else self.weights.load_s
        )
        # Weight files are written once for all engines: that is no part of this one's start.
        own_load_s = cell.engine.load_s or 0.0
        setup_s = time.perf_counter() - started - own_load_s - (self._written_s() - written_s)
        record.cold_start["setup_s"] = max(0.0, setup_s)
        record.accuracy = self._accuracy(plan)
        compiled = cell.engine.compile_count()
        with self._watching(cell):  # compilers may start processes of their own
            self._first_calls(cell)
        record.cold_start["compilations"] = cell.engine.compile_count() - compiled
        self._combine_cold_start(cell)
        record.compiler_stats = cell.engine.compiler_stats()
        record.memory["step_peak_bytes"] = cell.engine.step_peak_bytes()
        if can.evidence:
            self._check(cell)
        cell.engine.reset()
        record.memory["held_bytes"] = None if held is None else self._allocated() - held

    @contextmanager
    def _watching(self, cell: LiveCell) -> Iterator[None]:
        """What appears on the GPUs while a worker process starts, or first computes, is the cell's."""
        if self._own_processes is None or not cell.plan.spec.engine.in_worker:
            yield
            return
        before = set(self._own_processes.pids)
        with self._own_processes.starting():
            yield
        cell.pids |= self._own_processes.pids - before

    def _resources(self, plan: CellPlan, model) -> Resources:
        weights = self.weights
        decoder = weights.of(plan.precision)
        return Resources(decoder, self.device, weights.files, self.seed, model)

    def _accuracy(self, plan: CellPlan) -> dict | None:
        """Of quantised weights; they were looked at in the deepest model that was built."""
        accuracy = self.weights.accuracy.get(plan.precision.name)
        decoder = self.weights.decoder
        if not plan.precision.is_quantized or accuracy is None:
            return None
        if plan.model.num_layers < decoder.config.num_layers:
            return None
        passed = None if self.max_kl is None else accuracy["kl_mean"] <= self.max_kl
        return {
            "against": plan.precision.base,
            **accuracy,
            "max_kl": self.max_kl,
            "passed": passed,
        }

    def _written_s(self) -> float:
        files = self.weights.files
        return sum(files.write_s.values()) if files is not None else 0.0

    def _first_calls(self, cell: LiveCell) -> None:
        """The first call of each step, then the graph."""
        plan, record, engine = cell.plan, cell.record, cell.engine
        inputs = self.inputs(plan, 0)
        plan.workload.before_run(engine, inputs)

        def timed(stage: str, action: Callable[[], None]) -> None:
            self.on_stage(f"{cell.label}: {stage.removesuffix('_s').replace('_', ' ')}")
            record.cold_start[stage] = self._timed(action)
            if stage == plan.workload.first_token_stage:
                record.cold_start["first_token_s"] = sum(filter(None, record.cold_start.values()))
            choices = getattr(engine, "choices", None)
            if choices and record.routing is None:
                record.routing = balance(choices, plan.model.num_experts)

        plan.workload.prepare(engine, inputs, timed)
        if plan.spec.cuda_graphs:
            timed("capture_s", engine.capture)
            record.memory["graph_pool_bytes"] = engine.graph_pool_bytes()

    def _combine_cold_start(self, cell: LiveCell) -> None:
        """Of several ranks the slowest."""
        everywhere = self.ranks.all_gather(cell.record.cold_start)
        cell.record.cold_start = {
            name: max(
                (stats[name] for stats in everywhere if stats[name] is not None), default=None
            )
            for name in cell.record.cold_start
        }

    def _check(self, cell: LiveCell) -> None:
        """The output check before the timing."""
        plan, record = cell.plan, cell.record
        self.on_stage(f"{cell.label}: checking outputs")
        record.check_before = plan.workload.check(cell.engine, self._context_of(cell))
        record.take_check(combine(self.ranks.all_gather(merge(record.check_before, None))))
        self.free()

    def check_timed(self, cell: LiveCell) -> None:
        """The output check of what was timed; to come before anything else runs the engine."""
        plan, record = cell.plan, cell.record
        if not record.timed_outputs:
            return
        self.on_stage(f"{cell.label}: checking what was timed")
        after = plan.workload.check_timed(
            cell.engine, self._context_of(cell), record.timed_outputs, record.check_before
        )
        record.timed_outputs = []
        record.take_check(combine(self.ranks.all_gather(merge(record.check_before, after))))
        self.free()

    def _context_of(self, cell: LiveCell) -> CheckContext:
        """With the weights that the engine computes with, where it has some of its own."""
        own_decoder, shared = cell.engine.decoder, self.weights.of(cell.plan.precision)
        decoder = shared if own_decoder is None else own_decoder
        return self._check_context(cell.plan, decoder, cell.engine.products)

    def _check_context(
        self, plan: CellPlan, decoder: Decoder | None, products: str | None = None
    ) -> CheckContext:
        """products: their type, where the plan's is another."""
        num_layers = plan.model.num_layers
        if decoder is not None and num_layers < decoder.config.num_layers:
            decoder = decoder.prefix(num_layers)
        inputs = partial(self.inputs, plan)
        return CheckContext(decoder, products or plan.precision.compute, self.seed, inputs)

    def _timed(self, action: Callable[[], None]) -> float:
        started = time.perf_counter()
        action()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    def _allocated(self) -> int | None:
        return torch.cuda.memory_allocated() if self.device.type == "cuda" else None

    def free(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
