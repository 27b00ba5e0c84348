"""Engines, which execute a model: one file each, found through the table below.

Whatever others have to know about an engine is a field of its entry, so that nobody outside this
folder compares names. The table knows names only: `--help` and a wrong flag are answered without
torch.
"""

from dataclasses import dataclass
from importlib import import_module


@dataclass(frozen=True)
class EngineEntry:
    name: str
    engine: str  # "module:Class", a subclass of engines.base.Engine
    description: str
    graphs_by_default: bool
    packages: tuple[str, ...] = ()  # import names that must be there
    install: str = ""  # how to get them
    is_plain: bool = False  # unmodified PyTorch: what checks outputs, and the default baseline
    takes_executors: bool = False
    takes_kernels: bool = False  # +kernels: this project's kernels, in the session's decoder
    takes_quantized: bool = False  # weights of --quantize: it runs the session's decoder
    takes_compile_mode: bool = False  # --compile-mode, some of which make CUDA graphs of their own
    # What it would choose if left to itself: where this executor is missing, the label says so.
    prefers_executor: str | None = None
    needs_weights: bool = True  # those of the session; otherwise it brings its own, or has none
    is_listed: bool = True  # in --help

    def load(self) -> type:
        module, name = self.engine.split(":")
        return getattr(import_module(module), name)


_TABLE = (
    EngineEntry(
        "thunder",
        "inference_benchmark.engines.thunder:ThunderEngine",
        "lightning-thunder: traced, fused",
        graphs_by_default=True,
        packages=("thunder",),
        install="pip install lightning-thunder",
        takes_executors=True,
        takes_kernels=True,
        takes_quantized=True,
        prefers_executor="nvfuser",
    ),
    EngineEntry(
        "eager",
        "inference_benchmark.engines.eager:EagerEngine",
        "plain PyTorch, one kernel per operation",
        graphs_by_default=False,
        is_plain=True,
        takes_kernels=True,
        takes_quantized=True,
    ),
    EngineEntry(
        "inductor",
        "inference_benchmark.engines.inductor:InductorEngine",
        "torch.compile, full graph, static shapes",
        graphs_by_default=True,
        takes_kernels=True,
        takes_quantized=True,
        takes_compile_mode=True,
    ),
    EngineEntry(
        "scripted",
        "inference_benchmark.engines.scripted:ScriptedEngine",
        "no model at all: durations from a script, to try the tables and the files",
        graphs_by_default=False,
        takes_kernels=True,
        takes_quantized=True,
        needs_weights=False,
        is_listed=False,
    ),
)

ENGINES: dict[str, EngineEntry] = {entry.name: entry for entry in _TABLE}
PLAIN: EngineEntry = next(entry for entry in _TABLE if entry.is_plain)


def listed() -> list[str]:
    """Names of the engines that --help shows."""
    return [entry.name for entry in ENGINES.values() if entry.is_listed]


def register(entry: EngineEntry) -> None:
    """Make an engine of another package or file known by its name.

    Raises:
        ValueError: the name is taken.
    """
    if ENGINES.setdefault(entry.name, entry) != entry:
        raise ValueError(f"there is an engine named {entry.name}")
