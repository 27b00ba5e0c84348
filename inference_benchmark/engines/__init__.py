"""Engines, which execute a model: one file each, found through the table below.

Whatever others have to know about an engine is a field of its entry, so that nobody outside this
folder compares names. The table knows names only: `--help` and a wrong flag are answered without
torch.
"""

import shutil
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class EngineEntry:
    name: str
    engine: str  # "module:Class", a subclass of engines.base.Engine
    description: str
    graphs_by_default: bool
    packages: tuple[str, ...] = ()  # import names that must be there
    install: str = ""  # how to get them: a command, behind ", " what else is to be known
    cpu_install: str = ""  # on a machine without a GPU, where that is another way
    # Those that this process needs for it, wherever the engine runs: pip install of the same name.
    own_packages: tuple[str, ...] = ()
    is_plain: bool = False  # unmodified PyTorch: what checks outputs, and the default baseline
    takes_executors: bool = False
    compiles_flex: bool = False  # FlexAttention, which without a compiler is slow
    # PyTorch's fastest attention of a decode step in this engine, once launches cost nothing.
    shipped_attention: str = "sdpa"
    takes_kernels: bool = False  # +kernels: this project's kernels, in the session's decoder
    takes_quantized: bool = False  # weights of --quantize: it runs the session's decoder
    takes_compile_mode: bool = False  # --compile-mode, some of which make CUDA graphs of their own
    # What it would choose if left to itself: where this executor is missing, the label says so.
    prefers_executor: str | None = None
    needs_weights: bool = True  # those of the session; otherwise it brings its own, or has none
    copies_weights: int = 0  # so many copies of them does it hold beside the session's
    has_own_loop: bool = False  # it generates by itself: no CUDA graph of ours, no other workload
    in_worker: bool = False  # it runs in a process of its own: --engine-python says by which Python
    precision: str | None = None  # that it converts the weights to; None: the session's
    needs_gpu: bool = False
    cpu_program: str | None = None  # a program that it needs on a CPU
    cpu_precision: str | None = None  # the only --precision that it runs there
    suffixes: tuple[str, ...] = ()  # of the mode, the engine's own: "static", "static+compile"
    # Of these suffixes those that name a weight format in which it keeps all matrices.
    weight_suffixes: tuple[str, ...] = ()
    # Of them the one that has it read the GGUF file of --model-path as it is.
    file_suffix: str | None = None
    max_batch_size: int | None = None
    runs_any_architecture: bool = False  # of --model-path, also those that our decoder can't be
    # Of one that is a server: "module:function" that takes its URL (--ollama-url) before anything is
    # loaded, and raises CannotRun where nothing answers.
    server_check: str = ""
    note: str = ""  # what is said wherever its name is listed
    is_listed: bool = True  # in --help
    # A cell that is asked for by flags instead of --mode, here all of them; one of several flags is
    # what the cells of each are held against.
    flags: tuple[str, ...] = ()

    def load(self) -> type:
        return _load(self.engine)

    def check_server(self, url: str) -> None:
        _load(self.server_check)(url)

    def install_on(self, device: str, python: str | None = None) -> str:
        """How to get its packages for this device, "cuda" or "cpu"; python: into this interpreter."""
        command = self.cpu_install if self.cpu_install and device == "cpu" else self.install
        if python is None:
            return command
        return command.partition(", ")[0].replace("pip install", f"{python} -m pip install")

    def missing_program(self, device: str) -> str | None:
        """What it lacks beside packages on this device, and how to get it; None: nothing."""
        if self.cpu_program is None or device != "cpu" or shutil.which(self.cpu_program):
            return None
        return f"needs {self.cpu_program} on a CPU: apt install {self.cpu_program}"

    @property
    def shown_name(self) -> str:
        return f"{self.name} ({self.note})" if self.note else self.name


