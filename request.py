"""What a session is to do; resolution.py makes it from the command line. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path

from models import ModelConfig, Precision
from modes.spec import ModeSpec


@dataclass(frozen=True)
class Request:
    """Everything that was asked for, resolved and checked."""

    model: ModelConfig
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

    @property
    def cache_length(self) -> int:
        return self.input_length + self.output_length

    @property
    def share(self) -> ModelConfig:
        """What one rank holds and computes; the whole model where there is one only."""
        return self.model.sharded(self.tensor_parallel)

    def precision_of(self, spec: ModeSpec) -> Precision:
        return Precision.of(self.precision, spec.linear_precision)
