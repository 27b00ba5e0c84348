"""What a session is to do; resolution.py makes it from the command line. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path

from inference_benchmark.engines.spec import ModeSpec
from inference_benchmark.model.extrapolation import Extrapolation
from inference_benchmark.models import ModelConfig, Precision


@dataclass(frozen=True)
class Request:
    """Everything that was asked for, resolved and checked."""

    model: ModelConfig  # which the answer is about
    scenario: str | None
    input_length: int
    output_length: int
    batch_sizes: tuple[int, ...]
    precision: str
    seed: int
    device: str
    specs: tuple[ModeSpec, ...]
    baseline: str | None
    attention: str
    linear: str
    compile_mode: str
    compile_scope: str
    num_iterations: int | None
    warmup_iterations: int | None
    target_ci: float | None
    max_seconds: float | None
    gpu_price: float | None
    gpu_bandwidth: float | None  # bytes/s
    gpu_peak: float | None  # FLOP/s
    measure_ceilings: bool
    save_results: bool
    output_dir: Path
    json: bool
    quiet: bool
    strict: bool
    force: bool
    profile: bool
    explain: bool
    notices: tuple[str, ...] = ()
    model_path: Path | None = None  # random weights without
    tensor_parallel: int = 1
    all_reduce: str = "auto"
    extrapolation: Extrapolation | None = None
    workload: str = "generation"

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
        if self.extrapolation is None:
            return (self.model,)
        return tuple(map(self.model.with_layers, self.extrapolation.from_layers))

    @property
    def built_model(self) -> ModelConfig:
        """Whose weights exist; what else is measured is the beginning of it."""
        return self.measured_models[-1]

    def precision_of(self, spec: ModeSpec) -> Precision:
        return Precision.of(self.precision, spec.linear_precision)