def _load(path: str) -> Any:
    """Of "module:name"."""
    module, name = path.split(":")
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
        shipped_attention="matmul",
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
        shipped_attention="matmul",
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
        compiles_flex=True,
        shipped_attention="flex",
    ),
    EngineEntry(
        "pytorch-base",
        "inference_benchmark.engines.converted:Fp32Eager",
        "plain PyTorch in fp32",
        graphs_by_default=False,
        copies_weights=1,
        precision="fp32",
        is_listed=False,
        flags=("pytorch_base",),
    ),
    EngineEntry(
        "pytorch-fp16",
        "inference_benchmark.engines.converted:Fp16Eager",
        "plain PyTorch in fp16",
        graphs_by_default=False,
        copies_weights=1,
        precision="fp16",
        is_listed=False,
        flags=("pytorch_base", "pytorch_optimised"),
    ),
    EngineEntry(
        "pytorch-optimised",
        "inference_benchmark.engines.converted:Fp16Inductor",
        "torch.compile in fp16",
        graphs_by_default=True,
        takes_compile_mode=True,
        compiles_flex=True,
        shipped_attention="flex",
        copies_weights=1,
        precision="fp16",
        is_listed=False,
        flags=("pytorch_optimised",),
    ),
    EngineEntry(
        "transformers",
        "inference_benchmark.engines.transformers:TransformersEngine",
        "Hugging Face transformers' generate",
        graphs_by_default=False,
        packages=("transformers",),
        install="pip install transformers",
        has_own_loop=True,
        suffixes=("static", "static+compile"),
        runs_any_architecture=True,
    ),
    EngineEntry(
        "vllm",
        "inference_benchmark.engines.vllm:VllmEngine",
        "vLLM, in a process of its own",
        graphs_by_default=False,
        packages=("vllm",),
        install="pip install vllm==0.26.0, best in a Python of its own (--engine-python vllm=PATH)",
        copies_weights=1,
        has_own_loop=True,
        in_worker=True,
    ),
    EngineEntry(
        "llama.cpp",
        "inference_benchmark.engines.llama_cpp:LlamaCppEngine",
        "llama.cpp by llama-cpp-python, in a process of its own",
        graphs_by_default=False,
        packages=("llama_cpp",),
        install="CMAKE_ARGS=-DGGML_CUDA=on pip install llama-cpp-python",
        cpu_install="pip install llama-cpp-python",
        own_packages=("gguf",),
        copies_weights=1,
        suffixes=("q8_0", "q4_0", "stored"),
        weight_suffixes=("q8_0", "q4_0"),
        file_suffix="stored",
        has_own_loop=True,
        in_worker=True,
    ),
    EngineEntry(
        "tinygrad",
        "inference_benchmark.engines.tinygrad:TinygradEngine",
        "a Llama in tinygrad, in a process of its own",
        graphs_by_default=False,
        packages=("tinygrad",),
        install="pip install tinygrad==0.14.0",
        copies_weights=1,
        has_own_loop=True,
        in_worker=True,
        cpu_program="clang",
        cpu_precision="fp32",
        suffixes=("beam",),
    ),
    EngineEntry(
        "ollama",
        "inference_benchmark.engines.ollama:OllamaEngine",
        "Ollama's server over HTTP, batch 1: written to its documented API, not run here",
        graphs_by_default=False,
        packages=("gguf",),
        install="pip install gguf",
        copies_weights=1,
        has_own_loop=True,
        suffixes=("stored",),
        file_suffix="stored",
        max_batch_size=1,
        server_check="inference_benchmark.engines.ollama_client:check_server",
        note="not run here",
    ),
    EngineEntry(
        "tensorrt",
        "inference_benchmark.engines.tensorrt:TensorrtEngine",
        "torch-tensorrt, static shapes: written to its documentation, never run here",
        graphs_by_default=False,
        packages=("torch_tensorrt",),
        install="pip install torch-tensorrt, whose libraries come from NVIDIA's index",
        copies_weights=2,
        needs_gpu=True,
        suffixes=("optimised",),
        note="written, not run",
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


def shown() -> list[str]:
    """The same with what is to be said of each."""
    return [ENGINES[name].shown_name for name in listed()]


def register(entry: EngineEntry) -> None:
    """Make an engine of another package or file known by its name.

    Raises:
        ValueError: the name is taken.
    """
    if ENGINES.setdefault(entry.name, entry) != entry:
        raise ValueError(f"there is an engine named {entry.name}")
