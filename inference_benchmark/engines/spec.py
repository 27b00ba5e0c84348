"""What a user writes for a mode, NAME[:EXECUTORS][+graphs|+nographs][+kernels], parsed and checked.

A name alone is what PyTorch and the compilers ship; `+kernels` puts this project's kernels in.

Imports no torch: whatever can be wrong about a request is said before anything is loaded.
"""

import importlib.util
from dataclasses import dataclass
from difflib import get_close_matches

from inference_benchmark.engines import ENGINES, PLAIN, EngineEntry, listed
from inference_benchmark.errors import CannotRun, RequestError


@dataclass(frozen=True)
class Executor:
    """A thunder backend by the name users type, and what it needs."""

    name: str
    thunder_name: str | None  # None: not an executor but another front end (dynamo)
    packages: tuple[str, ...] = ()  # any one of these import names serves
    install: str = ""
    weight_format: str | None = None  # in which it makes copies of the linear layers' weights
    needs_gpu: bool = False


_NVFUSER = "pip install nvfuser-cu128-torch210 (needs Python 3.12 and torch 2.10)"
_TE = "pip install 'transformer-engine[pytorch]'"
_EXECUTORS = (
    Executor("nvfuser", "nvfuser", ("nvfuser", "nvfuser_direct"), _NVFUSER, needs_gpu=True),
    Executor("inductor", "torchcompile"),
    Executor("inductor_cat", "torchcompile_cat", needs_gpu=True),
    Executor("cudnn", "cudnn", ("cudnn",), "pip install nvidia-cudnn-frontend", needs_gpu=True),
    Executor("sdpa", "sdpa"),
    Executor(
        "transformerengine",
        "quant_te",
        ("transformer_engine",),
        _TE,
        weight_format="fp8",
        needs_gpu=True,
    ),
    Executor(
        "transformerengine_v2",
        "transformer_engine",
        ("transformer_engine",),
        _TE,
        weight_format="fp8",
        needs_gpu=True,
    ),
    Executor("dynamo", None),
)
EXECUTORS: dict[str, Executor] = {executor.name: executor for executor in _EXECUTORS}

GRAPH_COMPILE_MODES = ("reduce-overhead", "max-autotune")  # make CUDA graphs of their own
COMPILE_MODES = ("default", "max-autotune-no-cudagraphs", *GRAPH_COMPILE_MODES)
_SUFFIXES = ("graphs", "nographs", "kernels")


@dataclass(frozen=True)
class ModeSpec:
    """One way to execute the model, fully resolved."""

    name: str
    executors: tuple[str, ...]  # user names, thunder only
    cuda_graphs: bool
    kernels: bool = False  # this project's, instead of what PyTorch and the compiler ship
    quantize: str | None = None  # the layers' matrices, to a format of --quantize

    @property
    def engine(self) -> EngineEntry:
        return ENGINES[self.name]

    @property
    def is_plain(self) -> bool:
        """Whether this is unmodified PyTorch, launched operation by operation."""
        return self.engine.is_plain and not self.cuda_graphs and not self.kernels

    @property
    def label(self) -> str:
        executors = f":{','.join(self.executors)}" if self.executors else ""
        graphs = "+graphs" if self.cuda_graphs else ""
        kernels = "+kernels" if self.kernels else ""
        stored = f" {self.quantize}" if self.quantize else ""
        return f"{self.name}{executors}{graphs}{kernels}{stored}"

    @property
    def shown_label(self) -> str:
        """The label, saying so where the engine chooses executors and its preferred one is missing."""
        preferred = self.engine.prefers_executor
        chooses = preferred is not None and not set(self.executors) - {"dynamo"}
        if not chooses or is_installed(preferred):
            return self.label
        return self.label.replace(self.name, f"{self.name}[no {preferred}]", 1)

    @property
    def weight_format(self) -> str | None:
        found = [EXECUTORS[name].weight_format for name in self.executors]
        return next((precision for precision in found if precision), None)


def baseline_at(cuda_graphs: bool, kernels: bool = False) -> ModeSpec:
    """What modes at this setting of CUDA graphs are held against unless something else is asked:
    PyTorch as shipped; modes with this project's kernels also against PyTorch with these."""
    return ModeSpec(PLAIN.name, (), cuda_graphs, kernels)


def is_installed(executor: str) -> bool:
    packages = EXECUTORS[executor].packages
    return not packages or any(importlib.util.find_spec(package) for package in packages)


