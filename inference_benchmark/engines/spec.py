"""What a user writes for a mode, NAME[:EXECUTORS][+graphs|+nographs][+kernels], parsed and checked.

A name alone is what PyTorch and the compilers ship; `+kernels` puts this project's kernels in.

Imports no torch: whatever can be wrong about a request is said before anything is loaded.
"""

import importlib.util
from dataclasses import dataclass
from difflib import get_close_matches

from inference_benchmark.engines import EngineEntry
from inference_benchmark.engines.other_python import has_package
from inference_benchmark.engines.parts import entries_of, listed_of, plain_of
from inference_benchmark.errors import CannotRun, RequestError
from inference_benchmark.workloads import PARTS


@dataclass(frozen=True)
class Executor:
    """A thunder backend by the name users type, and what it needs."""

    name: str
    thunder_name: str | None  # None: not an executor but another front end (dynamo)
    packages: tuple[str, ...] = ()  # any one of these import names serves
    install: str = ""
    training_name: str | None = None  # where thunder has another one for gradients
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
        training_name="transformer_engine_v1",
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
    options: tuple[str, ...] = ()  # suffixes that are the engine's own
    workload: str = "generation"  # which decides what there is to be named
    quantize: str | None = None  # the layers' matrices, to a format of --quantize

    @property
    def engine(self) -> EngineEntry:
        return entries_of(self.workload)[self.name]

    @property
    def is_plain(self) -> bool:
        """Whether this is unmodified PyTorch, launched operation by operation."""
        return self.engine.is_plain and not self.cuda_graphs and not self.kernels

    @property
    def label(self) -> str:
        executors = f":{','.join(self.executors)}" if self.executors else ""
        options = "".join(f"+{option}" for option in self.options)
        graphs = "+graphs" if self.cuda_graphs else ""
        kernels = "+kernels" if self.kernels else ""
        stored = f" {self.quantize}" if self.quantize else ""
        return f"{self.name}{executors}{options}{graphs}{kernels}{stored}"

    @property
    def shown_label(self) -> str:
        """The label, saying so where the engine chooses executors and its preferred one is missing."""
        preferred = self.engine.prefers_executor
        chooses = preferred is not None and not set(self.executors) - {"dynamo"}
        if not chooses or is_installed(preferred):
            return self.label
        return self.label.replace(self.name, f"{self.name}[no {preferred}]", 1)

    @property
    def takes_file(self) -> bool:
        """Whether its weights are those of a GGUF file as they are stored."""
        return self.engine.file_suffix in self.options

    @property
    def weight_format(self) -> str | None:
        formats = [EXECUTORS[name].weight_format for name in self.executors]
        formats += [option for option in self.options if option in self.engine.weight_suffixes]
        return next((precision for precision in formats if precision), None)


def baseline_at(cuda_graphs: bool, kernels: bool = False, workload: str = "generation") -> ModeSpec:
    """What modes at this setting of CUDA graphs are held against unless something else is asked:
    PyTorch as shipped; modes with this project's kernels also against PyTorch with these."""
    return ModeSpec(plain_of(workload).name, (), cuda_graphs, kernels, workload=workload)


def is_installed(executor: str) -> bool:
    packages = EXECUTORS[executor].packages
    return not packages or any(importlib.util.find_spec(package) for package in packages)


