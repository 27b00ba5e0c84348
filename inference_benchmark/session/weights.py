"""The session's weights: built once, of several ranks each its share, and lent to all engines."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from inference_benchmark.errors import CannotRun, printable
from inference_benchmark.model.checkpoint_config import CheckpointError, gguf_file
from inference_benchmark.model.config import Precision
from inference_benchmark.model.decoder import Decoder
from inference_benchmark.model.implementation import OURS, Implementation
from inference_benchmark.model.own_model import build_own_model
from inference_benchmark.model.quantized import FormatDecoders, build_decoders, store_all
from inference_benchmark.model.weights import DTYPES, build_decoder, empty_decoder
from inference_benchmark.options.request import Request
from inference_benchmark.output_check.accuracy import Accuracy, random_text
from inference_benchmark.parallel.ranks import Ranks
from inference_benchmark.session.plan import CellPlan
from inference_benchmark.session.weight_files import WeightFiles


class Weights:
    """The decoder, how long it took to build and to load, and its weights as files.

    context_length: positions that will be needed at least, where further sessions share them.
    decoders: where weights are quantised, by the name of their precision; they share with `decoder`
        what is stored alike.
    accuracy: of these, what output_check.accuracy found.
    """

    def __init__(self, context_length: int = 0) -> None:
        self._context_length = context_length
        self.decoder: Decoder | None = None
        self.decoders: dict[str, Decoder] = {}
        self.accuracy: dict[str, dict] = {}
        self.build_s: float | None = None
        self.load_s: float | None = None
        self.files: WeightFiles | None = None
        self._own_models: dict[Implementation, nn.Module] = {}

    def model_of(self, implementation: Implementation) -> nn.Module | None:
        """Of another implementation its model with these weights, built once; None of ours."""
        if implementation.is_default:
            return None
        if implementation not in self._own_models:
            self._own_models[implementation] = build_own_model(implementation, self.decoder)
        return self._own_models[implementation]

    def idle_bytes(self, plan: CellPlan) -> int:
        """Of weights that lie in memory, and that this cell does not use: those of other
        implementations, and in training all, since each cell trains a copy."""
        if self.decoder is None:
            return 0
        if self.decoders:
            together = nn.ModuleList([self.decoder, *self.decoders.values()])
            return _bytes(together) - _bytes(self.of(plan.precision))
        models = {OURS: self.decoder, **self._own_models}
        if plan.engine.training is None:
            models.pop(plan.implementation, None)
        return sum(_bytes(model) for model in models.values())

    def of(self, precision: Precision) -> Decoder | None:
        """The decoder that stores its weights so."""
        return self.decoders.get(precision.name) if precision.is_quantized else self.decoder

    def build(
        self,
        request: Request,
        context_length: int,
        device: torch.device,
        ranks: Ranks,
        on_stage: Callable[[str], None],
    ) -> None:
        """Random weights, or those of a checkpoint; reading one is timed apart. What was built for an
        earlier session stays.

        context_length: positions that any engine will need.

        Raises:
            CannotRun: the checkpoint can't be read.
        """
        if self.decoder is not None:
            return
        context_length = max(context_length, self._context_length)
        on_stage("building the model")
        started = time.perf_counter()
        model, precision = request.built_model, request.precision
        if model.is_foreign:
            self._load_foreign(request, device, on_stage)
            return
        quantized = [precision for precision in request.stored_precisions if precision.is_quantized]
        if request.read_text is not None:
            context_length = max(context_length, len(request.read_text.ids))
        if quantized and request.model_path is None:
            self._build_quantized(request, quantized, context_length, device, ranks)
        elif request.model_path is None:
            self.decoder = build_decoder(
                model, precision, device, context_length, request.seed, ranks.shard
            )
        else:
            self.decoder = empty_decoder(model, precision, device, ranks.shard)
            self.decoder.set_context_length(context_length)
        _wait(device)
        if ranks.size > 1 and device.type == "cuda":  # full weights were here while they were cut
            torch.cuda.empty_cache()
        self.build_s = time.perf_counter() - started
        if request.model_path is not None:
            on_stage(f"reading {printable(str(request.model_path))}")
            started = time.perf_counter()
            self._load(request.model_path)
            if quantized:
                self._quantize_loaded(request, quantized, context_length)
            _wait(device)
            self.load_s = time.perf_counter() - started
        self.files = WeightFiles(self.decoder, on_stage, _gguf_source(request))

    def _load_foreign(
        self, request: Request, device: torch.device, on_stage: Callable[[str], None]
    ) -> None:
        """An architecture that is not ours, as its library reads it: there is nothing to build."""
        from inference_benchmark.model.foreign import load_foreign

        on_stage(f"reading {printable(str(request.model_path))}")
        started = time.perf_counter()
        dtype = DTYPES[request.precision]
        self.decoder = load_foreign(request.model, request.model_path, dtype, device)
        _wait(device)
        self.load_s = time.perf_counter() - started

    def close(self) -> None:
        """Remove what was written of the weights."""
        if self.files is not None:
            self.files.close()

    def _build_quantized(
        self,
        request: Request,
        quantized: list[Precision],
        context_length: int,
        device: torch.device,
        ranks: Ranks,
    ) -> None:
        accuracy: list[Accuracy] = []

        def watch(decoders: FormatDecoders) -> Accuracy:
            accuracy.append(Accuracy(decoders, _accuracy_text(request, context_length)))
            return accuracy[0]

        made = build_decoders(
            request.built_model,
            quantized,
            _keeps_base(request),
            device,
            context_length,
            request.seed,
            ranks.shard,
            watch,
        )
        self._take(made, accuracy[0], request)

    def _quantize_loaded(
        self, request: Request, quantized: list[Precision], context_length: int
    ) -> None:
        made = FormatDecoders(self.decoder, quantized, _keeps_base(request))
        accuracy = Accuracy(made, _accuracy_text(request, context_length))
        store_all(made, accuracy)
        self._take(made, accuracy, request)

    def _take(self, made: FormatDecoders, accuracy: Accuracy, request: Request) -> None:
        self.decoder, self.decoders = made.base, made.decoders
        text = f"random tokens, seed {request.seed}"
        if request.read_text is not None:
            text = f"tokens of {request.read_text.name}"
        self.accuracy = {
            name: {"text": text, **found} for name, found in accuracy.findings().items()
        }

    def _load(self, folder: Path) -> None:
        from inference_benchmark.model.checkpoint import load_checkpoint  # needs safetensors

        try:
            load_checkpoint(self.decoder, folder)
        except CheckpointError as error:
            raise CannotRun(f"--model-path: {error}") from None


def _accuracy_text(request: Request, context_length: int) -> Tensor:
    if request.read_text is not None:
        return torch.tensor(request.read_text.ids)
    return random_text(request.built_model.vocab_size, request.seed, context_length)


def _gguf_source(request: Request) -> Path | None:
    """The GGUF file that holds the very model that was built."""
    if request.model_path is None or request.built_model.is_reduced:
        return None
    return gguf_file(request.model_path)


def _keeps_base(request: Request) -> bool:
    return any(not precision.is_quantized for precision in request.stored_precisions)


def _bytes(model: nn.Module) -> int:
    weights = (weight for weight in model.parameters() if not weight.is_meta)
    return sum(weight.numel() * weight.element_size() for weight in weights)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
