"""What a session is to do; resolution.py makes it from the command line. Imports no torch."""

from dataclasses import dataclass

from inference_benchmark.engines.spec import ModeSpec
from inference_benchmark.model.checkpoint_config import gguf_file
from inference_benchmark.model.config import ModelConfig, Precision
from inference_benchmark.model.extrapolation import Extrapolation
from inference_benchmark.model.gguf.file_format import format_of_file
from inference_benchmark.model.implementation import OURS, Implementation
from inference_benchmark.model.layer_part import layer_for
from inference_benchmark.model.sampling import Sampling
from inference_benchmark.options import values
from inference_benchmark.options.accuracy_text import AccuracyText
from inference_benchmark.options.flags import Flags
from inference_benchmark.options.question import Question
from inference_benchmark.workloads import WORKLOADS

_ANSWER_TEMPERATURE = 0.85


@dataclass(frozen=True, kw_only=True)
class Request(Flags):
    """Everything that was asked for, resolved and checked.

    A flag's field holds what the flag resolved to: model_name, num_layers and both lengths are
    never None, device is "cuda" or "cpu", gpu_bandwidth is in bytes/s and gpu_peak in FLOP/s.
    """

    model: ModelConfig  # which the answer is about
    specs: tuple[ModeSpec, ...]  # the modes, the baseline included
    notices: tuple[str, ...] = ()
    tensor_parallel: int = 1
    extrapolation: Extrapolation | None = None
    question: Question | None = None  # instead of a benchmark
    read_text: AccuracyText | None = None  # of --accuracy-text
    workload: str = "generation"
    implementations: tuple[Implementation, ...] = (OURS,)

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Empty where they are still to be chosen by what fits."""
        return () if self.sweeps_batch_size else self.batch_size

    @property
    def sweeps_batch_size(self) -> bool:
        return self.batch_size == (values.SWEEP,)

    @property
    def input_lengths(self) -> tuple[int, ...]:
        """Of a layer's part those to be timed, one after the other."""
        return self.sequence_lengths or (self.input_length,)

    @property
    def drawn(self) -> Sampling | None:
        """How tokens are drawn; None: the most likely one is taken."""
        if self.sampling is None:
            return None
        usual = 1.0 if self.question is None else _ANSWER_TEMPERATURE
        return Sampling(self.temperature or usual, self.top_k, self.seed)

    @property
    def is_part(self) -> bool:
        """Whether a part of one layer is timed, not the model."""
        return WORKLOADS[self.workload].is_part

    @property
    def is_saved(self) -> bool:
        return self.save_results or self.output is not None

    @property
    def cache_length(self) -> int:
        return self.input_length + self.output_length

    @property
    def share(self) -> ModelConfig:
        """What one rank holds and computes; the whole model where there is one only."""
        return self.model.sharded(self.tensor_parallel)

    @property
    def measured_models(self) -> tuple[ModelConfig, ...]:
        """What runs, the deepest one last: the model, or the depths that it is estimated from."""
        if self.is_part:
            return (layer_for(self.workload, self.model),)
        if self.extrapolation is None:
            return (self.model,)
        return tuple(map(self.model.with_layers, self.extrapolation.from_layers))

    @property
    def built_model(self) -> ModelConfig:
        """Whose weights exist; what else is measured is the beginning of it."""
        return self.measured_models[-1]

    def precision_of(self, spec: ModeSpec) -> Precision:
        if spec.quantize is not None:
            name, _, head = spec.quantize.partition("+")
            return Precision.quantized(self.precision, name, with_head=bool(head))
        if spec.weight_format in spec.engine.weight_suffixes:  # embedding and head as well
            return Precision(self.precision, spec.weight_format, with_head=True)
        if spec.takes_file:
            file = gguf_file(self.model_path)
            return Precision.of_a_file(self.precision, format_of_file(file))
        precision = spec.engine.precision
        return (
            Precision.of(self.precision, spec.weight_format)
            if precision is None
            else Precision.of(precision)
        )

    @property
    def stored_precisions(self) -> tuple[Precision, ...]:
        """Where --quantize makes weights, in which they exist: those formats, and the model as it is
        where any mode runs it so."""
        if all(spec.quantize is None for spec in self.specs):
            return ()
        return tuple(dict.fromkeys(self.precision_of(spec).stored for spec in self.specs))
