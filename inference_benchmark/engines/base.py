"""What an engine is: it executes a model, and says what it can.

To add one, write one file with a subclass of `Engine` and one entry of the table in
engines/__init__.py. An engine implements the steps of the workloads that it serves: `prefill` and
`decode` for generation, or `generate` where its makers' own loop does both, `forward` for one
forward and `train` for a training step. Engines that execute the session's own weights build on
`StepEngine` (step_engine.py) and say only how they compile, those that train as well on
`TrainingEngine` (training_engine.py); those that bring their own loop build on `StreamEngine`
(stream_engine.py). No torch here.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from inference_benchmark.model.kernel_choice import KernelConfig
from inference_benchmark.model.layer_part import LayerPart
from inference_benchmark.model.sampling import Sampling
from inference_benchmark.model.training_config import TrainingConfig

# Of all sequences together, up to which a prompt may be captured in a CUDA graph: longer ones keep
# the GPU busy while the host launches, and a graph keeps their activations.
MAX_CAPTURED_PROMPT_TOKENS = 4096


@dataclass(frozen=True)
class Capabilities:
    """What an engine can do and show.

    clock: what times it on a GPU, "cuda_event" or "wall"; on a CPU it is always the wall clock.
    granularity: "steps" (each step is started by us), "stream" (it reports when each token came) or
        "total" (the time of a run is all there is).
    capturable: whether its step may be captured in a CUDA graph of ours.
    evidence: what it can show to the output check: "cache", "logits", "tokens"; of a part of a layer
        "output".
    process: "own", or "workers" where it computes in other processes.
    owns_weights: whether it builds or loads weights itself; otherwise it shares the session's.
    takes_weights: whether it loads a copy of the session's weights, as files or in memory.
    samples: whether it can draw tokens as --sampling multinomial does.
    steps: what it implements of "prefill", "decode", "generate", "forward", "part" and "train", and
        "fill" where a prefill can continue a cache that `fill` has filled.
    weight_formats: those that it makes itself; the session's weights are in any that there is.
    """

    clock: str = "cuda_event"
    granularity: str = "steps"
    capturable: bool = True
    evidence: frozenset[str] = frozenset({"cache", "logits", "tokens"})
    process: str = "own"
    owns_weights: bool = False
    takes_weights: bool = False
    devices: frozenset[str] = frozenset({"cuda", "cpu"})
    weight_formats: frozenset[str] = frozenset({"bf16", "fp16", "fp32"})
    steps: frozenset[str] = frozenset({"prefill", "decode", "forward"})
    samples: bool = False

    @property
    def weights(self) -> str:
        """Whose it computes with: the "session"'s own, a "copy" of these, or its "own"."""
        if self.takes_weights:
            return "copy"
        return "own" if self.owns_weights else "session"

    def record(self, clock: str) -> dict:
        """For the result file; clock is the one that was used."""
        return {
            "clock": clock,
            "granularity": self.granularity,
            "process": self.process,
            "weights": self.weights,
            "evidence": sorted(self.evidence),
        }


@dataclass(frozen=True)
class EnginePlan:
    """What an engine is opened for; each engine reads what concerns it.

    cache_length: slots of the KV cache per sequence; 0 where the workload keeps none.
    num_layers: of the session's model its first so many layers; None: all of them.
    context_depth: slots that are filled before a prefill, whose prompt stands behind them.
    options: suffixes of the mode that are the engine's own.
    python: the interpreter of the engine's worker process; None: the one that runs this.
    timeout_s: how long one call of that process may take.
    ollama_url: where Ollama's server is.
    mode: the name of the mode, for engines that serve several.
    part: what is computed of a layer, where that is all.
    sampling: how tokens are drawn; None: the most likely one is taken.
    captures_prompts: whether a prompt of up to MAX_CAPTURED_PROMPT_TOKENS is captured as well.
    training: how to train, for an engine that is asked to.
    """

    batch_size: int
    input_length: int
    cache_length: int
    num_layers: int | None = None
    kernels: KernelConfig = KernelConfig()
    executors: tuple[str, ...] = ()
    compile_mode: str = "default"
    compile_scope: str = "layer"
    compile_options: tuple[tuple[str, bool | int | str], ...] = ()  # of the compiler's own
    options: tuple[str, ...] = ()
    python: str | None = None
    timeout_s: float = 1800.0
    ollama_url: str = ""
    mode: str = ""
    part: LayerPart | None = None
    sampling: Sampling | None = None
    context_depth: int = 0
    captures_prompts: bool = False
    training: TrainingConfig | None = None


@dataclass(frozen=True)
class Resources:
    """What the session lends to its engines: its weights, and the device to run on.

    files: the weights as files that other programs read, written when the first engine asks; see
        session.weight_files.WeightFiles. seed: of the session.
    model: of another implementation, with the same weights (model/own_model.py); None: the decoder
        is what is executed.
    """

    decoder: Any = None
    device: Any = None
    files: Any = None
    seed: int = 0
    model: Any = None


class Engine:
    """Opened by its constructor, to be closed when its cell is done; `with` does so too.

    Raises (the constructor and the first steps): CannotRun, in a line that says what is missing.
    """

    capabilities: ClassVar[Capabilities] = Capabilities()
    # For a number of marks, where the session's clocks can't time the engine; None: they can.
    clock_type: Any = None
    # Weights of its own, where its outputs are checked against these instead of the session's.
    decoder: Any = None
    # The type of its products, where rounding is another than that of the session's: a key of
    # output_check.tolerances.FACTORS.
    products: str | None = None
    # Seconds of a cold start that loading weights took; None where it uses the session's.
    load_s: float | None = None

    def __init__(self, plan: EnginePlan, resources: Resources) -> None:
        self.plan = plan
        self.resources = resources

    def prefill(self, input_ids) -> None:
        """One forward over the prompts [batch, input_length]; it leaves the first token."""
        raise NotImplementedError

    def decode(self) -> None:
        """One forward over the newest token of each sequence; it leaves the next one."""
        raise NotImplementedError

    def forward(self, input_ids) -> None:
        """One forward over [batch, input_length]; it leaves the logits of all positions."""
        raise NotImplementedError

    def train(self, token_ids) -> None:
        """One training step over [batch, length + 1]; it leaves the loss and the gradients."""
        raise NotImplementedError

    def forget_gradients(self) -> None:
        """Give back the memory of what the newest training step left."""

    def capture(self) -> None:
        """Capture the step that the workload repeats in a CUDA graph, after it ran once."""
        raise NotImplementedError

    def reset(self, fill: float = 0.0) -> None:
        """Forget all tokens; every slot of the cache holds `fill`."""

    def fill(self, seed: int) -> None:
        """As reset, but every slot of the cache holds random values (model.cache.fill_cache);
        returns when they are there."""
        raise NotImplementedError

    def force(self, token, position: int) -> None:
        """Make the next decode step take this token [batch, 1] at this position."""
        raise NotImplementedError

    def compile_count(self) -> int:
        """How often something was compiled so far; only differences count, since compilers keep
        one counter for a whole process. 0 where nothing is compiled."""
        return 0

    def compiler_stats(self) -> dict:
        """What of its compilers the engine used, for the result file; known after its first steps.

        Raises:
            CannotRun: something that was asked for does nothing in this model.
        """
        return {}

    def graph_pool_bytes(self) -> int | None:
        """Memory that belongs to the captured graph alone; None without one."""
        return None

    def step_peak_bytes(self) -> int | None:
        """Memory that one step takes beside what is there before it; None: not measured."""
        return None

    def close(self) -> None:
        """Give back the memory; the engine can't be used afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