def unknown(kind: str, name: str, valid: list[str]) -> RequestError:
    near = get_close_matches(name, valid, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    return RequestError(f"unknown {kind} '{name}'{hint} (valid: {', '.join(valid)})")


def parse_mode(text: str, executors: tuple[str, ...], cuda_graphs: str, device: str) -> ModeSpec:
    """Resolve what was typed for one mode.

    Args:
        text: NAME[:EXECUTORS][+graphs|+nographs][+kernels].
        executors: from --thunder-executors, for a thunder mode that names none itself.
        cuda_graphs: auto, on or off; a suffix in text goes before it.
        device: "cuda" or "cpu"; there are no CUDA graphs on a CPU.

    Raises:
        RequestError: an unknown name, or a combination that makes no sense.
    """
    body, *suffixes = text.split("+")
    name, _, own_executors = body.partition(":")
    if name not in ENGINES:
        raise unknown("mode", name, listed())
    _check_suffixes(name, suffixes)
    chosen = parse_executors(own_executors)
    entry = ENGINES[name]
    if chosen and not entry.takes_executors:
        takers = ", ".join(each.name for each in ENGINES.values() if each.takes_executors)
        raise RequestError(f"mode '{name}' takes no executors: only {takers} does")
    if entry.takes_executors and not chosen:
        chosen = executors
    graphs = _resolve_graphs(name, suffixes, cuda_graphs, device)
    return ModeSpec(name, chosen, graphs, "kernels" in suffixes)


def _check_suffixes(name: str, suffixes: list[str]) -> None:
    for suffix in suffixes:
        if suffix not in _SUFFIXES:
            valid = [f"+{valid}" for valid in _SUFFIXES]
            raise unknown(f"suffix of mode '{name}':", f"+{suffix}", valid)
    if len(set(suffixes)) < len(suffixes) or {"graphs", "nographs"} <= set(suffixes):
        raise RequestError(f"mode '{name}': +{'+'.join(suffixes)} repeats or contradicts itself")
    if "kernels" in suffixes and not ENGINES[name].takes_kernels:
        raise RequestError(f"mode '{name}' has kernels of its own: leave out +kernels")


def _resolve_graphs(name: str, suffixes: list[str], cuda_graphs: str, device: str) -> bool:
    wanted = cuda_graphs
    if "graphs" in suffixes or "nographs" in suffixes:
        wanted = "on" if "graphs" in suffixes else "off"
    if device == "cpu":
        if wanted == "on":
            raise RequestError("CUDA graphs need a CUDA GPU; use --cuda-graphs auto or off")
        return False
    return ENGINES[name].graphs_by_default if wanted == "auto" else wanted == "on"


def parse_executors(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    for name in names:
        if name not in EXECUTORS:
            raise unknown("thunder executor", name, list(EXECUTORS))
    if len(set(names)) < len(names):
        raise RequestError(f"an executor is named twice in '{text}'")
    if sum(EXECUTORS[name].weight_format is not None for name in names) > 1:
        raise RequestError("transformerengine and transformerengine_v2 exclude each other")
    if "dynamo" in names and any(EXECUTORS[name].weight_format for name in names):
        raise RequestError("transformerengine needs thunder.jit: leave out dynamo")
    return names


def check_compile_mode(compile_mode: str, specs: list[ModeSpec]) -> None:
    """Refuse CUDA graphs inside CUDA graphs."""
    is_captured = any(spec.engine.takes_compile_mode and spec.cuda_graphs for spec in specs)
    if compile_mode in GRAPH_COMPILE_MODES and is_captured:
        raise RequestError(
            f"--compile-mode {compile_mode} makes CUDA graphs of its own and can't be captured "
            f"in ours: add --cuda-graphs off, or use --compile-mode max-autotune-no-cudagraphs"
        )


def check_packages(spec: ModeSpec, device: str) -> None:
    """Raise CannotRun with the package's name and how to install it."""
    for package in spec.engine.packages:
        if importlib.util.find_spec(package) is None:
            raise CannotRun(
                f"mode '{spec.name}' needs the package {package}: {spec.engine.install}"
            )
    for name in spec.executors:
        executor = EXECUTORS[name]
        if not is_installed(name):
            package = executor.packages[0]
            raise CannotRun(f"executor '{name}' needs the package {package}: {executor.install}")
        if executor.needs_gpu and device == "cpu":
            raise CannotRun(f"executor '{name}' needs a CUDA GPU")
    if spec.kernels and spec.engine.needs_weights and device == "cpu":
        raise CannotRun(
            f"mode '{spec.label}': this project's kernels need a CUDA GPU; leave out +kernels"
        )
