"""From a request to cells that are ready to be timed: built, compiled, captured, outputs checked.

Each step's cost is the cell's cold start; none of it reaches the timed runs.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import torch

from inference_benchmark.engines import MODES
from inference_benchmark.engines.base import Mode, ModeOptions, StepEngine
from inference_benchmark.engines.eager import Mode as EagerMode
from inference_benchmark.engines.spec import ModeSpec
from inference_benchmark.errors import CannotRun
from inference_benchmark.model.checkpoint_config import CheckpointError
from inference_benchmark.model.decoder import Decoder
from inference_benchmark.model.kernel_choice import KernelConfig
from inference_benchmark.model.routing import balance
from inference_benchmark.model.weights import build_decoder, empty_decoder
from inference_benchmark.models import ModelConfig
from inference_benchmark.options.request import Request
from inference_benchmark.output_check import agreement
from inference_benchmark.parallel.ranks import Ranks
from inference_benchmark.session.cell import Cell
from inference_benchmark.session.interleave import guarded
from inference_benchmark.system.clock import CLOCKS
from inference_benchmark.workloads.generation import prompt
from inference_benchmark.workloads.metrics import Work


def make_cells(request: Request, one_shot: bool = False) -> list[Cell]:
    """The session's cells, without engines yet; their work is that of one rank.

    Each depth that is measured has cells of its own.
    """
    return [
        Cell(
            spec=spec,
            mode_label=spec.shown_label,
            batch_size=batch_size,
            model=model,
            precision=request.precision_of(spec),
            kernels=choose_kernels(request, spec, one_shot),
            work=Work.of(
                model.sharded(request.tensor_parallel),
                request.precision_of(spec),
                batch_size,
                request.input_length,
                request.output_length,
            ),
            qualifier="" if request.extrapolation is None else _depth(model),
            timer="cuda_event" if request.device == "cuda" else "wall",
        )
        for batch_size in request.batch_sizes
        for spec in request.specs
        for model in request.measured_models
    ]


def _depth(model: ModelConfig) -> str:
    return f"{model.num_layers}L"


def choose_kernels(request: Request, spec: ModeSpec, one_shot: bool = False) -> KernelConfig:
    """auto: plain eager stays unmodified PyTorch, the others get the best that the model can use.

    Experts, linear layers as well, follow the choice for these.
    The choice is the full model's at every depth: what is estimated has one set of kernels.
    one_shot: whether the ranks can use this kind of all-reduce.
    """
    is_plain = spec.name == "eager" and not spec.cuda_graphs
    torch_only = is_plain or request.device == "cpu"
    best = KernelConfig() if torch_only else KernelConfig(attention="flash_decode", linear="gemv")
    if not request.model.supports_flash_decode:
        best = replace(best, attention="sdpa")
    if spec.linear_precision is not None:  # the transform takes over PyTorch's own linear layers
        best = replace(best, linear="torch")
    linear = best.linear if request.linear == "auto" else request.linear
    return KernelConfig(
        best.attention if request.attention == "auto" else request.attention,
        linear,
        experts="fused" if linear == "gemv" else "grouped",
        all_reduce=_choose_all_reduce(request, is_plain, one_shot),
    )


def _choose_all_reduce(request: Request, is_plain: bool, one_shot: bool) -> str:
    if request.tensor_parallel == 1:
        return "none"
    wanted = request.all_reduce
    if wanted == "auto":
        has_kernel = one_shot and request.precision != "fp16"
        return "one_shot" if has_kernel and not is_plain else "nccl"
    return wanted


class Preparation:
    """Builds the weights once, of several ranks each its share, and an engine per cell; cells of
    fewer layers use the beginning of the same weights."""

    def __init__(
        self, request: Request, on_progress: Callable[[str], None], ranks: Ranks | None = None
    ) -> None:
        self.request = request
        self.ranks = ranks or Ranks()
        self.device = torch.device(request.device)
        self.on_progress = on_progress
        self.decoder: Decoder | None = None
        self.build_s: float | None = None
        self.load_s: float | None = None

    def build(self) -> None:
        """The weights, random or from a checkpoint; reading one is timed apart.

        Raises:
            CannotRun: the checkpoint can't be read.
        """
        self.on_progress("building the model")
        started = time.perf_counter()
        request = self.request
        if request.model_path is None:
            self.decoder = build_decoder(
                request.built_model,
                request.precision,
                self.device,
                request.cache_length,
                request.seed,
                self.ranks.shard,
            )
        else:
            self.decoder = empty_decoder(
                request.built_model, request.precision, self.device, self.ranks.shard
            )
            self.decoder.set_context_length(request.cache_length)
        self._wait()
        if self.ranks.size > 1:  # whole weights were here while they were cut
            self._free()
        self.build_s = time.perf_counter() - started
        if request.model_path is not None:
            self.on_progress(f"reading {request.model_path}")
            self.load_s = self._timed(lambda: self._load(request.model_path))

    def _load(self, folder: Path) -> None:
        from inference_benchmark.model.checkpoint import load_checkpoint  # needs safetensors

        try:
            load_checkpoint(self.decoder, folder)
        except CheckpointError as error:
            raise CannotRun(f"--model-path: {error}") from None

    def prompts(self, batch_size: int, run: int) -> torch.Tensor:
        request = self.request
        return prompt(
            request.model.vocab_size,
            batch_size,
            request.input_length,
            request.seed,
            run,
            self.device,
        )

    def prepare(self, cells: list[Cell]) -> None:
        """Give each cell its engine; a cell that can't have one becomes a row with the reason."""
        for batch_size in self.request.batch_sizes:
            for cell in [cell for cell in cells if cell.batch_size == batch_size]:
                guarded(self.ranks, cell, self._prepare)
                if not cell.is_running:
                    self._free()

    def _prepare(self, cell: Cell) -> None:
        held = self._allocated()
        started = time.perf_counter()
        cell.engine = self._engine(self._mode_class(cell.spec), cell, cell.kernels)
        if self.device.type == "cuda":
            cell.timer = cell.engine.mode.timer
        if cell.spec.cuda_graphs and not cell.engine.mode.capturable:
            name = cell.spec.name
            raise CannotRun(f"mode '{name}' can't be captured in a CUDA graph: use {name}+nographs")
        cell.clock_type = CLOCKS[cell.timer]
        setup_s = time.perf_counter() - started
        self._compile(cell)
        before_s = self.build_s + (self.load_s or 0.0) + setup_s
        cell.cold_start |= {
            "build_s": self.build_s,
            "load_s": self.load_s,
            "setup_s": setup_s,
            "first_token_s": before_s + cell.cold_start["compile_prefill_s"],
        }
        self._combine_cold_start(cell)
        cell.details = cell.engine.mode.details()
        self._check(cell)
        cell.engine.reset()
        cell.memory["held_bytes"] = None if held is None else self._allocated() - held

    def _combine_cold_start(self, cell: Cell) -> None:
        """Of several ranks the slowest."""
        everywhere = self.ranks.all_gather(cell.cold_start)
        cell.cold_start = {
            name: max((each[name] for each in everywhere if each[name] is not None), default=None)
            for name in cell.cold_start
        }

    def _mode_class(self, spec: ModeSpec) -> type[Mode]:
        return import_module(MODES[spec.name].module).Mode

    def _engine(self, mode_class: type[Mode], cell: Cell, kernels: KernelConfig):
        request = self.request
        options = ModeOptions(
            kernels,
            cell.spec.executors,
            request.compile_mode,
            request.compile_scope,
        )
        decoder = self.decoder
        if cell.model.num_layers < decoder.config.num_layers:
            decoder = decoder.prefix(cell.model.num_layers)
        return StepEngine(
            mode_class(decoder, options),
            decoder,
            cell.batch_size,
            request.input_length,
            request.cache_length,
        )

    def _compile(self, cell: Cell) -> None:
        """The first prefill and the first decode step, then the graph."""
        engine, tokens = cell.engine, self.prompts(cell.batch_size, 0)
        self.on_progress(f"{cell.label}: first prefill")
        cell.cold_start["compile_prefill_s"] = self._timed(lambda: engine.prefill(tokens))
        if engine.choices:
            cell.routing = balance(engine.choices, cell.model.num_experts)
        self.on_progress(f"{cell.label}: first decode step")
        cell.cold_start["compile_decode_s"] = self._timed(engine.decode)
        if cell.spec.cuda_graphs:
            self.on_progress(f"{cell.label}: capturing the decode step")
            cell.cold_start["capture_s"] = self._timed(engine.capture)
            cell.memory["graph_pool_bytes"] = engine.graph_pool_bytes()

    def _check(self, cell: Cell) -> None:
        """The output gate; its reference is freed at once."""
        self.on_progress(f"{cell.label}: checking outputs")
        all_reduce = "none" if self.ranks.size == 1 else "nccl"
        plain = KernelConfig(experts="loop", all_reduce=all_reduce)
        reference = self._engine(EagerMode, cell, plain)
        tokens = self.prompts(cell.batch_size, 0)
        inputs = agreement.Inputs.random(cell.model.vocab_size, tokens, self.request.seed)
        own = agreement.check(cell.engine, reference, inputs, cell.precision.name)
        cell.agreement = agreement.combine(self.ranks.all_gather(own))
        reference.close()
        if not cell.agreement["passed"]:
            cell.status = "wrong_output"
        self._free()

    def _timed(self, action: Callable[[], None]) -> float:
        started = time.perf_counter()
        action()
        self._wait()
        return time.perf_counter() - started

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _allocated(self) -> int | None:
        return torch.cuda.memory_allocated() if self.device.type == "cuda" else None

    def _free(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