def unknown(noun: str, name: str, valid: list[str]) -> RequestError:
    near = get_close_matches(name, valid, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    return RequestError(f"unknown {noun} '{name}'{hint} (valid: {', '.join(valid)})")


def parse_mode(
    text: str,
    executors: tuple[str, ...],
    cuda_graphs: str,
    device: str,
    workload: str = "generation",
) -> ModeSpec:
    """Resolve what was typed for one mode.

    Args:
        text: NAME[:EXECUTORS][+graphs|+nographs][+kernels].
        executors: from --thunder-executors, for a thunder mode that names none itself.
        cuda_graphs: auto, on or off; a suffix in text goes before it.
        device: "cuda" or "cpu"; there are no CUDA graphs on a CPU.
        workload: what is timed: of a part of a layer the modes are its implementations.

    Raises:
        RequestError: an unknown name, or a combination that makes no sense.
    """
    body, *suffixes = text.split("+")
    name, _, own_executors = body.partition(":")
    entries = entries_of(workload)
    if name not in entries:
        raise unknown("mode", name, listed_of(workload))
    if entries[name].has_own_loop:
        return _parse_own_loop(entries[name], body, suffixes)
    _check_suffixes(entries[name], suffixes, workload)
    chosen = parse_executors(own_executors)
    entry = entries[name]
    if chosen and not entry.takes_executors:
        takers = ", ".join(entry.name for entry in entries.values() if entry.takes_executors)
        raise RequestError(f"mode '{name}' takes no executors: only {takers or 'thunder'} does")
    if entry.takes_executors and not chosen:
        chosen = executors
    graphs = _resolve_graphs(entry, suffixes, cuda_graphs, device)
    options = tuple(suffix for suffix in suffixes if suffix in entry.suffixes)
    return ModeSpec(name, chosen, graphs, "kernels" in suffixes, options, workload)


def _parse_own_loop(entry: EngineEntry, body: str, suffixes: list[str]) -> ModeSpec:
    """Of an engine that generates by itself: nothing of ours is captured, compiled or put in."""
    if body != entry.name:
        raise RequestError(f"mode '{entry.name}' takes no executors")
    suffix = "+".join(suffixes)
    if suffix and suffix not in entry.suffixes:
        valid = [f"+{option}" for option in entry.suffixes]
        if not valid:
            raise RequestError(f"mode '{entry.name}' has no suffixes: leave out +{suffix}")
        raise unknown(f"suffix of mode '{entry.name}':", f"+{suffix}", valid)
    return ModeSpec(entry.name, (), False, options=tuple(suffixes))


def _check_suffixes(entry: EngineEntry, suffixes: list[str], workload: str) -> None:
    name, known = entry.name, (*_SUFFIXES, *entry.suffixes)
    for suffix in suffixes:
        if suffix not in known:
            taken = [option for option in known if option != "kernels" or entry.takes_kernels]
            valid = [f"+{option}" for option in taken]
            raise unknown(f"suffix of mode '{name}':", f"+{suffix}", valid)
    if len(set(suffixes)) < len(suffixes) or {"graphs", "nographs"} <= set(suffixes):
        raise RequestError(f"mode '{name}': +{'+'.join(suffixes)} repeats or contradicts itself")
    if "kernels" in suffixes and not entry.takes_kernels:
        raise RequestError(f"mode '{name}' has kernels of its own: leave out +kernels")
    if "graphs" in suffixes and workload in PARTS:
        raise RequestError(
            f"--workload {workload} times CUDA graphs beside launched kernels: leave out +graphs"
        )


def _resolve_graphs(entry: EngineEntry, suffixes: list[str], cuda_graphs: str, device: str) -> bool:
    wanted = cuda_graphs
    if "graphs" in suffixes or "nographs" in suffixes:
        wanted = "on" if "graphs" in suffixes else "off"
    if device == "cpu":
        if wanted == "on":
            raise RequestError("CUDA graphs need a CUDA GPU; use --cuda-graphs auto or off")
        return False
    return entry.graphs_by_default if wanted == "auto" else wanted == "on"


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


def parse_options(text: str) -> tuple[tuple[str, bool | int | str], ...]:
    """(name, value) of each NAME=VALUE; true, false and whole numbers become such.

    Raises:
        RequestError: a part is no NAME=VALUE, or a name stands twice.
    """
    parts = [part.strip().partition("=") for part in text.split(",") if part.strip()]
    for name, _, value in parts:
        if not name.isidentifier() or not value:
            where = "" if text.strip() == name else f" of '{text}'"
            raise RequestError(f"--thunder-options: '{name}'{where} is no NAME=VALUE")
    names = [name for name, _, _ in parts]
    if len(set(names)) < len(names):
        raise RequestError(f"an option is named twice in '{text}'")
    return tuple((name, _option_value(value)) for name, _, value in parts)


def _option_value(text: str) -> bool | int | str:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return int(text) if text.isdecimal() else text


def check_compile_mode(compile_mode: str, specs: list[ModeSpec]) -> None:
    """Refuse CUDA graphs inside CUDA graphs."""
    is_captured = any(spec.engine.takes_compile_mode and spec.cuda_graphs for spec in specs)
    if compile_mode in GRAPH_COMPILE_MODES and is_captured:
        raise RequestError(
            f"--compile-mode {compile_mode} makes CUDA graphs of its own and can't be captured "
            f"in ours: add --cuda-graphs off, or use --compile-mode max-autotune-no-cudagraphs"
        )


def _is_here(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def check_packages(spec: ModeSpec, device: str, python: str | None = None) -> None:
    """Raise CannotRun with the package's name and how to install it.

    python: another interpreter that the engine runs in.
    """
    if spec.engine.needs_gpu and device == "cpu":
        raise CannotRun(f"mode '{spec.name}' needs a CUDA GPU")
    for package in spec.engine.packages:
        if not (_is_here(package) if python is None else has_package(python, package)):
            where = "" if python is None else f" in {python}"
            install = spec.engine.install_on(device, python)
            raise CannotRun(f"mode '{spec.name}' needs the package {package}{where}: {install}")
    for package in spec.engine.own_packages:
        if not _is_here(package):
            raise CannotRun(
                f"mode '{spec.name}' needs the package {package}: pip install {package}"
            )
    missing = spec.engine.missing_program(device)
    if missing is not None:
        raise CannotRun(f"mode '{spec.name}' {missing}")
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
